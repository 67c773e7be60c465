"""Correct: what the judge asks of outputs before its clock starts.

`check` compares them on every distribution. `harsh` makes a few calls in processes that show what
ordinary calls forgive: there the ends of all tensors are fenced, what lies beyond the inputs
changes from call to call (`worker.fences`), and fresh memory is spoiled. One of them runs the
candidate's own library, another the same sources built to check the bounds of arrays and to spoil
variables never set (`compiler.harsh_flags`). Where the policy does not list PyTorch, one more
records which of its operators run (`worker.trace`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.cases import Cases, Repeats
from epitaxy.guards import Refused, refusal
from epitaxy.machine import Job, WorkerFailure
from epitaxy.plugin import plugins
from epitaxy.reload import Reload
from epitaxy.timing import Plan
from epitaxy.toolchain import Harsh
from epitaxy.verdict import ErrorRow, Finding
from epitaxy.worker.fences import SURROUNDINGS

REPEATS = 8
"""Calls on the same inputs before timing, where the same bits are asked for."""
CALLS = {"fences": SURROUNDINGS, "traced": 1, "bounds": 2}
"""How many: what surrounds the inputs changes with every call."""

MENDS = {
    "fences": "stay within every tensor, and set what you read",
    "traced": "compute it yourself, or list torch in the problem's policy",
    "bounds": "keep indices within their arrays, and set every variable before you read it",
}


UNFENCED = "no fence stood around its outputs: it makes them neither by torch.empty nor empty_like"
_MEANING = {
    "fences": "its outputs depend on what lies beyond the ends of its tensors",
    "traced": "its outputs differ when its operators are watched",
    "bounds": "its outputs depend on variables that it never set",
}


@dataclass(frozen=True)
class Place:
    """Where the calls are made: a machine, the judge's cases, how it prepares a worker, the slots
    that this fills, which guards are on, and other parameters."""

    machine: Any
    cases: Cases
    prepare: Callable[[Any], None]
    slots: Sequence[int]
    on: Callable[[str], bool]
    reload: Reload


def check(place: Place, worker: Any, chosen: Plan, facts: dict[str, Any], cases: Repeats) -> None:
    """Errors by distribution into `facts`; refuses at the first that is over its limit.

    Raises Refused. The timed contents are in the slots afterwards.
    """
    rows = facts["errors"] = []
    total = cases.count
    numbers = range(total) if not chosen.cases else range(min(total, chosen.cases + 1))
    for number in numbers if place.on("distributions") else range(2):
        if cases.usable(number):
            rows.append(_row(place, worker, number, cases))
            _accept(place, worker, cases, number, rows[-1])
    for slot in place.slots:
        worker.write(slot, cases.get(slot).inputs)
    for _ in range(REPEATS if cases.problem.policy.deterministic else 0):
        worker.burst([0])
        cases.error(worker.outputs(), cases.get(0))


def steady(cases: Repeats) -> None:
    """Refuse what differs from call to call where the policy asks for the same bits."""
    if cases.problem.policy.deterministic and cases.determinism != "bitwise":
        raise refusal(
            "determinism",
            "its outputs differ from call to call on the same inputs",
            "add in a fixed order: no atomics, no sums over threads as they finish",
        )


def _row(place: Place, worker: Any, number: int, cases: Repeats) -> ErrorRow:
    case, slot = cases.get(number), number % len(place.slots)
    if number >= len(place.slots):
        worker.write(slot, case.inputs)
    worker.burst([slot])
    outputs = worker.outputs()
    return ErrorRow(
        distribution=case.distribution,
        error=cases.error(outputs, case) if place.on("oracle") else 0.0,
        honest=cases.honest(case),
        limit=cases.limit(case),
    )


def _accept(place: Place, worker: Any, cases: Repeats, number: int, row: ErrorRow) -> None:
    case = cases.get(number)
    if not row.ok:
        raise Refused("incorrect", *cases.too_far(row, case))
    after = worker.inputs(number % len(place.slots)) if place.on("inputs") else []
    kept = [x for x in case.inputs if hasattr(x, "dtype")]
    if after and not cases.reference.same([x for x in after if x is not None], kept):
        raise refusal("inputs", "it writes to its inputs", "write to fresh tensors")


def harsh(place: Place, candidate: Candidate, job: Job, cache: Path) -> list[Finding]:
    """Try a built candidate in each process whose guard is on; notes on what could not be done.

    Raises Refused.
    """
    folders = {"fences": job.folder}
    if "torch" not in place.cases.problem.policy.libraries:
        folders["traced"] = job.folder
    notes: list[Finding] = []
    if place.on("bounds"):
        folders["bounds"], notes = _folder(place, candidate, cache)
    for guard, folder in folders.items():
        if folder and place.on(guard):
            kind = {"traced": True} if guard == "traced" else {"fenced": True}
            with place.machine.start(job.replace(folder=folder, **kind)) as worker:
                _try(place, guard, worker)
                if guard == "fences" and _elsewhere(place.machine) and worker.unfenced:
                    notes.append(Finding(check=guard, severity="note", message=UNFENCED))
    if place.on("reload") and place.on("oracle") and place.reload.state:
        _reloaded(place, job)
    return notes


def _elsewhere(machine: Any) -> bool:
    """Whether its calls are made on another device than the CPU."""
    return bool(getattr(machine, "device", "cpu") != "cpu")


def _reloaded(place: Place, job: Job) -> None:
    with place.machine.start(job) as worker:
        place.prepare(worker)
        worker.burst([place.slots[0]])
        worker.prepare([], place.reload.state)
        worker.burst([place.slots[0]])
        if not place.reload.error(worker.outputs()) <= 1:
            raise refusal(
                "reload",
                "after other parameters were loaded it answers by the old ones",
                "pack weights again when a parameter's version changes",
            )


def _try(place: Place, guard: str, worker: Any) -> None:
    try:
        place.prepare(worker)
        for call in range(CALLS[guard]):
            slot = place.slots[call % len(place.slots)]
            worker.burst([slot])
            case = place.cases.get(slot)
            error = place.cases.error(worker.outputs(), case)
            if place.on("oracle") and not error <= place.cases.limit(case):
                raise _refused(guard, "incorrect", f"{_MEANING[guard]} (error {error:.2g})")
    except WorkerFailure as failure:
        raise _refused(guard, failure.kind, failure.message) from None


def _refused(guard: str, status: str, message: str) -> Refused:
    finding = Finding(check=guard, severity="refusal", message=message, mend=MENDS[guard])
    return Refused(status, f"{guard}: {message}", finding)


def _folder(place: Place, candidate: Candidate, cache: Path) -> tuple[str, list[Finding]]:
    """Where the candidate lies built with its bounds checked; "" and a note when it cannot be.

    That its toolchain has no such build, or its compiler refuses it so and not otherwise, says
    nothing about the candidate.
    """
    toolchain = plugins("toolchains").get(candidate.toolchain)
    if _elsewhere(place.machine):
        why = f"{candidate.toolchain} runs on the device itself, where nothing checks them"
    elif isinstance(toolchain, Harsh):
        build = toolchain.build_harsh(candidate, place.cases.problem, cache)
        if build.ok:
            return build.folder, []
        why = build.log.strip()[:200]
    else:
        why = f"the {candidate.toolchain} toolchain has no such build"
    message = f"not built with bounds checked: {why}"
    return "", [Finding(check="bounds", severity="note", message=message)]
