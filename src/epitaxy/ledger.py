"""Ledger: the append-only store of problems, candidates, verdicts and machines.

One SQLite file in WAL mode. Sources are kept once by content; every record is read back against
its digest and every row is linked in a chain (`chain.py`), so that an edit shows. Two processes
may write at once; a killed one loses at most what it was about to write.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from epitaxy import chain
from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, LedgerError, UnknownName
from epitaxy.metric import Profiled
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, Record, canonical, digest_text
from epitaxy.verdict import Verdict

SCHEMA = 3
"""1: no chain. 2: no profiles. An older ledger is brought up to date when it is opened."""
CHAINED = 2
"""The first version whose rows are chained."""
SWITCH_TRIES, SWITCH_PAUSE_S = 500, 0.02
R = TypeVar("R", bound=Record)
Judged = tuple[Candidate, Verdict]


class Ledger:
    """The store; a context manager. Raises LedgerError for whatever the file system refuses.

    `adopted`: how many rows of an older ledger this opening chained; nothing vouches for what
    happened to them before.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path) if path else self.default_path()
        self.adopted = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
            self._db.isolation_level = None
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from None

    @staticmethod
    def default_path() -> Path:
        """`$EPITAXY_HOME/ledger.sqlite`, or that under ~/.cache/epitaxy."""
        home = os.environ.get("EPITAXY_HOME") or "~/.cache/epitaxy"
        return Path(home).expanduser() / "ledger.sqlite"

    def _open(self) -> None:
        version = self._db.execute("pragma user_version").fetchone()[0]
        if version > SCHEMA:
            raise LedgerError(f"{self.path} was written by a newer version", "upgrade epitaxy")
        self._use_wal()
        self._db.execute("pragma synchronous = normal")
        self._db.execute("pragma foreign_keys = on")
        if version < SCHEMA:
            sql = (resources.files("epitaxy") / "ledger.sql").read_text(encoding="utf-8")
            self._db.executescript(f"begin immediate;{sql}commit;")
            self._begin_chain()

    def _begin_chain(self) -> None:
        """Link what is there already, once: the version tells whether another process did."""
        self._db.execute("begin immediate")
        try:
            version = self._db.execute("pragma user_version").fetchone()[0]
            if version < CHAINED:
                self.adopted = chain.adopt(self._db)
            if version < SCHEMA:
                self._db.execute(f"pragma user_version = {SCHEMA}")
            self._db.execute("commit")
        finally:
            if self._db.in_transaction:
                self._db.execute("rollback")

    def _use_wal(self) -> None:
        """SQLite's own waiting does not cover this switch: two first openers would collide."""
        for _ in range(SWITCH_TRIES):
            try:
                self._db.execute("pragma journal_mode = wal")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
            time.sleep(SWITCH_PAUSE_S)
        raise LedgerError(f"{self.path} is locked by another process", "end it, or use --ledger")

    def _error(self, error: Exception) -> LedgerError:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            return LedgerError(f"{self.path} is not a ledger", "name another file with --ledger")
        if "full" in text or "disk I/O" in text:
            return LedgerError(f"the disk of {self.path} is full", "free space or use --ledger")
        if "readonly" in text or "unable to open" in text or isinstance(error, OSError):
            return LedgerError(f"cannot write to {self.path}", "use --ledger with a writable path")
        return LedgerError(f"the ledger {self.path} failed: {text}", "name another with --ledger")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _write(self, rows: list[tuple[str, dict[str, Any]]]) -> None:
        """Insert (table, columns) in one transaction, each new row with its link."""
        try:
            self._db.execute("begin immediate")
            for table, columns in rows:
                marks = ", ".join("?" * len(columns))
                sql = f"insert or ignore into {table} ({', '.join(columns)}) values ({marks})"
                done = self._db.execute(sql, tuple(columns.values()))
                if done.rowcount:
                    chain.add(self._db, table, columns.get("digest") or str(done.lastrowid))
            self._db.execute("commit")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise self._error(error) from None

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    # -- writing --------------------------------------------------------------------------------

    def add_problem(self, problem: Problem) -> None:
        """Store a problem; a known one is left alone."""
        row = {"digest": problem.digest, "name": problem.name, "body": canonical(problem)}
        self._write([("problems", row)])

    def add_candidate(self, candidate: Candidate) -> None:
        """Store a candidate, its sources once by content. Its problem must be known."""
        kept = {name: digest_text(text) for name, text in candidate.files.items()}
        body = canonical(candidate.to_dict() | {"files": kept})
        rows: list[tuple[str, dict[str, Any]]] = [
            ("sources", {"digest": kept[name], "content": text.encode()})
            for name, text in candidate.files.items()
        ]
        row = {"digest": candidate.digest, "problem": candidate.problem, "body": body}
        self._write([*rows, ("candidates", row)])

    def add_machine(self, fingerprint: Mapping[str, str]) -> str:
        """Store a machine's fingerprint; its digest."""
        body, digest = canonical(FrozenDict[str](fingerprint)), machine_digest(fingerprint)
        self._write([("machines", {"digest": digest, "body": body})])
        return digest

    def add_verdict(self, verdict: Verdict) -> None:
        """Store a verdict. Its candidate must be known."""
        names = chain.COLUMNS["verdicts"]
        row = {name: getattr(verdict, name) for name in ("digest", *names)}
        self._write([("verdicts", row | {"body": canonical(verdict)})])

    def add_profile(self, profiled: Profiled) -> None:
        """Store a profile beside the verdicts on its candidate.

        Raises BadInput where candidate or machine are not known, or its problem is another.
        """
        sql = "select problem from candidates where digest = ?"
        if (profiled.problem,) not in self._rows(sql, (profiled.candidate,)):
            raise BadInput(
                f"the ledger holds no candidate {profiled.candidate[:12]} for that problem",
                "add the candidate first",
            )
        if not self._rows("select 1 from machines where digest = ?", (profiled.machine,)):
            raise BadInput(f"unknown machine {profiled.machine[:12]}", "add the machine first")
        names = chain.COLUMNS["profiles"]
        row = {name: getattr(profiled, name) for name in ("digest", *names)}
        self._write([("profiles", row | {"body": canonical(profiled)})])

    def add_event(self, problem: str, kind: str, unix_s: float, **body: Any) -> None:
        """Store a dated remark about a study."""
        row = {"problem": problem, "kind": kind, "unix_s": unix_s, "body": canonical(body)}
        self._write([("events", row)])

    def audit(self, head: str = "") -> chain.Audit:
        """Whether every row is linked, unaltered and in its place; see `epitaxy.chain`.

        `head`: a digest kept from an earlier audit, which must still be in the chain.
        """
        try:
            return chain.audit(self._db, head)
        except sqlite3.Error as error:
            raise self._error(error) from None

    # -- reading --------------------------------------------------------------------------------

    def candidate(self, id_prefix: str) -> Candidate:
        """The candidate whose digest begins so. Raises UnknownName, BadInput, LedgerError."""
        return self._candidate(*self._one("candidates", id_prefix))

    def verdict(self, id_prefix: str) -> Verdict:
        """The latest and fullest verdict on a candidate, or the verdict of that digest."""
        sql = "select digest, body from verdicts where candidate like ? order by plan, number desc"
        rows = self._rows(sql, (f"{_prefix(id_prefix)}%",))
        digest, body = rows[0] if rows else self._one("verdicts", id_prefix)
        return _checked(Verdict, digest, json.loads(body))

    def problem(self, name: str) -> Problem:
        """The problem of that digest, of that name (the latest), or of that id prefix: a name that
        looks like another's digest does not stand in for it."""
        exact = self._rows("select digest, body from problems where digest = ?", (name,))
        if exact:
            return _checked(Problem, exact[0][0], json.loads(exact[0][1]))
        rows = self._rows(
            "select digest, body from problems where name = ? order by number desc", (name,)
        )
        digest, body = rows[0] if rows else self._one("problems", name)
        return _checked(Problem, digest, json.loads(body))

    def problems(self) -> list[Problem]:
        """Every problem, oldest first."""
        rows = self._rows("select digest, body from problems order by number")
        return [_checked(Problem, d, json.loads(b)) for d, b in rows]

    def candidates(self, problem: str) -> list[Candidate]:
        """Every candidate for the problem of that digest, oldest first."""
        rows = self._rows(
            "select digest, body from candidates where problem = ? order by number", (problem,)
        )
        return [self._candidate(d, b) for d, b in rows]

    def machine(self, digest: str) -> FrozenDict[str]:
        """The fingerprint of a machine."""
        return FrozenDict(json.loads(self._one("machines", digest)[1]))

    def outcomes(self, machine: str, most: int = 4000) -> list[tuple[Problem, str, float]]:
        """(problem, genome, speed-up) of the latest accepted candidates that have a genome."""
        rows = self._rows(
            "select v.problem, json_extract(c.body, '$.genome'),"
            " (select min(json_extract(each.value, '$.speedup'))"
            " from json_each(v.body, '$.comparisons') as each)"
            " from verdicts v join candidates c on c.digest = v.candidate"
            " where v.status = 'accepted' and v.machine = ?"
            " and json_extract(c.body, '$.genome') != '' order by v.number desc limit ?",
            (machine, most),
        )
        known = {p.digest: p for p in self.problems()}
        return [(known[p], genome, ratio) for p, genome, ratio in rows if ratio and p in known]

    def sketches(self) -> list[tuple[str, Any, Any]]:
        """(candidate's digest, candidate, verdict) of every verdict, oldest first, as plain data:
        without sources, samples and logs. The verdict has its own digest as "digest"."""
        rows = self._rows(
            "select c.digest, json_remove(c.body, '$.files'), v.digest,"
            " json_remove(v.body, '$.samples', '$.build_log', '$.metrics')"
            " from verdicts v join candidates c on c.digest = v.candidate order by v.number"
        )
        return [(c, json.loads(cb), json.loads(vb) | {"digest": v}) for c, cb, v, vb in rows]

    def identity(self) -> str:
        """The link of the first verdict, by which a ledger is known; "" before there is one."""
        rows = self._rows(
            "select digest from chain where kind = 'verdicts' order by number limit 1"
        )
        return str(rows[0][0]) if rows else ""

    def judged(self, problem: str, machine: str | None = None) -> list[Judged]:
        """Candidates with their fullest, latest verdicts, oldest first; no machine faults."""
        rows = self._rows(
            "select v.digest, v.body, c.digest, c.body from verdicts v join candidates c"
            " on c.digest = v.candidate where v.problem = ? and v.machine = coalesce(?, v.machine)"
            " and v.status != 'machine_fault' order by v.number",
            (problem, machine),
        )
        latest: dict[str, tuple[Any, ...]] = {}
        for row in rows:
            plan = json.loads(row[1])["plan"]
            if row[2] not in latest or plan == "full" or latest[row[2]][4] != "full":
                latest[row[2]] = (*row, plan)
        return [
            (self._candidate(c, cb), _checked(Verdict, v, json.loads(vb)))
            for v, vb, c, cb, _ in latest.values()
        ]

    def verdicts(self, problem: str, machine: str | None = None) -> list[Verdict]:
        """Every verdict for the problem of that digest, oldest first, machine faults included."""
        return self._made_on(machine, Verdict, ("verdicts", "problem"), problem)

    def profiles(self, candidate: str, machine: str | None = None) -> list[Profiled]:
        """Every profile of the candidate of that digest, the latest first."""
        return self._made_on(machine, Profiled, ("profiles", "candidate"), candidate)[::-1]

    def _made_on(
        self, machine: str | None, kind: type[R], where: tuple[str, str], digest: str
    ) -> list[R]:
        """Records made on a machine (None: on any) whose column is `digest`, oldest first; `where`:
        the names of table and column."""
        table, column = where
        rows = self._rows(
            f"select digest, body from {table}"
            f" where {column} = ? and machine = coalesce(?, machine) order by number",
            (digest, machine),
        )
        return [_checked(kind, d, json.loads(b)) for d, b in rows]

    def best(
        self, problem: str, count: int = 1, machine: str | None = None, plan: str | None = None
    ) -> list[Judged]:
        """The accepted ones with the greatest speed-up, full verdicts before screened ones."""
        found = [
            (c, v)
            for c, v in self.judged(problem, machine)
            if v.accepted and plan in (None, v.plan)
        ]
        return sorted(found, key=lambda p: (p[1].plan != "full", -(p[1].speedup or 0)))[:count]

    def events(self, problem: str) -> list[tuple[str, float, Any]]:
        """(kind, date, body) of a problem's events, oldest first."""
        sql = "select kind, unix_s, body from events where problem = ? order by number"
        return [(k, t, json.loads(b)) for k, t, b in self._rows(sql, (problem,))]

    def _one(self, table: str, id_prefix: str) -> tuple[str, str]:
        sql = f"select digest, body from {table} where digest like ? limit 2"
        rows = self._rows(sql, (f"{_prefix(id_prefix)}%",))
        if not rows:
            known = [d[:12] for (d,) in self._rows(f"select digest from {table}")]
            if table == "problems":
                known += [n for (n,) in self._rows("select name from problems")]
            raise UnknownName.of(table.removesuffix("s"), id_prefix, known[-200:])
        if len(rows) > 1:
            raise BadInput(f"id {id_prefix!r} is ambiguous", "type more characters of it")
        return rows[0][0], rows[0][1]

    def _candidate(self, digest: str, body: str) -> Candidate:
        data = json.loads(body)
        for name, source in data["files"].items():
            rows = self._rows("select content from sources where digest = ?", (source,))
            if not rows or digest_text(rows[0][0].decode()) != source:
                raise LedgerError(
                    f"source {name} of {digest[:12]} was edited or lost", "restore it"
                )
            data["files"][name] = rows[0][0].decode()
        return _checked(Candidate, digest, data)


def machine_digest(fingerprint: Mapping[str, str]) -> str:
    """By what a machine is known."""
    return digest_text(canonical(FrozenDict[str](fingerprint)))


def _prefix(text: str) -> str:
    """Only hexadecimal digits reach a LIKE pattern."""
    plain = text.strip().lower()
    return plain if plain and all(c in "0123456789abcdef" for c in plain) else "-"


def _checked(kind: type[R], digest: str, data: Any) -> R:
    # The text as stored counts: a later version may know more fields than the one that wrote it.
    if chain.record_digest(kind.__name__, data) != digest:
        raise LedgerError(f"{kind.__name__.lower()} {digest[:12]} was edited", "restore the ledger")
    return kind.from_dict(data)
