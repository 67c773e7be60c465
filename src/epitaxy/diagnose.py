"""From profiles to ranked bottlenecks: every rule of the family is asked, none is left out.

A bottleneck's rank is the share of the whole report's time that its gain promises. A symptom (a
stall, an idle scheduler) never ranks above a bottleneck that explains it and is worth at least a
quarter as much. Bottlenecks without a published formula come after those with one, by severity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from epitaxy import rulebook
from epitaxy.chip import Chip
from epitaxy.errors import BadInput
from epitaxy.expression import Evaluation, Missing, Undefined
from epitaxy.metric import (
    SEVERITIES,
    Bottleneck,
    Diagnosis,
    KernelDiagnosis,
    Metric,
    Profile,
    Unevaluated,
)
from epitaxy.record import FrozenDict

MOST = 0.99
"""A gain is bounded: a kernel that has work to do takes time."""
EXPLAINS = 0.25
"""A cause explains a symptom if its own gain is at least this part of the symptom's."""
LEAST = 0.005
"""A smaller gain is noise, and no bottleneck."""
OTHER_SOURCES = ("static.", "ablation.", "sample.", "probe.", "trace.", "chip.")
"""Metrics that a profiler's report of a kernel does not hold."""


def diagnose(profiles: Sequence[Profile], chip: Chip | None = None) -> Diagnosis:
    """Ranked bottlenecks of all kernels, weighed by their share of the time.

    `chip` adds the facts of a chip as metrics "chip.<fact>" where the profiles do not say which
    one it is. Raises BadInput when there is nothing to diagnose, UnknownName for a family.
    """
    if not profiles:
        raise BadInput("no kernel to diagnose", "name a report with at least one kernel")
    shares, notes = _shares(profiles)
    kernels = [_kernel(p, s, chip) for p, s in zip(profiles, shares, strict=True)]
    kernels.sort(key=lambda k: -k.share)
    bottlenecks = _ranked([f for k in kernels for f in k.bottlenecks])
    places = {(f.kernel, f.rule): f for f in bottlenecks}
    placed = [
        k.replace(bottlenecks=[places[f.kernel, f.rule] for f in k.bottlenecks]) for k in kernels
    ]
    return Diagnosis(kernels=tuple(placed), bottlenecks=tuple(bottlenecks), notes=notes)


def _shares(profiles: Sequence[Profile]) -> tuple[list[float], tuple[str, ...]]:
    """Each kernel's share of the time; equal ones, and a note, where a time is not known.

    What stands for the whole report has the share 1, and its time is what the others share.
    """
    parts = [p for p in profiles if not p.whole]
    times = [p.time_s for p in parts if p.time_s is not None]
    total = max([sum(times), *(p.time_s or 0.0 for p in profiles if p.whole)])
    if len(parts) > 1 and (len(times) < len(parts) or not total):
        text = "not every kernel's time is in the report: kernels are weighed equally"
        return [1.0 if p.whole else 1 / len(parts) for p in profiles], (text,)
    alone = len(profiles) == 1
    return [1.0 if p.whole or alone else (p.time_s or 0.0) / total for p in profiles], ()


def _kernel(profile: Profile, share: float, chip: Chip | None) -> KernelDiagnosis:
    values = {**_facts(chip), **{m.id: m for m in profile.metrics}}
    numbers = {name: m.value for name, m in values.items()}
    bottlenecks: list[Bottleneck] = []
    passed: list[str] = []
    unevaluated: list[Unevaluated] = []
    for rule in rulebook.rules(profile.family):
        ask = Evaluation(numbers, rule.let)
        try:
            found = _bottleneck(rule, ask, profile, share, values) if ask.holds(rule.when) else None
        except Missing as error:
            why = _why(profile, error.names)
            unevaluated.append(Unevaluated(rule=rule.id, needs=error.names, why=why))
            continue
        except Undefined as error:
            unevaluated.append(Unevaluated(rule=rule.id, needs=(), why=str(error)))
            continue
        if found is None:
            passed.append(rule.id)
        else:
            bottlenecks.append(found)
    return KernelDiagnosis(
        profile=profile, share=share, bottlenecks=tuple(_ranked(_explained(bottlenecks))),
        passed=tuple(passed), unevaluated=tuple(sorted(unevaluated, key=_nearness)),
        misplaced=misplaced(profile),
    )  # fmt: skip


