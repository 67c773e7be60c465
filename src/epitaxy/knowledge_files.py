"""Knowledge that travels: lessons as lines of JSON, without sources, weights or problems' names.

The first line says the format, who exported (`origin`), how many lessons follow and the digest of
the whole file; every lesson carries its own digest. What is imported is one event of the ledger,
chained like all else, marked with its origin, and never counted as evidence of this ledger.
A file's digests show accidents and careless edits, not a forger: import from whom you trust.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.ledger import Ledger
from epitaxy.lesson import Lesson
from epitaxy.lessons import distil
from epitaxy.record import Record, canonical, digest_text, record

FORMAT, VERSION = "epitaxy knowledge", 1
EVENT = "knowledge imported"
NOWHERE = ""
"""Imported lessons are events of no problem."""
RUN = 24
"""Characters in a row, blanks aside, that a move may not share with any source."""
CODE = frozenset("{};`\\#")
WITHHELD = "withheld: it reads like source"
LARGEST_BYTES = 64 << 20
Key = tuple[str, str, str, tuple[str, ...]]


@record
class Imported(Record):
    """What an import did: `new` lessons taken in, `known` ones that were there already."""

    origin: str
    new: int
    known: int


def export(ledger: Ledger, origin: str = "") -> str:
    """This ledger's own lessons as the text of a file; imported ones are not passed on.

    `origin`: a name for whoever exports; without one, the ledger's identity. Raises BadInput where
    the ledger was altered: what it teaches would vouch for nothing.
    """
    audit = ledger.audit()
    if not audit.intact:
        fault = audit.faults[0]
        raise BadInput(f"the ledger was altered: {fault.what}", "see `epitaxy ledger verify`")
    name = " ".join(origin.split()) or f"ledger {ledger.identity()[:12]}"
    lines = [_line(_guarded(lesson, ledger)) for lesson in distil(ledger)]
    head = {"format": FORMAT, "version": VERSION, "origin": name, "ledger": ledger.identity()}
    head |= {"count": len(lines)}
    return "\n".join([canonical(head | {"digest": _digest(head, lines)}), *lines, ""])


def _digest(head: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Of a whole file: its head without the digest, and every line."""
    return digest_text("\n".join([canonical({**head, "digest": ""}), *lines]))


def take_in(ledger: Ledger, path: Path) -> Imported:
    """Import a file: all of it or, where a line is wrong, nothing. Raises BadInput."""
    head, lessons = read(path)
    if head["ledger"] and head["ledger"] == ledger.identity():
        raise BadInput(f"{path} was exported from this very ledger", "import it into another")
    own = distil(ledger)
    known = {_key(one): one for one in (*imported(ledger, own), *own)}
    new = []
    for number, lesson in enumerate(lessons, start=2):
        there = known.get(_key(lesson))
        if there is not None and _facts(there) != _facts(lesson):
            raise BadInput(
                f"{path}, line {number} contradicts what is known of"
                f" {lesson.evidence[:12]}: {_told(lesson)}, not {_told(there)}",
                "nothing was imported; ask who exported it",
            )
        if there is None or (there.origin and there.replace(origin="") != lesson):
            new.append(lesson)
    if new:
        body = {"origin": head["origin"], "file": head["digest"]}
        ledger.add_event(
            NOWHERE, EVENT, time.time(), **body, lessons=[one.to_dict() for one in new]
        )
    return Imported(origin=head["origin"], new=len(new), known=len(lessons) - len(new))


def imported(ledger: Ledger, own: Iterable[Lesson]) -> list[Lesson]:
    """Lessons taken in, with their origin; a later import stands for an earlier of the same
    evidence, and what the ledger itself has evidence of is left out."""
    found: dict[Key, Lesson] = {}
    for kind, _, body in ledger.events(NOWHERE):
        if kind == EVENT:
            for data in body["lessons"]:
                lesson = Lesson.from_dict(data | {"origin": body["origin"]})
                found[_key(lesson)] = lesson
    mine = {_key(one) for one in own}
    return [lesson for key, lesson in found.items() if key not in mine]


