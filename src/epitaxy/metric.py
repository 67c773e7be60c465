"""Metric, Profile, Bottleneck: what any profiler measured of a kernel, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict, Record, record

SEVERITIES = ("high", "medium", "low")


@record
class Metric(Record):
    """One number of one kernel under the name that its source gives it.

    `unit` is a base unit ("s", "byte", "byte/s", "%", "cycle" ...; "" is a plain number); `source`
    is what measured it: a reader's name ("ncu"), "static", "ablation", "probe" or "chip".
    """

    # The default hides Record.id (a property without a setter), as for Chip.
    id: str = ""
    value: float
    unit: str = ""
    source: str = ""

    def validate(self) -> None:
        if not self.id:
            raise BadInput("a metric without a name", "give it the name that its source uses")
        if not math.isfinite(self.value):
            raise BadInput(f"metric {self.id} is {self.value}", "leave out what was not measured")


@record
class Profile(Record):
    """What one source says of one kernel.

    `family` chooses the rules ("nvidia", "amd", "neuron", "tpu", "cpu": the files of `rules/`);
    `chip` is an id of `chips/` or the vendor's code name (GH100), "" where unknown. `time_s` is
    the time of all its `calls` together. `unreadable` maps names that the source listed without a
    number to why ("not supported"); `unknown` are names that no table of metrics explains. One
    that is `whole` is no kernel but the report as a whole, e.g. a trace with its gaps.
    """

    kernel: str
    family: str
    source: str
    chip: str = ""
    time_s: float | None = None
    calls: int = 1
    metrics: tuple[Metric, ...] = ()
    unreadable: FrozenDict[str] = FrozenDict()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = False

    def validate(self) -> None:
        names = [m.id for m in self.metrics]
        twice = next((n for n in names if names.count(n) > 1), "") if _repeats(names) else ""
        if twice:
            raise BadInput(f"{self.kernel}: metric {twice} is given twice", "keep one of them")
        if self.time_s is not None and not 0 <= self.time_s < math.inf:
            raise BadInput(f"{self.kernel}: a time of {self.time_s} s", "leave it out")

    @property
    def values(self) -> dict[str, float]:
        """The numbers by name."""
        return {m.id: m.value for m in self.metrics}

    def with_metrics(self, more: Iterable[Metric]) -> Profile:
        """A copy with further metrics; one of a name that is there already replaces it."""
        merged = {m.id: m for m in (*self.metrics, *more)}
        return self.replace(metrics=tuple(merged.values()))


@record
class Profiled(Record):
    """A profile as it is kept: of which candidate, where and when it was taken (Unix time, s).

    `candidate`, `problem` and `machine` are digests; `loop` says in a sentence what the hot loop
    is.
    """

    candidate: str
    problem: str
    machine: str
    profile: Profile
    loop: str = ""
    taken_unix_s: float = 0.0

    def validate(self) -> None:
        if not (self.candidate and self.problem and self.machine):
            raise BadInput("a profile of nothing", "say of which candidate, and where")


@record
class Bottleneck(Record):
    """One thing that limits a kernel, by one rule.

    `gain` is the share of the kernel's own time that goes at best if the limit goes, 0 to 1, None
    where no formula is published; `formula` is how it was found. `share` is the kernel's share of
    the report's time. `explained_by` names other bottlenecks of which this one is a symptom.
    """

    rule: str
    kernel: str
    limit: str
    says: str
    evidence: tuple[Metric, ...]
    move: str
    source: str
    gain: float | None = None
    formula: str = ""
    severity: str = "medium"
    share: float = 1.0
    explained_by: tuple[str, ...] = ()
    rank: int = 0

    def validate(self) -> None:
        if self.severity not in SEVERITIES:
            raise BadInput(
                f"unknown severity {self.severity!r}", f"use one of {', '.join(SEVERITIES)}"
            )
        if self.gain is not None and not 0 <= self.gain < 1:
            raise BadInput(f"a gain of {self.gain} of the time", "it is 0 or more and below 1")
        if (self.gain is None) != (not self.formula):
            raise BadInput(f"{self.rule}: a gain and its formula go together", "give both")
        if not self.source:
            raise BadInput(f"{self.rule}: a bottleneck without a source", "name the source")

    @property
    def weight(self) -> float:
        """Share of the report's whole time that goes at best; 0.0 where there is no formula."""
        return (self.gain or 0.0) * self.share

    @property
    def speedup(self) -> float | None:
        """The kernel's best speed-up, 1 / (1 - gain); None where there is no formula."""
        return None if self.gain is None else 1.0 / (1.0 - self.gain)


@record
class Unevaluated(Record):
    """A rule that could not be asked, and the metrics that it needs; `why` where that is known."""

    rule: str
    needs: tuple[str, ...]
    why: str = ""


@record
class KernelDiagnosis(Record):
    """One kernel: its bottlenecks, best first; rules that found nothing or could not be asked.

    `misplaced` maps metrics that do not exist on the profile's chip to what is known of them.
    """

    profile: Profile
    share: float
    bottlenecks: tuple[Bottleneck, ...]
    passed: tuple[str, ...]
    unevaluated: tuple[Unevaluated, ...]
    misplaced: FrozenDict[str] = FrozenDict()

    @property
    def limit(self) -> str:
        """What limits most, in one phrase; "" where no rule found anything."""
        return self.bottlenecks[0].limit if self.bottlenecks else ""


@record
class Diagnosis(Record):
    """A whole report: kernels by their share of the time, bottlenecks of all of them by weight."""

    kernels: tuple[KernelDiagnosis, ...]
    bottlenecks: tuple[Bottleneck, ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Bottleneck | None:
        """The bottleneck that promises most."""
        return self.bottlenecks[0] if self.bottlenecks else None


def metrics_of(values: Mapping[str, float], source: str, prefix: str = "") -> tuple[Metric, ...]:
    """Plain numbers as metrics, e.g. a verdict's static ones: prefix "static.", source "static"."""
    return tuple(
        Metric(id=f"{prefix}{name}", value=float(value), source=source)
        for name, value in values.items()
        if math.isfinite(value)
    )


def _repeats(names: list[str]) -> bool:
    return len(set(names)) < len(names)
