"""A recorded candidate as a folder that a user can take away."""

from __future__ import annotations

from pathlib import Path

from epitaxy import unvouched
from epitaxy.candidate import Candidate
from epitaxy.cards import ExportCard
from epitaxy.errors import BadInput
from epitaxy.ledger import Ledger
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.toolchain import Build
from epitaxy.verdict import Verdict


def built(candidate: Candidate, problem: Problem) -> Build | None:
    """The candidate's library, which the toolchain still holds; None when it cannot be had."""
    folder = Ledger.default_path().parent / "build"
    build: Build = plugins("toolchains").get(candidate.toolchain).build(candidate, problem, folder)
    return build if build.ok else None


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
    build = built(candidate, problem)
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
