"""Lesson: one thing that a ledger taught, as a short frozen record without sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.record import Record, record
from epitaxy.verdict import STATUSES

KINDS = ("win", "step", "dead end")
EFFECTS = ("helped", "hurt", "no difference")
LONGEST, LARGEST = 256, 1 << 53
SAME = 1.03
"""Effects whose whole interval lies within this factor of 1 are told as "no difference"."""


def effect_of(low: float, high: float) -> str:
    """What an interval of a ratio shows; "" when it shows nothing."""
    if low >= 1 / SAME and high <= SAME:
        return "no difference"
    return "helped" if low > 1 else "hurt" if high < 1 else ""


@record
class Lesson(Record):
    """One thing learnt. `effect`: one of EFFECTS, or the status of what failed, then with `reason`.

    `ratio`: how many times faster after than before, with the interval [low, high]; for a win the
    speed-up over the baseline `against`, `algebra` of which is less work; None for a dead end.
    `operators` are the whole problem's, `touched` those of the regions that the move changed.
    `bottleneck` is what sets the floor of the problem there ("" unknown); `of_limit` how near to it
    the candidate came. `times`: judged pairs that showed this effect, `contrary`: those that showed
    the opposite. `evidence` and `candidate` are digests in the ledger it comes from; `origin` is
    "" for this ledger, else who exported it.
    """

    kind: str
    move: str
    effect: str
    problem: str
    operators: tuple[str, ...]
    touched: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    dtype: str = "float32"
    flops: float = 0.0
    bytes: float = 0.0
    chip: str = ""
    toolchain: str = ""
    condition: str = "warm"
    threads: int = 0
    plan: str = ""
    bottleneck: str = ""
    of_limit: float | None = None
    against: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    algebra: float = 1.0
    reason: str = ""
    times: int = 1
    contrary: int = 0
    evidence: str = ""
    candidate: str = ""
    origin: str = ""

    @property
    def told(self) -> str:
        """The lesson in one line, its origin included where it was imported."""
        effect = f"{self.effect} {self.reason}".strip()
        if self.ratio is not None:
            effect = f"{self.effect} {self.ratio:.2f}x [{self.low:.2f}, {self.high:.2f}]"
        if self.times > 1 or self.contrary:
            effect += f", {self.times} of {self.times + self.contrary}"
        against = f" against {self.against}" if self.against else ""
        place = f"{self.toolchain} on {self.chip}, limit {self.bottleneck or 'unknown'}"
        source = f"{self.origin}, " if self.origin else ""
        return (
            f"{self.kind}: {self.move}: {effect}{against};"
            f" {', '.join(self.touched or self.operators)}; {place} ({source}{self.evidence[:12]})"
        )

    def validate(self) -> None:
        _check_types(self)
        if self.kind not in KINDS:
            raise BadInput(f"unknown kind of lesson {self.kind!r}", f"use {', '.join(KINDS)}")
        timed = self.kind != "dead end"
        if (timed and self.effect not in EFFECTS) or (not timed and self.effect not in STATUSES):
            raise BadInput(f"effect {self.effect!r} of a {self.kind}", "a status, or an effect")
        if self.effect in ("accepted", "machine_fault"):
            raise BadInput(f"what was {self.effect} is no dead end", "drop it")
        if timed != (self.ratio is not None) or not self.evidence or self.times < 1:
            raise BadInput(
                f"a {self.kind} of ratio {self.ratio}, {self.times} times, evidence"
                f" {self.evidence[:12]!r}",
                "what was timed has a ratio, and all has evidence",
            )
        if self.ratio is None:
            return
        low, high = self.low or 0.0, self.high or 0.0
        if not 0 < low <= self.ratio <= high or effect_of(low, high) != self.effect:
            raise BadInput(
                f"{self.effect!r} contradicts {self.ratio} in [{self.low}, {self.high}]",
                "the interval implies the effect",
            )


_NUMBER = (int, float)
_OPTIONAL = (int, float, type(None))
_TYPES: Mapping[str, Any] = {
    **dict.fromkeys(("operators", "touched", "inputs"), list),
    **dict.fromkeys(("flops", "bytes", "algebra"), _NUMBER),
    **dict.fromkeys(("of_limit", "ratio", "low", "high"), _OPTIONAL),
    **dict.fromkeys(("threads", "times", "contrary"), int),
}


def _check_types(lesson: Lesson) -> None:
    """Numbers that are finite numbers, texts that are short lines: lessons come from files too."""
    for name, value in lesson.to_dict().items():
        wanted = _TYPES.get(name, str)
        texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        large = isinstance(value, int) and abs(value) > LARGEST
        if isinstance(value, bool) or large or not isinstance(value, wanted):
            raise BadInput(f"{name} of a lesson is {value!r}", "write it as an export does")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{name} of a lesson is not finite", "leave it out")
        if any(not isinstance(t, str) or len(t) > LONGEST or not t.isprintable() for t in texts):
            raise BadInput(f"{name} of a lesson is no short line", f"{LONGEST} characters at most")
