"""How much of the framework's time the regions of a program take, measured: where to search.

By Amdahl's law a region that takes a twentieth of the time is worth a twentieth at most, however
fast it grows. The times are hints for the search alone; the judge measures whole candidates.
"""

from __future__ import annotations

import operator
import time
from typing import Any

import torch

from epitaxy.proposers.grower.interpret import called
from epitaxy.proposers.grower.program import Program, RegionCall

RUNS = 3


def shares(reference: Any, program: Program) -> dict[str, float]:
    """Region name -> its share of the time that PyTorch takes for the whole program (0 to 1).

    Empty where a region has no such form, or PyTorch cannot run it.
    """
    steps = [s for s in program.steps if isinstance(s, RegionCall)]
    if any(not s.framework for s in steps):
        return {}
    times: dict[str, float] = {}
    try:
        with torch.no_grad():
            run(reference, program, {})  # allocates, and chooses its kernels
            for _ in range(RUNS):
                run(reference, program, times)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError):
        return {}
    total = sum(times.values()) or 1.0
    return {s.region.name: times.get(s.region.name, 0.0) / total for s in steps}


def run(reference: Any, program: Program, times: dict[str, float]) -> list[Any]:
    """The program's outputs by the framework alone, on inputs of a fixed seed; adds the seconds
    of each region, and of all calls between them ("framework"), to `times`."""
    values: dict[str, Any] = {
        name: operator.attrgetter(path)(reference.model) for name, path in program.state
    }
    for name, given in zip(program.inputs, reference.inputs(0), strict=True):
        if name is not None:
            values[name] = given
    for step in program.steps:
        calls = step.framework if isinstance(step, RegionCall) else (step,)
        who = step.region.name if isinstance(step, RegionCall) else "framework"
        start_s = time.perf_counter()
        for call in calls:
            values.update(zip(call.results, called(call, values), strict=False))
        times[who] = times.get(who, 0.0) + time.perf_counter() - start_s
    return [values[name] for name in program.outputs]
