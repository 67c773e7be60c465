"""Judging outside a search: one candidate, from a folder or from the ledger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.commands.condition import apply
from epitaxy.commands.output import note, open_ledger
from epitaxy.commands.run import chip_of, open_machine
from epitaxy.errors import BadInput
from epitaxy.handmade import read_folder
from epitaxy.problem import Problem, load
from epitaxy.report import Run
from epitaxy.verdict import Verdict

_ID = re.compile("[0-9a-f]+")


@dataclass(frozen=True)
class Where:
    """What a candidate is judged on: a machine, or a chip that is not here by a toolchain."""

    chip: str = "local"
    toolchain: str = ""
    condition: str = "warm"
    threads: int = 0


def judge_one(
    target: str, file: str, path: Path | None, where: Where | None = None,
    policy: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """Judge a folder's sources or a recorded candidate, and record the verdict.

    `policy` sets fields of the problem's policy. Raises BadInput where `target` is neither.
    """
    from epitaxy.checked import judge_for

    folder = Path(target)
    if not (folder.exists() or _ID.fullmatch(target)):
        raise BadInput(
            f"no such file or folder: {target}",
            "give a candidate's id, a folder of sources or a Python file",
        )
    where = where or Where()
    chip = chip_of(where.chip)
    problem = load(file, **(policy or {}))
    with open_ledger(path) as ledger:
        candidate = (
            read_folder(folder, problem, toolchain=where.toolchain, chip=chip)
            if folder.exists()
            else recorded(ledger, target, problem)
        )
        found = open_machine(where.chip, candidate.toolchain if chip else "")
        machine = apply(found, where.condition, where.threads)
        judge = judge_for(machine)(problem, machine)
        try:
            verdict: Verdict = judge.judge(candidate, plan="full")
        finally:
            judge.close()
        for found in judge.notes:
            if found.severity == "warning":
                note(f"warning: {found.message}" + (f" — {found.mend}" if found.mend else ""))
        ledger.add_problem(problem)
        ledger.add_machine(machine.fingerprint())
        ledger.add_candidate(candidate)
        ledger.add_verdict(verdict)
    best = (candidate, verdict) if verdict.accepted else None
    chip = machine.chip()
    return Run(
        problem=problem, judged=((candidate, verdict),), best=best, chip=chip, stop_reason="judged"
    )


def recorded(ledger: Any, target: str, problem: Problem) -> Candidate:
    """A recorded candidate; for the same problem under another policy, taken over to this one."""
    candidate: Candidate = ledger.candidate(target)
    if candidate.problem == problem.digest:
        return candidate
    its = ledger.problem(candidate.problem)
    if its.replace(policy=problem.policy).digest == problem.digest:
        return candidate.replace(problem=problem.digest)
    return candidate
