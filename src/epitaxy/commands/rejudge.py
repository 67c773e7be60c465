"""Judging outside a search: one candidate from a folder, or recorded ones again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.commands.output import note, open_ledger
from epitaxy.commands.run import open_machine
from epitaxy.errors import BadCandidate, BadInput
from epitaxy.problem import Problem, load
from epitaxy.progress import milliseconds
from epitaxy.record import FrozenDict
from epitaxy.report import Run
from epitaxy.verdict import Verdict

ENTRIES = {"forward.py": "cpp", "model_new.py": "null"}
"""The file that a folder must hold, and the toolchain that it implies."""
SOURCES = {".py", ".cpp", ".cc", ".c", ".h", ".hpp"}


def judge_one(target: str, file: str, path: Path | None) -> Run:
    """Judge a folder's sources or a recorded candidate, and record the verdict."""
    problem = load(file)
    with open_ledger(path) as ledger:
        folder = Path(target)
        candidate = read_folder(folder, problem) if folder.is_dir() else ledger.candidate(target)
        verdict = _judge(problem, candidate)
        _record(ledger, problem, candidate, verdict)
    best = (candidate, verdict) if verdict.accepted else None
    chip = open_machine("local").chip()
    return Run(
        problem=problem, judged=((candidate, verdict),), best=best, chip=chip, stop_reason="judged"
    )


def read_folder(folder: Path, problem: Problem) -> Candidate:
    """The candidate whose sources lie in `folder`. Raises BadCandidate."""
    entry = next((name for name in ENTRIES if (folder / name).is_file()), None)
    if entry is None:
        raise BadCandidate(
            f"{folder} holds no {' or '.join(ENTRIES)}", "add the file to start from"
        )
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix in SOURCES and p.is_file())
        files = {p.name: p.read_text(encoding="utf-8") for p in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise BadCandidate(
            f"cannot read {folder}: {error}", "give readable UTF-8 sources"
        ) from None
    return Candidate(
        problem=problem.digest,
        toolchain=ENTRIES[entry],
        files=FrozenDict(files),
        entry=entry,
        proposer="hand",
        intent=f"from {folder.name}",
    )


def replay_all(id: str, file: str, path: Path | None) -> list[dict[str, Any]]:
    """Judge one recorded candidate, or all of a problem's, again; one row for each."""
    if bool(id) == bool(file):
        raise BadInput(
            "replay needs a candidate's id or --problem, not both", "give one of the two"
        )
    with open_ledger(path) as ledger:
        if id:
            candidate = ledger.candidate(id)
            pairs = [(candidate, ledger.verdict(candidate.digest))]
            problem = ledger.problem(candidate.problem)
        else:
            problem = load(file)
            pairs = list(ledger.judged(problem.digest))
        if not pairs or pairs[0][1] is None:
            raise BadInput("nothing recorded to replay", "run epitaxy optimize first")
        rows = []
        for number, (candidate, before) in enumerate(pairs, 1):
            note(f"[{number}/{len(pairs)}] {candidate.id} {candidate.intent}")
            after = _judge(problem, candidate)
            _record(ledger, problem, candidate, after)
            rows.append(agreement(candidate, before, after))
        return rows


def agreement(candidate: Candidate, before: Verdict, after: Verdict) -> dict[str, Any]:
    """Whether two verdicts say the same: equal status, and for accepted ones no contradiction.

    Two accepted verdicts contradict when the intervals of their speed-ups over the strongest
    common baseline do not overlap.
    """
    agrees = before.status == after.status and _overlap(before, after)
    return {
        "candidate": candidate.id,
        "status_then": before.status,
        "status_now": after.status,
        "then": _figure(before),
        "now": _figure(after),
        "agrees": agrees,
    }


def _overlap(before: Verdict, after: Verdict) -> bool:
    then = {c.baseline: c for c in before.comparisons}
    common = [(then[c.baseline], c) for c in after.comparisons if c.baseline in then]
    if not common:
        return True
    old, new = min(common, key=lambda pair: pair[0].speedup)
    return old.low <= new.high and new.low <= old.high


def _figure(verdict: Verdict) -> str:
    best = verdict.strongest
    return f"{milliseconds(verdict.time_s)} {best.low:.2f}–{best.high:.2f}x" if best else "–"


def _judge(problem: Problem, candidate: Candidate) -> Verdict:
    from epitaxy.judge import Judge

    found: Verdict = Judge(problem, open_machine("local")).judge(candidate, plan="full")
    return found


def _record(ledger: Any, problem: Problem, candidate: Candidate, verdict: Verdict) -> None:
    raise NotImplementedError
