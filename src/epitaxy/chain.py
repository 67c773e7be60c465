"""Chain: links over the ledger's rows, by which a silent edit of the file shows.

Every row has a link: link = sha256(previous link, number, table, key, sha256 of the row). A change,
removal or exchange of rows breaks the chain from there on. What a chain alone cannot show is a
tail cut off with its links, or a chain computed anew by whoever rewrote the file: for that, keep
the head's digest elsewhere and ask whether it is still in the chain.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from epitaxy.record import Record, canonical, digest_text, record

START = "0" * 64
"""What stands for the previous link of the first one."""
TABLES = ("problems", "sources", "candidates", "machines", "verdicts", "profiles", "events")
"""The chained tables, in an order in which what a row refers to comes before it."""
ADOPTED = "adopted"
"""The kind of link that says how many rows were there before the chain began."""
KINDS = {
    "problems": "Problem", "candidates": "Candidate", "verdicts": "Verdict",
    "profiles": "Profiled",
}  # fmt: skip
COLUMNS = {
    "problems": ("name",),
    "candidates": ("problem",),
    "verdicts": ("candidate", "problem", "machine", "plan", "status"),
    "profiles": ("candidate", "machine"),
}
"""Columns that only repeat what the row's record says."""


@record
class Fault(Record):
    """One thing wrong: `number` of the link (0: no link), the row's table and key, and what."""

    number: int
    table: str
    key: str
    what: str


