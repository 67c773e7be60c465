"""Reductions over short rows side by side: vectors hold several rows, and each row's result goes to
all of its own lanes.

Row by row most lanes would stand idle, and every result would take a sum across the lanes.
"""

from __future__ import annotations

from dataclasses import replace

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Index,
    Load,
    Map,
    Reduce,
    Region,
    Scan,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.rewrite import map_axes, rebuild
from epitaxy.proposers.grower.schedule import Kernel

SEGMENT = "segment_"
"""What functions of kernel.h begin with that reduce each of a vector's rows: segment_sum<8>."""
KINDS = ("sum", "prod", "max", "min")


def segmented(kernel: Kernel, lanes: int) -> tuple[Kernel, Axis] | None:
    """`kernel` with its short rows and what counts them as one axis, which lanes run along and of
    which nothing is reduced; None where there are none, or something lies along the two in another
    way."""
    short = kernel.inner[-1] if len(kernel.inner) == 1 else None
    if short is None or short.size < 2 or lanes % short.size:
        return None
    reduces = [v for v in kernel.values if isinstance(v, Reduce)]
    if not reduces or any(isinstance(v, Scan) for v in kernel.values):
        return None
    if not all(_simple(r) and r.over == (short,) and short in r.arg.axes for r in reduces):
        return None
    pair = next((a for a in kernel.outer if _beside(kernel, a, short)), None)
    return None if pair is None else _joined(kernel, pair, short)


def _simple(reduce: Reduce) -> bool:
    return reduce.kind in KINDS and reduce.dtype == reduce.arg.dtype == "float32"


def _beside(kernel: Kernel, rows: Axis, short: Axis) -> bool:
    """Whether rows lie one after the other wherever something is read or written, and along memory
    where it is written."""
    indices = [t.index for t in kernel.targets]
    for v in walk(tuple(t.value for t in kernel.targets)):
        if isinstance(v, Load | Index):
            indices.append(v.index)
        if isinstance(v, Load):
            indices += [g.index for g in v.guards]
    along = all(t.index.coefficient(short) == 1 for t in kernel.targets)
    written = along and all({rows, short} <= set(t.axes) for t in kernel.targets)
    return written and all(
        f.coefficient(rows) == f.coefficient(short) * short.size for f in indices
    )


def _joined(kernel: Kernel, rows: Axis, short: Axis) -> tuple[Kernel, Axis]:
    """The kernel over the one axis of both, and that."""
    both = Axis(f"{rows.name}{short.name}", rows.size * short.size)

    def affine(f: Affine) -> Affine:
        return Affine(
            f.offset, tuple((both if a == short else a, c) for a, c in f.terms if a != rows)
        )

    def axes(of: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(both if a == short else a for a in of if a != rows)

    memo: dict[Value, Value] = {}

    def across(value: Value) -> Value | None:
        if not isinstance(value, Reduce):
            return None
        of = rebuild(value.arg, across, memo)
        return Map(f"{SEGMENT}{value.kind}<{short.size}>", (of,), value.dtype)

    stores = tuple(Store(0, t.index, t.axes, t.value) for t in kernel.targets)
    moved = map_axes(Region("rows", (), (), stores), affine, axes).stores
    targets = tuple(
        replace(t, index=s.index, axes=s.axes, value=rebuild(s.value, across, memo))
        for t, s in zip(kernel.targets, moved, strict=True)
    )
    outer = tuple(both if a == rows else a for a in kernel.outer)
    return Kernel(targets, outer, ()), both
