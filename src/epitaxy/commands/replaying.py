"""Replaying: judging recorded candidates again, and whether the verdicts agree."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epitaxy import evidence
from epitaxy.candidate import Candidate
from epitaxy.commands.condition import apply
from epitaxy.commands.output import emit, line, note, open_ledger, print_table
from epitaxy.commands.run import machine_like
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.problem import Problem, load
from epitaxy.progress import milliseconds
from epitaxy.verdict import Verdict

EVIDENCE = ("evidence.json", "verdict.json")
"""Files that hold a problem, a candidate and its verdict: of an export, of a search."""
Recorded = tuple[Problem, Candidate, Verdict]


@dataclass(frozen=True)
class Agreement:
    """Two verdicts on one candidate side by side.

    `errors_agree`: the new errors are within the recorded limits, distribution by distribution;
    `times_agree`: the intervals of the speed-up over the strongest common baseline overlap. Both
    are None where there is nothing to compare: not accepted, or another machine.
    """

    candidate: str
    problem: str
    plan: str
    status_then: str
    status_now: str
    then: str
    now: str
    reason: str
    status_agrees: bool
    errors_agree: bool | None
    times_agree: bool | None


def agreement(name: str, candidate: Candidate, before: Verdict, after: Verdict) -> Agreement:
    """Compare a recorded verdict with a new one of the problem called `name`."""
    both = before.accepted and after.accepted
    return Agreement(
        candidate=candidate.id,
        problem=name,
        plan=before.plan,
        status_then=before.status,
        status_now=after.status,
        then=_figure(before),
        now=_figure(after),
        reason=after.reason,
        status_agrees=before.status == after.status,
        errors_agree=_errors_agree(before, after) if both else None,
        times_agree=_overlap(before, after) if both and before.machine == after.machine else None,
    )


def replay(
    records: Iterable[Recorded], judging: Callable[[Problem, Verdict, Candidate], Any]
) -> list[Agreement]:
    """Judge every record again under its own plan.

    `judging(problem, verdict, candidate)` gives a judge with the verdict's condition and threads,
    for candidates of the same toolchain that the same machine judged.
    """
    rows: list[Agreement] = []
    groups: dict[tuple[str | int, ...], list[Recorded]] = {}
    for record in records:
        problem, candidate, before = record
        place = (candidate.toolchain, before.machine, before.condition, before.threads)
        groups.setdefault((problem.digest, *place), []).append(record)
    total = sum(map(len, groups.values()))
    for group in groups.values():
        judge = judging(group[0][0], group[0][2], group[0][1])
        try:
            for problem, candidate, before in group:
                note(f"[{len(rows) + 1}/{total}] {problem.name} {candidate.id} {candidate.intent}")
                after = judge.judge(candidate, before.plan)
                rows.append(agreement(problem.name, candidate, before, after))
        finally:
            judge.close()
    return rows


def recorded(target: str, file: str, path: Path | None) -> list[Recorded]:
    """What to replay: a file or folder of evidence, one id, a problem's, or the whole ledger.

    Raises BadInput when there is nothing.
    """
    if target and file:
        raise BadInput("replay takes an id, a file or --problem, not two of them", "give one")
    if target and Path(target).exists():
        return [_evidence(Path(target))]
    with open_ledger(path) as ledger:
        if target:
            candidate = ledger.candidate(target)
            found = [(ledger.problem(candidate.problem), candidate, ledger.verdict(target))]
        else:
            problems = [load(file)] if file else ledger.problems()
            found = [(p, c, v) for p in problems for c, v in ledger.judged(p.digest)]
    if not found:
        raise BadInput("nothing recorded to replay", "run epitaxy optimize first")
    return found


def _evidence(path: Path) -> Recorded:
    """The records in an evidence file, or in a folder that holds one. Raises BadInput."""
    if path.is_dir():
        held = [path / name for name in EVIDENCE if (path / name).is_file()]
        if not held:
            raise BadInput(f"{path} holds no {' or '.join(EVIDENCE)}", "give an export's folder")
        path = held[0]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise BadInput(
            f"{path} holds no problem, candidate and verdict", "give a verdict.json or an export"
        ) from None
    found = evidence.read(data, path)
    return found.problem, found.candidate, found.verdict


def local_judge(
    problem: Problem, before: Verdict, candidate: Candidate, path: Path | None = None
) -> Any:
    """A judge under the condition of an earlier verdict, on the chip of the machine that the ledger
    at `path` holds for it, else on this machine."""
    from epitaxy.checked import judge_for

    known: Mapping[str, str] = {}
    with contextlib.suppress(EpitaxyError), open_ledger(path) as ledger:
        known = ledger.machine(before.machine)
    machine = apply(machine_like(known, candidate.toolchain), before.condition, before.threads)
    return judge_for(machine)(problem, machine)


def say(rows: Sequence[Agreement], as_json: bool) -> bool:
    """Print the rows and totals; whether every status agrees."""
    agreed = sum(row.status_agrees for row in rows)
    totals = {"total": len(rows), "status": agreed}
    for name in ("errors", "times"):
        said = [getattr(row, f"{name}_agree") for row in rows]
        totals |= {name: said.count(True), f"{name}_compared": len(said) - said.count(None)}
    if as_json:
        emit({"rows": [asdict(row) for row in rows], "agreed": totals})
        return agreed == len(rows)
    header = ("candidate", "problem", "plan", "then", "now", "status", "errors", "times")
    print_table(header, [_cells(row) for row in rows])
    line(
        f"status: {agreed} of {len(rows)} agree; errors within the recorded limits: "
        f"{totals['errors']} of {totals['errors_compared']}; speed-up intervals overlap: "
        f"{totals['times']} of {totals['times_compared']}"
    )
    return agreed == len(rows)


def _cells(row: Agreement) -> tuple[str, ...]:
    words = {True: "agrees", False: "DIFFERS", None: "–"}
    marks = (words[x] for x in (row.status_agrees, row.errors_agree, row.times_agree))
    now = row.now if row.status_agrees else f"{row.now}: {row.reason}" if row.reason else row.now
    return row.candidate, row.problem, row.plan, row.then, now, *marks


def _errors_agree(before: Verdict, after: Verdict) -> bool:
    limits = {row.distribution: row.limit for row in before.errors}
    return all(row.error <= limits.get(row.distribution, row.limit) for row in after.errors)


def _overlap(before: Verdict, after: Verdict) -> bool | None:
    then = {c.baseline: c for c in before.comparisons}
    common = [(then[c.baseline], c) for c in after.comparisons if c.baseline in then]
    if not common:
        return None
    old, new = min(common, key=lambda pair: pair[0].speedup)
    return old.low <= new.high and new.low <= old.high


def _figure(verdict: Verdict) -> str:
    best = verdict.strongest
    if best is None:
        return verdict.status.replace("_", " ")
    return f"{milliseconds(verdict.time_s)} {best.low:.2f}–{best.high:.2f}x"
