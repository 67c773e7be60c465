"""Carry the tiling of one kernel over to another language and chip, and say what became of it.

A proposer that takes part has a `dialect` (what its decisions mean), `captured(view)` and
`candidate(view, genome, intent, parents)`. What is captured has `regions`, `start` (a genome),
`spaces`, `changed(genome, region, decision, value)` and `fault(genome)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.proposer import View
from epitaxy.proposers._genomes import parse
from epitaxy.record import FrozenDict
from epitaxy.tiling import KINDS, Tiling, describe
from epitaxy.verdict import Verdict

CARRIED, CHANGED, UNLIKE, OWN = "carried", "changed", "no like", "the target's own"
SHRINKING = ("stages", "keys", "depth", "folded", "columns", "rows", "elements")
"""What is halved, in this order, until a tiling fits the chip."""


@dataclass(frozen=True)
class Dialect:
    """What the decisions of one language mean: by kind of region (`tiling.KINDS`) and decision.

    One whose meaning is "" matters, and is like that of the same name in the same language alone;
    one that a kind does not list does not matter there. `units` names the fact of a chip that one
    unit of a decision stands for (lanes of a warp).
    """

    language: str
    decisions: Mapping[str, str]
    meanings: Mapping[str, Mapping[str, str]]
    units: Mapping[str, str] = field(default_factory=dict)

    def meaning(self, kind: str, decision: str) -> str:
        """What a decision means for a region of that kind; "" where it does not matter."""
        found = self.meanings.get(kind, {}).get(decision)
        if found is None:
            return ""
        return found or f"{self.language}: {self.decisions.get(decision, decision)}"

    def unit(self, decision: str, chip: Chip) -> int:
        """How many of what it means one of a decision is."""
        fact = chip.facts.get(self.units.get(decision, ""))
        return int(fact.value) if fact else 1


@dataclass(frozen=True)
class Carried:
    """One decision of the original: what it was, what it is now, and what was done with it."""

    region: str
    said: str
    """As the original says it: `block_m=128`."""
    used: str
    """As the port says it; "" where there is no like."""
    outcome: str
    why: str = ""


def tell(candidate: Candidate, dialect: Dialect, chip: Chip) -> tuple[Tiling, ...]:
    """The tilings that a candidate's genome tells, by region. Raises BadInput for one of other
    decisions."""
    sources = {n: s for n, _, s in (r.partition(": ") for r in candidate.regions)}
    found = []
    for name, chosen in parse(candidate.genome, tuple(dialect.decisions)):
        values: dict[str, int] = {}
        means: dict[str, dict[str, str]] = {k: {} for k in KINDS}
        for decision, value in chosen.items():
            unit = dialect.unit(decision, chip)
            said = f"{decision} of {unit} lanes" if unit > 1 else decision
            values[said] = value * unit
            for kind in KINDS:
                if meaning := dialect.meaning(kind, decision):
                    means[kind][said] = meaning
        if name in sources:
            tiling = Tiling(region=sources[name], values=FrozenDict(values), means=means)  # type: ignore[arg-type]
            found.append(tiling)
    return tuple(found)


def kind_of(region: Any) -> str:
    """What a region mainly is (`tiling.KINDS`); "whole" for loops over steps, experts, top-k."""
    from epitaxy.proposers.grower.genome import Choices
    from epitaxy.proposers.grower.rewrite import coalesce
    from epitaxy.proposers.grower.schedule import plan

    if region.whole:
        return "whole"
    kernels = plan(coalesce(region), Choices(width=1, split=0, online=0, attend=1)).kernels
    if any(k.attention for k in kernels):
        return "attention"
    if any(k.contraction for k in kernels):
        return "product"
    return "rows" if any(k.inner for k in kernels) else "elements"


def carry(
    captured: Any, told: Sequence[Tiling], dialect: Dialect, chip: Chip
) -> tuple[Any, tuple[Carried, ...]]:
    """The genome with which a port begins, and what became of each decision of the original."""
    genome, found = captured.start, list[Carried]()
    for region in captured.regions:
        text = ", ".join(region.source)
        told_here = next((t for t in told if t.region in (text, "")), None)
        if told_here is None:
            why = "nothing is told of a region with these operators"
            found.append(Carried(region.name, "", "first guess", OWN, why))
            continue
        carrying = _Region(captured, region, dialect, chip)
        genome = carrying.take(genome, told_here)
        genome = carrying.fit(genome)
        found += carrying.lines
    return genome, tuple(found)


class _Region:
    """Carries one region's tiling over."""

    def __init__(self, captured: Any, region: Any, dialect: Dialect, chip: Chip) -> None:
        self.captured, self.region, self.dialect, self.chip = captured, region, dialect, chip
        self.kind = kind_of(region)
        self.space = captured.spaces.get(region.name, {})
        self.lines: list[Carried] = []
        self.taken: dict[str, str] = {}
        """Meaning -> decision, of those carried over."""

    def take(self, genome: Any, tiling: Tiling) -> Any:
        """`genome` with every decision that the target knows too, within its bounds."""
        now = decisions(genome)[self.region.name]
        like = {self.dialect.meaning(self.kind, d): d for d in now}
        for said, meaning in tiling.meant(self.kind).items():
            value, decision = tiling.values[said], like.get(meaning)
            if decision is None or not self.space.get(decision):
                self._unlike(said, value, meaning, decision)
                continue
            unit = self.dialect.unit(decision, self.chip)
            options = sorted(self.space[decision])
            used = max((o for o in options if o * unit <= value), default=options[0])
            genome = self.captured.changed(genome, self.region.name, decision, used)
            self.taken[meaning] = decision
            why = "" if used * unit == value else _bounds(self.dialect, decision, options, unit)
            self._line(f"{said}={value}", f"{decision}={used}", CHANGED if why else CARRIED, why)
        return genome

    def _unlike(self, said: str, value: int, meaning: str, decision: str | None) -> None:
        what = describe(meaning).partition(": ")[2] or describe(meaning)
        why = f"{self.dialect.language} has no decision on: {what}"
        if decision is not None:
            why = f"{decision} is not open for a region of this kind or weight"
        self._line(f"{said}={value}", "", UNLIKE, why)

    def fit(self, genome: Any) -> Any:
        """`genome` with smaller tiles where the chip's limits are exceeded; the target's own first
        guess where that does not help."""
        fault = self.captured.fault(genome)
        while fault:
            smaller = self._smaller(genome)
            if smaller is None:
                self._line("all of these", "first guess", OWN, fault)
                return self._own(genome)
            (decision, before, after), genome = smaller
            self._line(f"{decision}={before}", f"{decision}={after}", CHANGED, fault)
            fault = self.captured.fault(genome)
        return genome

    def _smaller(self, genome: Any) -> tuple[tuple[str, int, int], Any] | None:
        now = decisions(genome)[self.region.name]
        known = [self.taken[m] for m in SHRINKING if m in self.taken]
        for decision in known:
            below = [o for o in self.space[decision] if 0 < o < now[decision]]
            if below:
                change = decision, now[decision], max(below)
                made = self.captured.changed(genome, self.region.name, decision, max(below))
                return change, made
        return None

    def _own(self, genome: Any) -> Any:
        for decision, value in decisions(self.captured.start)[self.region.name].items():
            genome = self.captured.changed(genome, self.region.name, decision, value)
        return genome

    def _line(self, said: str, used: str, outcome: str, why: str) -> None:
        self.lines.append(Carried(self.region.name, said, used, outcome, why))


