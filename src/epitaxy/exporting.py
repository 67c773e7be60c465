"""A recorded candidate as a folder that a user can take away."""

from __future__ import annotations

import contextlib
from pathlib import Path

from epitaxy import unvouched
from epitaxy.candidate import Candidate
from epitaxy.cards import ExportCard
from epitaxy.chip import Chip
from epitaxy.chip_facts import find
from epitaxy.errors import BadInput, UnknownName
from epitaxy.ledger import Ledger
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.toolchain import Build, aimed
from epitaxy.verdict import Verdict


def built(candidate: Candidate, problem: Problem, chip: Chip | None) -> Build | None:
    """The candidate's library for the chip that it was judged for, which the toolchain still holds;
    None when it cannot be had. Without a chip: for the one that the toolchain takes then."""
    folder = Ledger.default_path().parent / "build"
    toolchain = (
        aimed(candidate.toolchain, chip) if chip else plugins("toolchains").get(candidate.toolchain)
    )
    build: Build = toolchain.build(candidate, problem, folder)
    return build if build.ok else None


def chip_judged(ledger: Ledger, verdict: Verdict) -> Chip | None:
    """The shipped chip of a verdict's machine; None where it names none."""
    with contextlib.suppress(UnknownName):
        return find(str(ledger.machine(verdict.machine).get("chip", "")))
    return None


def export_recorded(ledger: Ledger, id: str, out: Path, proven: bool = False) -> ExportCard:
    """Export an accepted candidate into `out`, one judged in full where it must be `proven`.

    Raises BadInput and UnknownName.
    """
    from epitaxy.product import export

    candidate = ledger.candidate(id)
    verdict = next((v for c, v in ledger.judged(candidate.problem) if c == candidate), None)
    problem = ledger.problem(candidate.problem)
    if verdict is None or not verdict.accepted:
        state = verdict.status.replace("_", " ") if verdict else "not judged"
        raise BadInput(f"{candidate.id} is {state}", "only accepted candidates are exported")
    if proven and verdict.plan != "full":
        raise BadInput(f"{candidate.id} was only screened", "judge it with the full plan first")
    profiles = ledger.profiles(candidate.digest, verdict.machine)
    build = built(candidate, problem, chip_judged(ledger, verdict))
    export(candidate, verdict, problem, out, build, profiles[0] if profiles else None)
    doubt = unvouched.note(ledger, problem.digest)
    return ExportCard(
        candidate=candidate.id,
        folder=str(out),
        model=str(out / "model_new.py"),
        files=tuple(sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())),
        headline="; ".join(filter(None, (_headline(verdict), doubt))),
    )


def _headline(verdict: Verdict) -> str:
    best = verdict.strongest
    if best is None:
        return f"{verdict.basis}; compared with no baseline"
    if best.outcome != "faster":
        return f"not shown to be faster than {best.baseline}"
    return f"{best.speedup:.2f}x as fast as {best.baseline} ({best.low:.2f}-{best.high:.2f})"
