"""What others found out, as cards: lessons of earlier problems, diagnoses of profilers' reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.cards import AblationCard, DiagnosisCard, LessonCard, LessonsCard, ProfileCard
from epitaxy.chip import Chip
from epitaxy.diagnose import diagnose
from epitaxy.knowledge import Found, search
from epitaxy.ledger import Ledger
from epitaxy.metric import Bottleneck, Diagnosis, Profiled
from epitaxy.problem import Problem
from epitaxy.profiled import kept
from epitaxy.readers.evidence import profile_of
from epitaxy.record import FrozenDict
from epitaxy.verdict import Verdict

Say = Callable[[str], None]
BOTTLENECKS = 8
"""Bottlenecks shown: who can try one move at a time needs no more."""
UNASKED = 12
_ABLATION, _RATIO = "ablation.", ".time_ratio"
WITH_A_VERDICT = 3


def lessons(problem: Problem, ledger: Ledger, machine: Any, most: int) -> LessonsCard:
    """The lessons nearest to a problem on a machine, own and imported ones."""
    found = search(problem, ledger, machine=machine, most=most)
    note = "" if found else "nothing is known yet of a problem like this one"
    return LessonsCard(lessons=tuple(map(_lesson, found)), note=note)


def _lesson(found: Found) -> LessonCard:
    it = found.lesson
    return LessonCard(
        told=it.told,
        kind=it.kind,
        effect=it.effect,
        likeness=found.score,
        candidate="" if it.origin else it.candidate[:12],
    )


def of_verdict(candidate: Candidate, verdict: Verdict) -> tuple[Bottleneck, ...]:
    """What the figures of an accepted verdict alone say of its limits, the heaviest first."""
    if not verdict.accepted or not verdict.metrics:
        return ()
    return diagnose([profile_of(verdict, candidate)]).bottlenecks[:WITH_A_VERDICT]


def profile(
    candidate: Candidate, problem: Problem, machine: Any, ablations: Sequence[str], say: Say
) -> Profiled:
    """Profile a candidate on a machine.

    Raises BadCandidate for one that does not build or run, UnknownName for an ablation.
    """
    from epitaxy.profiling.profile import profile as measured

    found = measured(candidate, problem, machine, ablations=ablations, tell=say)
    return kept(found, candidate, machine)


def profile_card(taken: Profiled) -> ProfileCard:
    """A profile as it was kept, and what limits the candidate by it."""
    it, values = taken.profile, taken.profile.values
    rows = [
        AblationCard(
            name=name, ratio=values[f"{_ABLATION}{name}{_RATIO}"],
            low=values.get(f"{_ABLATION}{name}.low"),
            high=values.get(f"{_ABLATION}{name}.high"),
        )
        for name in _ablations(values)
    ]  # fmt: skip
    return ProfileCard(
        candidate=taken.candidate[:12],
        taken_unix_s=taken.taken_unix_s,
        time_s=it.time_s,
        ablations=tuple(sorted(rows, key=lambda row: row.ratio)),
        failed=FrozenDict({_variant(n): why for n, why in it.unreadable.items() if _variant(n)}),
        loop=taken.loop,
        metrics=FrozenDict(values),
        diagnosis=diagnosis_card(diagnose([it])),
        notes=it.notes,
    )


def _variant(metric: str) -> str:
    """The variant whose time ratio a metric is; "" for others."""
    named = metric.startswith(_ABLATION) and metric.endswith(_RATIO)
    return metric.removeprefix(_ABLATION).removesuffix(_RATIO) if named else ""


def _ablations(values: Mapping[str, float]) -> list[str]:
    return [name for name in map(_variant, values) if name]


def report(path: Path, kernel: str, chip: Chip | None) -> DiagnosisCard:
    """What limits the kernels of a profiler's report. Raises BadInput, UnknownName."""
    from epitaxy import reports

    profiles = reports.load(path)
    profiles = reports.only(profiles, kernel) if kernel else profiles
    profiles = reports.on_chip(profiles, chip) if chip is not None else profiles
    return diagnosis_card(diagnose(profiles, chip))


def diagnosis_card(found: Diagnosis) -> DiagnosisCard:
    """A diagnosis cut to what matters for the next step; what is left out is counted."""
    unasked: dict[str, str] = {}
    unknown: list[str] = []
    for kernel in found.kernels:
        unknown += kernel.profile.unknown
        for one in kernel.unevaluated:
            unasked.setdefault(one.rule, one.why or f"needs {', '.join(one.needs)}")
    return DiagnosisCard(
        kernels=tuple(k.profile.kernel for k in found.kernels),
        bottlenecks=found.bottlenecks[:BOTTLENECKS],
        unasked=FrozenDict(_first(unasked)),
        unknown=tuple(dict.fromkeys(unknown))[:UNASKED],
        notes=found.notes,
        left_out=max(0, len(found.bottlenecks) - BOTTLENECKS),
    )


def _first(unasked: dict[str, str]) -> dict[str, str]:
    names: Sequence[str] = list(unasked)[:UNASKED]
    return {name: unasked[name] for name in names}