def _bounds(dialect: Dialect, decision: str, options: Sequence[int], unit: int) -> str:
    each = f" of {unit} lanes" if unit > 1 else ""
    return f"{dialect.language} takes {options[0]} to {options[-1]}{each} here"


def decisions(genome: Any) -> dict[str, dict[str, int]]:
    """Choices by region, of a genome of any language."""
    pairs = getattr(genome, "regions", genome)
    return {n: asdict(c) if is_dataclass(c) else dict(c) for n, c in pairs}  # type: ignore[arg-type]


class Porter:
    """A proposer that begins with what an original's tiling tells; then `inner` goes on from it."""

    def __init__(self, inner: Any, told: Sequence[Tiling], original: str, parent: str = "") -> None:
        self.inner, self.name, self._told = inner, inner.name, told
        self._original, self._parent = original, parent
        self.carried: tuple[Carried, ...] = ()
        self.first: Candidate | None = None

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """The port of the original's tiling, alone; then what `inner` proposes. Raises BadProblem
        where nothing can be written."""
        if self.first is None:
            captured = self.inner.captured(view)
            genome, self.carried = carry(captured, self._told, self.inner.dialect, view.chip)
            intent = f"the tiling of {self._original}"
            parents = (self._parent,) if self._parent else ()
            self.first = self.inner.candidate(view, genome, intent, parents)
            known = {c.digest for c, _ in view.judged()}
            if self._told and self.first is not None and self.first.digest not in known:
                return [self.first]
        found: Sequence[Candidate] = self.inner.propose(view, count)
        return found

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """As `inner` does."""
        self.inner.learn(verdicts)

    def stop_reason(self) -> str:
        """Why the last answer was short."""
        reason: str = self.inner.stop_reason()
        return reason
