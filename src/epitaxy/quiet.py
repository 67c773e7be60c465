"""How quiet the machine was: drift of times, other processes, waiting, and changes of speed.

Everything here is a function of numbers that were recorded; what is found is said about the
machine and never charged to a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from epitaxy.record import Record, record
from epitaxy.timing import Taken, median
from epitaxy.verdict import Comparison, Finding

OTHERS_CORES = 0.2
"""Processors kept busy by others that count as contention; an idle system needs a few percent."""
OTHERS_S = 0.05
"""Least processor time (s) of others that is told from the kernel's ticks of 10 ms."""
STOLEN = 0.02
"""Share of the processors' time taken by the hypervisor that counts."""
WAITED = 0.02
"""Share of the timed calls spent waiting for a processor that counts."""
DRIFT, DRIFT_Z = 0.03, 3.0
"""A trend counts when the halves differ so much and chance explains it once in 370 times."""
SPEED = 1.15
"""Slow pulses so many times the quick ones: the processor changed its frequency, or half of it
went to a neighbour."""


@record
class Activity(Record):
    """What the processors that this process may use did, cumulative, in seconds.

    `wall_s` counts once, the others over all `cores`: `busy_s` by anybody, `stolen_s` by the
    hypervisor, `own_s` by the broker and its workers.
    """

    wall_s: float
    cores: int
    busy_s: float
    stolen_s: float
    own_s: float

    def since(self, before: Activity) -> Activity:
        """What was added after `before`."""
        return Activity(
            wall_s=self.wall_s - before.wall_s,
            cores=self.cores,
            busy_s=self.busy_s - before.busy_s,
            stolen_s=self.stolen_s - before.stolen_s,
            own_s=self.own_s - before.own_s,
        )

    @property
    def others(self) -> float:
        """Processors that other processes kept busy."""
        other_s = self.busy_s - self.own_s
        return other_s / self.wall_s if self.wall_s > 0 and other_s >= OTHERS_S else 0.0

    @property
    def stolen(self) -> float:
        """Share of the processors' time that went to other machines on the same host."""
        whole_s = self.wall_s * self.cores
        return self.stolen_s / whole_s if whole_s > 0 and self.stolen_s >= OTHERS_S else 0.0


def trend(values: Sequence[float]) -> tuple[float, float]:
    """How much the second half is above the first (ratio of medians minus one), and how many
    standard deviations chance is away from such an order: Mann, "Nonparametric tests against
    trend", 1945. Zeros for fewer than four values."""
    count, half = len(values), len(values) // 2
    if count < 4:
        return 0.0, 0.0
    rising = sum(
        (values[j] > values[i]) - (values[j] < values[i])
        for i in range(count)
        for j in range(i + 1, count)
    )
    variance = count * (count - 1) * (2 * count + 5) / 18
    return median(values[half:]) / median(values[:half]) - 1, rising / math.sqrt(variance)


def drifts(values: Sequence[float]) -> float:
    """The change of a series where it has a trend, else 0."""
    change, z = trend(values)
    return change if abs(change) > DRIFT and abs(z) > DRIFT_Z else 0.0


def waited_share(waits: Sequence[float], times: Sequence[float]) -> float:
    """The share of a typical call that threads spent waiting for a processor, added up."""
    return median([w / t for w, t in zip(waits, times, strict=True)]) if waits else 0.0


def speed_change(pulses: Sequence[float]) -> float:
    """Slow pulses over quick ones (90 % and 10 % points), at least 1."""
    ordered = sorted(pulses)
    if len(ordered) < 5:
        return 1.0
    return ordered[int(0.9 * (len(ordered) - 1))] / ordered[int(0.1 * (len(ordered) - 1))]


def disturbed(activity: Activity | None, taken: Taken) -> bool:
    """Whether more rounds are called for: somebody else computes, or threads wait, or it drifts.

    Nothing here depends on who is faster, so that going on for it favours nobody.
    """
    if activity is not None and (activity.others > OTHERS_CORES or activity.stolen > STOLEN):
        return True
    if any(waited_share(taken.waits[n], taken.times[n]) > WAITED for n in taken.times):
        return True
    return speed_change(taken.pulses) > SPEED or bool(_ratio_drift(taken))


def findings(
    taken: Sequence[Taken], activities: Sequence[Activity], control: Comparison | None = None
) -> list[Finding]:
    """Remarks on the machine during these processes; none when it was quiet."""
    found = [_warn("contention", text) for text in _contention(taken, activities)]
    speed = max((speed_change(t.pulses) for t in taken), default=1.0)
    if speed > SPEED:
        text = f"the processor's speed changed {speed:.2f}-fold while it was timed"
        found.append(_warn("drift", text))
    for name, change in _drifting(taken).items():
        text = f"the times of {name} drifted by {change:+.0%} within a process"
        found.append(_warn("drift", text))
    if control is not None and control.outcome != "no evidence":
        text = (
            f"a second process of the candidate is {control.outcome} than the first by "
            f"{abs(control.speedup - 1):.1%}: effects of that size are the machine's"
        )
        found.append(_warn("contention", text))
    return found


def _contention(taken: Sequence[Taken], activities: Sequence[Activity]) -> list[str]:
    texts = []
    others = max((a.others for a in activities), default=0.0)
    if others > OTHERS_CORES:
        cores = activities[0].cores
        texts.append(f"other processes kept {others:.1f} of {cores} processors busy meanwhile")
    stolen = max((a.stolen for a in activities), default=0.0)
    if stolen > STOLEN:
        texts.append(f"the hypervisor took {stolen:.0%} of the processors' time")
    share = max((waited_share(t.waits[n], t.times[n]) for t in taken for n in t.times), default=0.0)
    if share > WAITED:
        texts.append(
            f"threads waited for a processor for {share:.0%} of a typical call: the intervals are "
            "wider by that"
        )
    return texts


def _drifting(taken: Sequence[Taken]) -> Mapping[str, float]:
    """The strongest drift of the candidate's times in any process, and of its ratio."""
    found: dict[str, float] = {}
    for each in taken:
        series = {"the candidate": each.times.get("candidate", ())}
        for name, change in ((n, drifts(v)) for n, v in series.items()):
            if abs(change) > abs(found.get(name, 0.0)):
                found[name] = change
        ratio = _ratio_drift(each)
        if abs(ratio) > abs(found.get("candidate over baseline", 0.0)):
            found["candidate over baseline"] = ratio
    return found


def _ratio_drift(taken: Taken) -> float:
    """The strongest drift of the candidate's time over a baseline's."""
    ours = taken.times.get("candidate", [])
    changes = [
        drifts([a / b for a, b in zip(ours, theirs, strict=True)])
        for name, theirs in taken.times.items()
        if not name.startswith("candidate")
    ]
    return max(changes, key=abs, default=0.0)


def _warn(check: str, message: str) -> Finding:
    return Finding(check=check, severity="warning", message=message)
