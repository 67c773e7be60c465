"""A captured module as a straight-line program: grown regions between framework calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.made import Part


@dataclass(frozen=True)
class Ref:
    """A value of the program, by name, inside an argument tree."""

    name: str


@dataclass(frozen=True)
class FrameworkCall:
    """results = target(*args, **kwargs): `target` is a dotted name such as
    "torch.ops.aten.addmm.default"; trees hold Refs and plain Python values."""

    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class RegionCall:
    """results = region(args); every argument is made contiguous first. `framework` computes the
    same with the framework's operators, for a region that is left to it; () where that cannot
    be written."""

    region: Region
    args: tuple[str, ...]
    results: tuple[str, ...]
    framework: tuple[FrameworkCall, ...] = ()


@dataclass(frozen=True)
class Program:
    """`inputs` names one value for each forward argument (None for a non-tensor one);
    `state` maps value names to state_dict keys or attribute paths of parameters and buffers;
    `left` names what stays with the framework; `returns_tuple` keeps the reference's shape;
    `made_as` says how the module was made (`made.made_as`)."""

    inputs: tuple[str | None, ...]
    state: tuple[tuple[str, str], ...]
    steps: tuple[RegionCall | FrameworkCall, ...]
    outputs: tuple[str, ...]
    returns_tuple: bool = False
    left: tuple[str, ...] = ()
    made_as: tuple[Part, ...] = ()


def without(program: Program, regions: frozenset[str]) -> Program:
    """`program` with some regions, by name, left to the framework."""
    steps: list[RegionCall | FrameworkCall] = []
    for step in program.steps:
        if isinstance(step, RegionCall) and step.region.name in regions:
            steps += step.framework
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps))


def with_weights(program: Program, worth: Callable[[Region], Collection[int]]) -> Program:
    """`program` with every region told which of its inputs are parameters or buffers in all its
    calls; of those only what is `worth` a copy, for each is looked after in every call."""
    state = {name for name, _ in program.state}
    fixed: dict[str, set[int]] = {}
    for step in program.steps:
        if isinstance(step, RegionCall):
            here = {i for i, name in enumerate(step.args) if name in state}
            fixed[step.region.name] = fixed.get(step.region.name, here) & here
    steps: list[RegionCall | FrameworkCall] = []
    for step in program.steps:
        if isinstance(step, RegionCall):
            weights = tuple(sorted(fixed[step.region.name] & set(worth(step.region))))
            step = replace(step, region=replace(step.region, weights=weights))
        steps.append(step)
    return replace(program, steps=tuple(steps))


def calls(program: Program) -> Counter[str]:
    """How often each region, by name, is called."""
    return Counter(s.region.name for s in program.steps if isinstance(s, RegionCall))


def merged(program: Program, text: Callable[[Region], str]) -> Program:
    """`program` where regions of the same `text` and weights are one, called several times: the
    layers of a network are written, compiled and searched once. Regions without a text stay as
    they are."""
    known: dict[tuple[str, tuple[int, ...]], Region] = {}
    steps: list[RegionCall | FrameworkCall] = []
    for step in program.steps:
        if isinstance(step, RegionCall):
            same = text(replace(step.region, name="region")) or step.region.name
            key = same, step.region.weights
            region = known.setdefault(key, replace(step.region, name=f"region{len(known)}"))
            step = replace(step, region=region)
        steps.append(step)
    return replace(program, steps=tuple(steps))


def leavable(program: Program) -> frozenset[str]:
    """Names of the regions that may be left to the framework."""
    found = [s for s in program.steps if isinstance(s, RegionCall)]
    bound = {s.region.name for s in found if not s.framework}
    return frozenset(s.region.name for s in found) - bound


def reads(step: RegionCall | FrameworkCall) -> set[str]:
    """Names of the values that a step reads."""
    if isinstance(step, RegionCall):
        return set(step.args)
    found: set[str] = set()
    stack: list[Any] = [*step.args, *(v for _, v in step.kwargs)]
    while stack:
        tree = stack.pop()
        if isinstance(tree, Ref):
            found.add(tree.name)
        elif isinstance(tree, tuple | list):
            stack.extend(tree)
    return found
