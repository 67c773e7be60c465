"""What judging on a chip with compilers of its own asks besides: that the candidate is built for
it, the joules of a call, and what static metrics predict, to be held against times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epitaxy import timing
from epitaxy.guards import refusal
from epitaxy.machine import Job
from epitaxy.measure import AGAIN, OURS, Measurement
from epitaxy.plugin import plugins
from epitaxy.predict import predicted_cost
from epitaxy.problem import Problem
from epitaxy.record import printable
from epitaxy.toolchain import Availability, Crossing
from epitaxy.verdict import Finding, Floor


def at_home(toolchain: str, machine: Any) -> None:
    """Refuse what is built for a chip that this machine neither is nor stands in for: it would run
    as the reference that it falls back to."""
    own = getattr(machine, "toolchains", None)
    crosses = isinstance(plugins("toolchains").get(toolchain), Crossing)
    if crosses and toolchain not in (own or ()):
        raise refusal(
            "toolchain", f"{toolchain} builds for a chip that is not here", "name it with --chip"
        )
    if getattr(machine, "device", "cpu") != "cpu" and toolchain not in (own or ()):
        mend = "judge it with --chip cpu"
        raise refusal("toolchain", f"{toolchain} builds for the CPU, not for the GPU here", mend)


def read(
    machine: Any, job: Job, workers: Mapping[str, Any], measured: Measurement, facts: dict[str, Any]
) -> None:
    """What the device tells of a candidate that was timed: its memory, and where the plan has
    several processes its energy. Raises Refused."""
    memory(machine, job, workers[OURS], facts)
    if measured.plan.processes > 1:
        energy(machine, workers, measured, facts)


def memory(machine: Any, job: Job, worker: Any, facts: dict[str, Any]) -> None:
    """Refuse a worker that holds more of the device's memory than its share.

    A machine without a method `held` has no such memory; what it cannot tell is a note. Raises
    Refused.
    """
    ask = getattr(machine, "held", None)
    if ask is None:
        return
    try:
        found = ask(worker, job)
    except Exception as error:  # NVML's, whose errors have no name here
        found = Availability(ok=False, detail=f"{type(error).__name__}: {error}")
    if isinstance(found, Availability):
        why = printable(f"{found.detail} ({found.mend})" if found.mend else found.detail)[:200]
        message = f"the device's memory is bounded by PyTorch's allocator alone: {why}"
        facts["findings"].append(Finding(check="memory", severity="note", message=message))
        return
    held, share = found
    if held > share:
        raise refusal(
            "memory",
            f"it holds {held >> 20} MiB of the device's memory; its share is {share >> 20} MiB",
            "take less, and give back what you take",
        )


def energy(
    machine: Any, workers: Mapping[str, Any], measured: Measurement, facts: dict[str, Any]
) -> None:
    """Joules of a call of the candidate, and of the fastest baseline as a metric, into `facts`.

    A machine without a method `energy_j` has nothing to say; a meter that is absent, or anything
    that fails while it is read, is a note: it says nothing about the candidate.
    """
    ask = getattr(machine, "energy_j", None)
    if ask is None:
        return
    times = {n: timing.median(measured.times(n)) for n in workers if n != AGAIN}
    try:
        found = ask(workers[OURS], times[OURS])
        if isinstance(found, Availability):
            _unmetered(facts, f"{found.detail} ({found.mend})")
            return
        facts["energy_j"] = float(found)
        others = {n: t for n, t in times.items() if n != OURS}
        if others:
            name = min(others, key=others.__getitem__)
            own = float(ask(workers[name], others[name]))
            facts["metrics"] = {**facts.get("metrics", {}), f"energy_j {name}": own}
    except Exception as error:  # also NVML's, whose errors have no name here
        _unmetered(facts, f"{type(error).__name__}: {error}")


def _unmetered(facts: dict[str, Any], why: str) -> None:
    message = f"energy was not measured: {printable(why)[:200]}"
    facts["findings"].append(Finding(check="energy", severity="note", message=message))


def predicted(
    problem: Problem, chip: Any, metrics: Mapping[str, float], limit: Floor
) -> dict[str, float]:
    """What static metrics predict (`predict.py`), as a metric; none where they say too little."""
    if not metrics.get("occupancy") and not metrics.get("bytes_moved"):
        return {}
    return {"predicted_cost": predicted_cost(metrics, problem.work, chip, limit)}