def read(path: Path) -> tuple[dict[str, Any], list[Lesson]]:
    """The head and lessons of a file. Raises BadInput with the line that is wrong."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInput(f"{path} is larger than {LARGEST_BYTES >> 20} MiB", "export it anew")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}", "give a file of knowledge export") from None
    lines = text.removesuffix("\n").split("\n")
    head = _head(path, lines[0])
    lessons = [_lesson(path, number, line) for number, line in enumerate(lines[1:], start=2)]
    if head["count"] != len(lessons) or head["digest"] != _digest(head, lines[1:]):
        raise BadInput(
            f"{path}, line 1: it promises {head['count']} lessons and another digest than the"
            f" {len(lessons)} that follow",
            "the file was cut or altered; ask for it again",
        )
    seen: dict[Key, int] = {}
    for number, lesson in enumerate(lessons, start=2):
        first = seen.setdefault(_key(lesson), number)
        if first != number:
            raise BadInput(
                f"{path}, line {number} says again what line {first} says of the same evidence",
                "nothing was imported; ask for it again",
            )
    return head, lessons


def _head(path: Path, line: str) -> dict[str, Any]:
    head = _object(path, 1, line)
    wanted = {"format": str, "version": int, "origin": str, "ledger": str}
    wanted |= {"count": int, "digest": str}
    whole = set(head) == set(wanted) and all(type(head[k]) is t for k, t in wanted.items())
    if not whole or head["format"] != FORMAT:
        raise BadInput(f"{path}, line 1 is no head of {FORMAT}", "give a file of knowledge export")
    if head["version"] != VERSION:
        raise BadInput(f"{path} is of version {head['version']}, not {VERSION}", "upgrade epitaxy")
    origin = head["origin"]
    if not origin or len(origin) > 100 or not origin.isprintable():
        raise BadInput(f"{path}, line 1 says not who exported it", "export it with --origin NAME")
    return head


def _lesson(path: Path, number: int, line: str) -> Lesson:
    data = _object(path, number, line)
    digest = data.pop("digest", None)
    if data.get("origin"):
        raise BadInput(f"{path}, line {number} is passed on from another", "ask that one for it")
    try:
        lesson = Lesson.from_dict(data)
    except (EpitaxyError, TypeError, ValueError) as error:
        text = error.message if isinstance(error, EpitaxyError) else str(error)
        raise BadInput(f"{path}, line {number}: {text}", "nothing was imported") from None
    if lesson.digest != digest:
        raise BadInput(
            f"{path}, line {number} was altered: it is not what its digest says",
            "nothing was imported; ask for it again",
        )
    return lesson


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path}, line {number} is not JSON: {error}", "nothing was imported"
        ) from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}, line {number} is no record", "nothing was imported")
    return found


def _line(lesson: Lesson) -> str:
    return canonical(lesson.to_dict() | {"digest": lesson.digest})


def _guarded(lesson: Lesson, ledger: Ledger) -> Lesson:
    """The lesson without a move that might be source: intents and genomes are a proposer's own."""
    candidate = ledger.candidate(lesson.candidate)
    texts = [*candidate.files.values(), ledger.problem(lesson.problem).source]
    for parent in candidate.parents:
        texts += ledger.candidate(parent).files.values()
    return lesson.replace(move=WITHHELD) if quotes(lesson.move, texts) else lesson


def quotes(text: str, sources: Sequence[str]) -> bool:
    """Whether a line looks like code, or shares a run of RUN characters with a source."""
    if CODE & set(text):
        return True
    bare = "".join(text.split())
    whole = ["".join(source.split()) for source in sources]
    runs = {bare[i : i + RUN] for i in range(len(bare) - RUN + 1)}
    return any(run in source for run in runs for source in whole)


def _key(lesson: Lesson) -> Key:
    return lesson.evidence, lesson.kind, lesson.move, lesson.touched


def _facts(lesson: Lesson) -> tuple[Any, ...]:
    """What the same evidence can only show in one way."""
    effect = (lesson.effect, lesson.reason, lesson.ratio, lesson.low, lesson.high)
    return (*effect, lesson.problem, lesson.chip, lesson.toolchain, lesson.candidate)


def _told(lesson: Lesson) -> str:
    ratio = f" {lesson.ratio:.2f}x" if lesson.ratio else ""
    return f"{lesson.effect}{ratio} on {lesson.chip}"
