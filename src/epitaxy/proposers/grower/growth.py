"""What can be grown of a reference: its program with regions that the generator can write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import Unsupported, emit_region
from epitaxy.proposers.grower.forward import write_forward
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.program import Program, RegionCall


@dataclass(frozen=True)
class Growth:
    """A captured program, its regions, and the forward text that all its candidates share."""

    program: Program
    regions: tuple[Region, ...]
    forward: str


def grow_program(reference: Any) -> Growth:
    """Capture `reference` on inputs of a fixed seed. Raises BadProblem."""
    inputs = reference.inputs(0)
    program = capture(reference.model, inputs, accept=writable)
    regions = tuple(s.region for s in program.steps if isinstance(s, RegionCall))
    constants = [
        x for x, spec in zip(inputs, reference.problem.inputs, strict=True) if spec is None
    ]
    return Growth(program, regions, write_forward(program, reference.problem, constants))


def writable(region: Region) -> bool:
    """Whether the generator can write the region at all."""
    try:
        emit_region(region, Choices())
    except Unsupported:
        return False
    return True
