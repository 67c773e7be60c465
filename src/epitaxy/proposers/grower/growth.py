"""What can be grown of a reference: its program with regions that the generator can write."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from epitaxy.errors import BadEnvironment
from epitaxy.problem import Problem, Work
from epitaxy.proposers.grower import emit_recurrent
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.algebra_forms import Rewriting, rewriting
from epitaxy.proposers.grower.algebra_masks import TRIANGLE, products
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.chains import Chain, chained
from epitaxy.proposers.grower.contract import memory
from epitaxy.proposers.grower.emit import Unsupported, emit_region
from epitaxy.proposers.grower.emit_keep import made_first
from epitaxy.proposers.grower.emit_winograd import WINDOW, WINOGRAD, windows_of
from epitaxy.proposers.grower.forward import write_forward
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.made import made_as
from epitaxy.proposers.grower.program import (
    Program,
    RegionCall,
    merged,
    with_weights,
    without,
)
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.space_routed import flops

_ONCE: Mapping[str, int] = {}
ROUNDED = 1e-6
"""Shares of a work that are no saving: shares of a triangle are counted in floating point."""


@dataclass(frozen=True)
class Growth:
    """A captured program, its regions, and the forward text that all its candidates share."""

    program: Program
    regions: tuple[Region, ...]
    forward: str
    problem: Problem
    constants: tuple[Any, ...] = ()

    def chained(
        self, left: frozenset[str], written: Mapping[str, Region], apart: Mapping[str, int]
    ) -> tuple[str, tuple[Chain, ...]]:
        """The forward text with some regions, by name, left to the framework, and the chains that
        it calls; `written` and `apart` as for `chains.chained`."""
        program, chains = chained(without(self.program, left), written, apart)
        if not left and not chains:
            return self.forward, ()
        return write_forward(program, self.problem, self.constants), chains


def grow_program(
    reference: Any, accept: Callable[[Region], bool] | None = None, language: str = "C++"
) -> Growth:
    """Capture `reference` on inputs of a fixed seed; `accept` says which regions can be written.

    Raises BadProblem.
    """
    parts = made_as(reference.model)  # before anything runs
    inputs = reference.inputs(0)
    program = capture(reference.model, inputs, accept=accept or writable)
    program = replace(program, made_as=parts)
    if reference.problem.policy.weights == "frozen":
        program = with_weights(program, multiplied_inputs)
    if language == "C++":
        program = merged(program, _text)
    found = {s.region.name: s.region for s in program.steps if isinstance(s, RegionCall)}
    regions = tuple(found.values())
    constants = [
        x for x, spec in zip(inputs, reference.problem.inputs, strict=True) if spec is None
    ]
    forward = write_forward(program, reference.problem, constants, language)
    return Growth(program, regions, forward, reference.problem, tuple(constants))


def multiplied_inputs(region: Region) -> frozenset[int]:
    """Inputs that products of the region read as they stand, or the filters of its convolutions
    are made of: copies of these may be kept."""
    if region.recurrence is not None:
        return emit_recurrent.multiplied(region.recurrence)
    if region.whole:
        return frozenset()
    kernels = plan(coalesce(region), Choices()).kernels
    products = [k.contraction for k in kernels if k.contraction]
    loads = [memory(operand) for p in products for operand in (p.left, p.right)]
    made = made_first(kernels, len(region.inputs)).values()
    found = {load.buffer for load in loads if load}.union(*(m.sources for m in made))
    return frozenset(found) & set(range(len(region.inputs)))


def writable(region: Region) -> bool:
    """Whether the generator can write the region at all."""
    return bool(_text(region))


def _text(region: Region) -> str:
    """The region as C++; "" where the generator cannot write it."""
    try:
        return emit_region(region, Choices())
    except Unsupported:
        return ""


def cheaper(regions: Sequence[Region], finite: bool) -> dict[str, Rewriting]:
    """The algebraically cheaper forms that the generator can write, by region.

    `finite`: the problem's policy tries neither NaN nor infinities. Without egglog there are
    none, which is said once.
    """
    found: dict[str, Rewriting] = {}
    for region in regions:
        try:
            made = rewriting(region, finite)
        except BadEnvironment as missing:
            warnings.warn(f"no algebra is looked for: {missing}", stacklevel=2)
            return {}
        if made is not None and writable(made.region):
            found[region.name] = made
    return found


def own_work(
    reference: Work, captured: Sequence[Region], written: Sequence[Region], genome: Genome,
    called: Mapping[str, int] = _ONCE,
) -> tuple[Work | None, tuple[str, ...]]:  # fmt: skip
    """The work of a candidate whose regions are `written`, None where it is the reference's, and
    the rules by which it does less than the regions as `captured` say. `called`: how often, by
    name, a region is called; once where it does not say."""
    saved = 0.0
    rules: list[str] = []
    for before, after in zip(captured, written, strict=True):
        times = called.get(before.name, 1)
        transformed = by_transform(after, genome.of(after.name))
        saved += transformed * times
        rules += [WINOGRAD] if transformed else []
        if after.routed is not None:
            saved += (flops(after.routed) - flops(after.routed, used=True)) * times
            rules += after.algebra
            continue
        whole, used = products(after) - before.uncounted, products(after, used=True)
        saved += max(0.0, products(before) - before.uncounted - used) * times
        rules += [*after.algebra, *([TRIANGLE] if used < whole * (1 - ROUNDED) else [])]
    less = saved > ROUNDED * reference.flops
    work = reference.replace(flops=max(0.0, reference.flops - saved)) if less else None
    return work, tuple(dict.fromkeys(rules))


def by_transform(region: Region, choices: Choices) -> float:
    """Flops of sums of products that Winograd's transform of 3 x 3 windows saves: (m + 2)^2
    products give m^2 results in place of 9 m^2 (Lavin, Gray, "Fast Algorithms for Convolutional
    Neural Networks", 2016). What the transform itself adds is not counted, as no sum is that is
    not one of products."""
    if not choices.winograd or region.whole:
        return 0.0
    made = [k.contraction for k in plan(coalesce(region), choices).kernels if k.contraction]
    taken = sum(c.work for c in made if c.fetched and windows_of(c))
    side = choices.winograd + WINDOW - 1
    return taken * (1 - (side / (WINDOW * choices.winograd)) ** 2)
