"""Knowledge: lessons of earlier problems that are like this one, and how like they are.

The likeness is a weighted sum of five parts between 0 and 1, all of which are told: operators
(shared ones over all, arithmetic counted little), work (a factor of eight in flops and bytes
halves it), dtype, bottleneck, and chip with toolchain. What is not known counts half.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from epitaxy.chip import Chip
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.knowledge_files import imported
from epitaxy.ledger import Ledger
from epitaxy.lesson import Lesson
from epitaxy.lessons import LAYOUT, captured, chip_of, distil, plain
from epitaxy.problem import Problem, open_reference
from epitaxy.record import FrozenDict, Record, record
from epitaxy.roofline import floor
from epitaxy.searching import operators as named_operators

WEIGHTS = FrozenDict[float](operators=0.5, work=0.15, dtype=0.05, bottleneck=0.2, chip=0.1)
NOT_KNOWN = 0.5
LITTLE = 0.2
COMMON = frozenset({"add", "sub", "mul", "div", "neg", "sum"})
"""Arithmetic that is found everywhere: sharing it says little."""
OCTAVES = 3.0
"""So many doublings of flops or bytes halve the likeness of work."""
OF_A_KIND = 2
"""So many moves of one decision on one problem are told for each effect."""
LEAST = 0.45
"""Likeness below which a lesson is not told."""


@record
class Found(Record):
    """A lesson with its likeness (0 to 1) and the parts of that by name."""

    lesson: Lesson
    score: float
    parts: FrozenDict[float]


@record
class Asked(Record):
    """What lessons are compared with. "" and () are "not known"."""

    operators: tuple[str, ...] = ()
    dtype: str = ""
    flops: float = 0.0
    bytes: float = 0.0
    bottleneck: str = ""
    chip: str = ""
    toolchain: str = ""


def search(
    problem: Problem, ledger: Ledger, *, machine: Any = None, toolchain: str = "",
    bottleneck: str = "", most: int = 12,
) -> list[Found]:  # fmt: skip
    """What is known that may help with `problem`, the likest first: own lessons and imported ones.

    `machine` is the one at hand: its name, and what limits the problem there unless `bottleneck`
    ("compute", "memory: DRAM" ...) says so, count towards the likeness.
    """
    return ranked(asked(problem, ledger, machine, toolchain, bottleneck), every(ledger), most)


def asked(
    problem: Problem, ledger: Ledger, machine: Any, toolchain: str = "", bottleneck: str = ""
) -> Asked:
    """What `search` compares lessons with."""
    return Asked(
        operators=operators(problem, ledger),
        dtype=problem.work.dtype,
        flops=problem.work.flops,
        bytes=problem.work.bytes,
        bottleneck=bottleneck or (_limit(problem, machine.chip()) if machine else ""),
        chip=chip_of(machine.fingerprint()) if machine else "",
        toolchain=toolchain,
    )


def _limit(problem: Problem, chip: Chip) -> str:
    """What sets the floor of a problem on a chip; "" where the chip's facts do not suffice."""
    try:
        return floor(problem.work, chip, problem.working_set_bytes).limit
    except BadInput:
        return ""


def every(ledger: Ledger) -> list[Lesson]:
    """Own lessons, then imported ones, each marked with its origin."""
    own = distil(ledger)
    return [*own, *imported(ledger, own)]


def ranked(query: Asked, lessons: Iterable[Lesson], most: int = 12) -> list[Found]:
    """The likest lessons, at most `most`: among equally like ones what helped comes first, then
    the size of the effect; of one decision on one problem no more than a few of each effect."""
    found = [likeness(query, lesson) for lesson in lessons]
    order = sorted(
        (f for f in found if f.score >= LEAST),
        key=lambda f: (-f.score, _order(f.lesson), -_size(f.lesson), f.lesson.digest),
    )
    counted = Counter[tuple[str, ...]]()
    kept = []
    for one in order:
        lesson = one.lesson
        kind = (lesson.problem, lesson.chip, lesson.move.partition(" ")[0], lesson.effect)
        counted[kind] += 1
        if lesson.kind == "win" or counted[kind] <= OF_A_KIND:
            kept.append(one)
    return kept[: max(0, most)]


def _order(lesson: Lesson) -> int:
    return 0 if lesson.kind == "win" else 1 if lesson.effect == "helped" else 2


def likeness(query: Asked, lesson: Lesson) -> Found:
    """How like a lesson's problem is to the one asked about."""
    parts = {
        "operators": max(
            _shared(query.operators, lesson.operators), _shared(query.operators, lesson.touched)
        ),
        "work": _near(query, lesson),
        "dtype": float(query.dtype == lesson.dtype) if query.dtype else NOT_KNOWN,
        "bottleneck": _alike(query.bottleneck, lesson.bottleneck),
        "chip": _place(query, lesson),
    }
    score = sum(WEIGHTS[name] * value for name, value in parts.items())
    return Found(lesson=lesson, score=round(score, 4), parts=FrozenDict(parts))


def operators(problem: Problem, ledger: Ledger) -> tuple[str, ...]:
    """The problem's operators: as its candidates captured them, else captured now, else the names
    in its source."""
    own = captured(c for _, c, v in ledger.sketches() if v["problem"] == problem.digest)
    known = own.get(problem.digest) or capture(problem) or sorted(named_operators(problem))
    return tuple(known)


@cache
def capture(problem: Problem) -> tuple[str, ...]:
    """Operators of the exported program; () where it cannot be exported or grown."""
    from epitaxy.proposers.grower.growth import grow_program

    try:
        growth = grow_program(open_reference(problem))
    except EpitaxyError:
        return ()
    listed = [x for r in growth.regions for x in r.source] + list(growth.program.left)
    return tuple(sorted({plain(x) for x in listed} - LAYOUT))


def _shared(one: Sequence[str], other: Sequence[str]) -> float:
    a, b = set(one), set(other)
    if not a or not b:
        return 0.0
    return _weight(a & b) / _weight(a | b)


def _weight(names: Iterable[str]) -> float:
    return sum(LITTLE if name in COMMON else 1.0 for name in names)


def _near(query: Asked, lesson: Lesson) -> float:
    pairs = [(query.flops, lesson.flops), (query.bytes, lesson.bytes)]
    steps = [abs(math.log2(1 + a) - math.log2(1 + b)) for a, b in pairs]
    return float(2 ** (-sum(steps) / len(steps) / OCTAVES))


def _alike(one: str, other: str) -> float:
    """1 for the same bottleneck, a little less for another level of memory."""
    if not one or not other:
        return NOT_KNOWN
    if one == other:
        return 1.0
    return 0.7 if one.partition(":")[0] == other.partition(":")[0] else 0.0


def _place(query: Asked, lesson: Lesson) -> float:
    chip = float(query.chip == lesson.chip) if query.chip else NOT_KNOWN
    tool = float(query.toolchain == lesson.toolchain) if query.toolchain else NOT_KNOWN
    return 0.6 * chip + 0.4 * tool


def _size(lesson: Lesson) -> float:
    return abs(math.log(lesson.ratio)) if lesson.ratio else 0.0
