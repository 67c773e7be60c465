"""Checks of a call that need no loops of their own: whether a tensor of integers has bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Const, Load, Map, Reduce, Region, Store
from epitaxy.proposers.grower.contract import size_of, step

LARGE = 1 << 30
"""Integers below it can be worked with in lanes of 32 bits."""


def with_bounds(region: Region) -> tuple[Region, list[str]]:
    """`region` without the checks that all of an input lies within bounds, and the C++ statements
    that check so instead, or just that its integers fit into lanes."""
    lines, left = [], list(region.checks)
    for number, spec in enumerate(region.inputs):
        if spec.dtype != "int64":
            continue
        found = [(c, b) for c in left if (b := _bounds(c, number, spec))]
        calls = [f"outside(x{number}, {spec.numel}, {low}, {high})" for _, (low, high) in found]
        left = [c for c in left if c not in [check for check, _ in found]]
        why = "the reference takes the call" if calls else "lanes are of 32 bits"
        for call in calls or [f"beyond(x{number}, {spec.numel})"]:
            lines.append(f"if (epx::{call}) return 1;  // {why}")
    return replace(region, checks=tuple(left)), lines


def _bounds(check: Store, number: int, spec: TensorSpec) -> tuple[int, int] | None:
    """(low, high) where `check` says that an element of the input lies below low, or not below
    high; None where it says something else."""
    any_ = check.value
    if not isinstance(any_, Reduce) or not isinstance(any_.arg, Map) or any_.arg.fn != "or":
        return None
    sides = {v.fn: v.args for v in any_.arg.args if isinstance(v, Map)}
    if set(sides) != {"lt", "ge"} or sides["lt"][0] != sides["ge"][0]:
        return None
    load, low, high = sides["lt"][0], sides["lt"][1], sides["ge"][1]
    if not isinstance(low, Const) or not isinstance(high, Const) or not isinstance(load, Load):
        return None
    if load.buffer != number or load.guards or load.indirect or not _all(load, any_.over, spec):
        return None
    fits = -LARGE <= low.value <= high.value <= LARGE
    return (int(low.value), int(high.value)) if fits else None


def _all(load: Load, over: Sequence[object], spec: TensorSpec) -> bool:
    """Whether `load` reads every element, in whatever order."""
    axes = [a for a, _ in sorted(load.index.terms, key=lambda t: -t[1])]
    whole = set(axes) == set(over) and size_of(axes) == spec.numel
    return whole and load.index.offset == 0 and (not axes or step(load.index, axes) == 1)
