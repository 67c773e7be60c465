"""What others found out, as cards: lessons of earlier problems, diagnoses of profilers' reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.cards import AblationCard, DiagnosisCard, LessonCard, LessonsCard, ProfileCard
from epitaxy.chip import Chip
from epitaxy.diagnose import diagnose
from epitaxy.knowledge import Found, search
from epitaxy.ledger import Ledger
from epitaxy.metric import Diagnosis, Finding
from epitaxy.problem import Problem
from epitaxy.readers.evidence import profile_of
from epitaxy.record import FrozenDict
from epitaxy.verdict import Verdict

Say = Callable[[str], None]
FINDINGS = 8
"""Findings shown: who can try one move at a time needs no more."""
UNASKED = 12
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


def of_verdict(candidate: Candidate, verdict: Verdict) -> tuple[Finding, ...]:
    """What the figures of an accepted verdict alone say of its limits, the heaviest first."""
    if not verdict.accepted or not verdict.metrics:
        return ()
    return diagnose([profile_of(verdict, candidate)]).findings[:WITH_A_VERDICT]


def profile(
    candidate: Candidate, problem: Problem, machine: Any, ablations: Sequence[str], say: Say
) -> ProfileCard:
    """Profile a candidate on a machine and say what limits it.

    Raises BadCandidate for one that does not build or run, UnknownName for an ablation.
    """
    from epitaxy.profiling.profile import profile as measured

    found = measured(candidate, problem, machine, ablations=ablations, tell=say)
    rows = [
        AblationCard(name=name, ratio=c.speedup, low=c.low, high=c.high)
        for name, c in found.ablations.items()
    ]
    return ProfileCard(
        candidate=candidate.id,
        time_s=found.profile.time_s,
        ablations=tuple(sorted(rows, key=lambda row: row.ratio)),
        failed=found.failed,
        loop=found.loop.summary if found.loop else "no loop was found",
        metrics=FrozenDict(found.profile.values),
        diagnosis=diagnosis_card(diagnose([found.profile])),
        notes=found.profile.notes,
    )


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
        findings=found.findings[:FINDINGS],
        unasked=FrozenDict(_first(unasked)),
        unknown=tuple(dict.fromkeys(unknown))[:UNASKED],
        notes=found.notes,
        left_out=max(0, len(found.findings) - FINDINGS),
    )


def _first(unasked: dict[str, str]) -> dict[str, str]:
    names: Sequence[str] = list(unasked)[:UNASKED]
    return {name: unasked[name] for name in names}