def _nearness(rule: Unevaluated) -> tuple[bool, bool, int]:
    """Rules first of which something is known, then those that the same source could fill."""
    other = any(name.startswith(OTHER_SOURCES) for name in rule.needs)
    return not rule.why, other, len(rule.needs)


def _bottleneck(
    rule: rulebook.Rule, ask: Evaluation, profile: Profile, share: float,
    metrics: Mapping[str, Metric],
) -> Bottleneck | None:  # fmt: skip
    """The bottleneck of a rule that holds; None where its gain is nothing. Raises Missing."""
    gain = min(max(ask.value(rule.gain), 0.0), MOST) if rule.gain else None
    if gain is not None and gain < LEAST:
        return None
    says = rule.sentence(ask)
    return Bottleneck(
        rule=rule.id, kernel=profile.kernel, limit=rule.limit, says=says, move=rule.move,
        evidence=tuple(metrics[name] for name in ask.read), source=rule.source, gain=gain,
        formula=rule.formula(), severity=rule.severity, share=share,
        explained_by=rule.explained_by,
    )  # fmt: skip


def _explained(bottlenecks: Iterable[Bottleneck]) -> list[Bottleneck]:
    """Each with those bottlenecks only that do explain it here."""
    here = {f.rule: f for f in bottlenecks}
    return [
        f.replace(
            explained_by=[
                name
                for name in f.explained_by
                if name in here and _worth(here[name]) >= EXPLAINS * _worth(f)
            ]
        )
        for f in here.values()
    ]


def _worth(bottleneck: Bottleneck) -> float:
    return bottleneck.gain or 0.0


def _ranked(bottlenecks: Sequence[Bottleneck]) -> list[Bottleneck]:
    """In order of weight, symptoms after what explains them, numbered from 1."""
    here = {(f.kernel, f.rule): f for f in bottlenecks}

    def place(f: Bottleneck, seen: frozenset[str] = frozenset()) -> tuple[float, int]:
        """The least weight on the way to a cause without one of its own, and how long that is."""
        causes = [here[f.kernel, n] for n in f.explained_by if n not in seen]
        ways = [place(c, seen | {f.rule}) for c in causes]
        return min([f.weight, *(w for w, _ in ways)]), 1 + max((d for _, d in ways), default=-1)

    def key(f: Bottleneck) -> tuple[bool, float, int, int, str]:
        weight, depth = place(f)
        return f.gain is None, -weight, depth, SEVERITIES.index(f.severity), f.rule

    return [f.replace(rank=n) for n, f in enumerate(sorted(bottlenecks, key=key), 1)]


def _facts(chip: Chip | None) -> dict[str, Metric]:
    """The chip's facts that are numbers, as metrics."""
    if chip is None:
        return {}
    plain = {k: f for k, f in chip.facts.items() if isinstance(f.value, int | float)}
    made = [
        Metric(id=f"chip.{k}", value=float(f.value), unit=f.unit, source=f"chips/{chip.id}.toml")
        for k, f in plain.items()
    ]
    return {m.id: m for m in made}


def misplaced(profile: Profile) -> FrozenDict[str]:
    """Metrics of the profile that its chip does not have, by the family's table of names."""
    found: dict[str, str] = {}
    for metric in profile.metrics:
        entry = rulebook.find(profile.family, metric.id)
        if entry and entry.chips and profile.chip and profile.chip not in entry.chips:
            found[metric.id] = f"exists on {', '.join(entry.chips)}, not on {profile.chip}"
    return FrozenDict(found)


def _why(profile: Profile, missing: Iterable[str]) -> str:
    """What is known of metrics that are not there."""
    told = []
    for name in missing:
        entry = rulebook.find(profile.family, name)
        if name in profile.unreadable:
            told.append(f"{name}: {profile.unreadable[name]}")
        elif entry and entry.chips and profile.chip and profile.chip not in entry.chips:
            told.append(f"{name} exists on {', '.join(entry.chips)}, not on {profile.chip}")
    return "; ".join(told)