@record
class Audit(Record):
    """What an examination of the chain found; intact when `faults` is empty.

    `head` is the last link's digest; `adopted` how many rows are older than the chain.
    """

    links: int
    rows: int
    adopted: int
    head: str
    faults: tuple[Fault, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def add(db: sqlite3.Connection, table: str, key: str) -> None:
    """Link the row just written; within the transaction that wrote it."""
    _link(db, table, key, _row_digest(_row(db, table, key)))


def adopt(db: sqlite3.Connection) -> int:
    """Link every row of a ledger that had no chain; how many there were."""
    keys = [(table, key) for table in TABLES for key in _keys(db, table)]
    if keys:
        _link(db, ADOPTED, str(len(keys)), digest_text(str(len(keys))))
    for table, key in keys:
        add(db, table, key)
    return len(keys)


def audit(db: sqlite3.Connection, head: str = "") -> Audit:
    """Examine every link and every row. `head`: a link's digest that must still be there."""
    if not _rows(db, "select 1 from sqlite_master where type = 'table' and name = 'chain'"):
        lost = Fault(number=0, table="chain", key="", what="the chain itself is gone")
        return Audit(links=0, rows=0, adopted=0, head=START, faults=(lost,))
    links = _rows(db, "select number, kind, key, content, digest from chain order by number")
    faults = [*_links(db, links), *_unlinked(db, links), *_records(db, links)]
    if head and not any(str(link[4]).startswith(head) for link in links):
        what = f"the head {head[:12]} is not in this chain: rows were dropped, or all was rewritten"
        faults.append(Fault(number=len(links) + 1, table="chain", key=head, what=what))
    counts = [_rows(db, f"select count(*) from {table}")[0][0] for table in TABLES]
    return Audit(
        links=len(links),
        rows=sum(counts),
        adopted=sum(int(key) for _, kind, key, _, _ in links if kind == ADOPTED),
        head=links[-1][4] if links else START,
        faults=tuple(sorted(faults, key=lambda fault: (not fault.number, fault.number))),
    )


def _link(db: sqlite3.Connection, kind: str, key: str, content: str) -> None:
    last = db.execute("select number, digest from chain order by number desc limit 1").fetchone()
    number, previous = (last[0] + 1, last[1]) if last else (1, START)
    db.execute(
        "insert into chain (number, kind, key, content, digest) values (?, ?, ?, ?, ?)",
        (number, kind, key, content, _link_digest(previous, number, kind, key, content)),
    )


def _link_digest(previous: str, number: int, kind: str, key: str, content: str) -> str:
    return digest_text(canonical([previous, number, kind, key, content]))


def _links(db: sqlite3.Connection, links: Sequence[Any]) -> Iterator[Fault]:
    """Faults of the links, each against the one before it and against its row."""
    previous, expected = START, 1
    for number, kind, key, content, digest in links:
        if number != expected:
            what = f"links {expected} to {number - 1} are gone"
            yield Fault(number=expected, table="chain", key="", what=what)
        elif _link_digest(previous, number, kind, key, content) != digest:
            what = "its link does not follow from the one before: altered or moved"
            yield Fault(number=number, table=kind, key=key, what=what)
        previous, expected = digest, number + 1
        if kind in TABLES:
            row = _row(db, kind, key)
            if row is None:
                yield Fault(number=number, table=kind, key=key, what="the row is gone")
            elif _row_digest(row) != content:
                yield Fault(number=number, table=kind, key=key, what="the row was altered")
    count = _rows(db, "select seq from sqlite_sequence where name = 'chain'")
    if count and count[0][0] >= expected:
        what = f"links {expected} to {count[0][0]} are gone: the tail was cut off"
        yield Fault(number=expected, table="chain", key="", what=what)


def _unlinked(db: sqlite3.Connection, links: Sequence[Any]) -> Iterator[Fault]:
    linked = {(kind, key) for _, kind, key, _, _ in links}
    for table in TABLES:
        for key in _keys(db, table):
            if (table, key) not in linked:
                what = "the row has no link: it was slipped in, or its link removed"
                yield Fault(number=0, table=table, key=key, what=what)


def _records(db: sqlite3.Connection, links: Sequence[Any]) -> Iterator[Fault]:
    """Rows whose digest is not that of what they hold."""
    numbers = {(kind, key): number for number, kind, key, _, _ in links}
    for table in ("sources", "machines", *KINDS):
        for key in _keys(db, table):
            row = _row(db, table, key) or {}
            try:
                what = _contradiction(db, table, row)
            except (ValueError, TypeError, KeyError, AttributeError):
                what = "it cannot be read"
            if what:
                yield Fault(number=numbers.get((table, key), 0), table=table, key=key, what=what)


def _contradiction(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> str:
    if table == "sources":
        text = row["content"].decode()
        return "" if digest_text(text) == row["digest"] else "the source is not that of its digest"
    if table == "machines":
        same = digest_text(row["body"]) == row["digest"]
        return "" if same else "the fingerprint is not that of its digest"
    data = json.loads(row["body"])
    for column in COLUMNS[table]:
        if data[column] != row[column]:
            return f"its column {column} contradicts its record"
    if table == "profiles" and (what := _misplaced(db, data)):
        return what
    for name, source in data["files"].items() if table == "candidates" else ():
        held = _row(db, "sources", source)
        if held is None:
            return f"its source {name} is gone"
        data["files"][name] = held["content"].decode()
    same = record_digest(KINDS[table], data) == row["digest"]
    return "" if same else f"the {KINDS[table].lower()} is not that of its digest"


def _misplaced(db: sqlite3.Connection, profiled: dict[str, Any]) -> str:
    """Whether a profile is of a candidate's problem and of a machine that are there."""
    held = _row(db, "candidates", profiled["candidate"]) or {}
    if held.get("problem") != profiled["problem"]:
        return "its problem is not that of its candidate"
    return "" if _row(db, "machines", profiled["machine"]) else "its machine is not known"


def record_digest(kind: str, data: Any) -> str:
    """The digest of the record whose class is called `kind` and whose fields are `data`."""
    return digest_text(f"{kind}\n{canonical(data)}")


def _keys(db: sqlite3.Connection, table: str) -> list[str]:
    order = "digest" if table in ("sources", "machines") else "number"
    return [str(key) for (key,) in _rows(db, f"select {_key(table)} from {table} order by {order}")]


def _key(table: str) -> str:
    return "number" if table == "events" else "digest"


def _row(db: sqlite3.Connection, table: str, key: str) -> dict[str, Any] | None:
    found = db.execute(f"select * from {table} where {_key(table)} = ?", (key,))
    row = found.fetchone()
    return None if row is None else dict(zip([c[0] for c in found.description], row, strict=True))


def _row_digest(row: dict[str, Any] | None) -> str:
    plain = {k: v.hex() if isinstance(v, bytes) else v for k, v in (row or {}).items()}
    return digest_text(canonical(plain))


def _rows(db: sqlite3.Connection, sql: str) -> list[Any]:
    return db.execute(sql).fetchall()
