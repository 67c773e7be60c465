"""Windows one direction after the other: a pool's rows first, into a line, then along the line.

A reduction over a window reads each element once for every window it lies in, and along the
lanes with a stride. Reduced over the other directions first, whole vectors are read in order and
the strided reads touch one line that stays in the nearest cache.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Guard,
    Index,
    Load,
    Reduce,
    Scan,
    Value,
    walk,
)
from epitaxy.proposers.grower.rewrite import rebuild, replaced, split_axis
from epitaxy.proposers.grower.schedule import NEUTRAL, Kernel, Target

LINE = "line"
IN_GROUPS = 2
"""The decision for a few lines of overlapping windows at a time."""
LINES_BYTES = 1 << 16
"""Room for lines: what is written must have left the store buffer before it is read, and must
still be in the nearest caches."""
FEWEST_TASKS = 32
GROUP_BYTES, FEWEST_LINES = 2048, 4
"""Of a group of lines: room, and how many there are at least."""
APART = 2
"""How many times as far as they are long windows may lie apart."""


@dataclass(frozen=True)
class Windows:
    """A kernel in two stages: `fill` writes `lines` lines, `read` reduces along them."""

    fill: Kernel
    read: Kernel
    length: int
    """Positions of a line, with the margins where the windows cross the edge."""
    margins: tuple[tuple[int, int], ...]
    """Stretches of a line that hold `neutral`; the first stage writes the rest."""
    neutral: float
    line: Axis
    lines: Axis | None
    """The outer axis that both stages run over before the next begins; None: one line."""

    @property
    def numel(self) -> int:
        """Elements of the buffer between the stages."""
        return self.length * (self.lines.size if self.lines else 1)


def separated(kernel: Kernel, lane: Axis, buffer: int, groups: bool = False) -> Windows | None:
    """`kernel` in two stages, with the buffer between them numbered `buffer` among the inputs;
    `groups`: a few lines of windows that overlap at a time, so that the nearest cache holds the
    lines and what they are made of. None when its windows cannot be taken apart."""
    values = kernel.values
    reduces = [v for v in values if isinstance(v, Reduce)]
    if len(kernel.targets) != 1 or len(reduces) != 1 or any(isinstance(v, Scan) for v in values):
        return None
    across = _across(reduces[0], lane)
    if across is None or lane not in kernel.targets[0].axes or len(kernel.inner) < 2:
        return None
    window, step, gap = across
    length = step * (lane.size - 1) + gap * (window.size - 1) + 1
    if groups:
        kernel = _in_groups(kernel, lane, length)
    (target,) = kernel.targets
    reduce = next(v for v in walk((target.value,)) if isinstance(v, Reduce))
    neutral = NEUTRAL[reduce.kind]
    first, last = _inside(reduce.arg, lane, step, length, neutral)
    line = Axis(f"{lane.name}p", last - first)
    along = _moved(reduce.arg, (lane, window, line), step, first, line.size == length)
    others = tuple(a for a in kernel.inner if a != window)
    outer = tuple(a for a in kernel.outer if a != lane)
    lines = _lines(outer, length)
    row = ((lines, length),) if lines else ()
    part = Reduce(reduce.kind, others, along, reduce.dtype)
    fill = Target(LINE, "float32", Affine(first, (*row, (line, 1))), (*outer, line), part)
    read = Load(buffer, Affine(0, (*row, (lane, step), (window, gap))), "float32")
    whole = Reduce(reduce.kind, (window,), read, reduce.dtype)
    value = rebuild(target.value, lambda v: whole if v == reduce else None, {})
    return Windows(
        Kernel((fill,), (*outer, line), others),
        Kernel((dataclasses.replace(target, value=value),), (*outer, lane), (window,)),
        length,
        tuple((a, b) for a, b in ((0, first), (last, length)) if a < b),
        neutral,
        line,
        lines,
    )


def _inside(arg: Value, lane: Axis, step: int, length: int, neutral: float) -> tuple[int, int]:
    """The positions of a line that lie inside the tensor, where it counts as `neutral` outside;
    else the whole line."""
    if not isinstance(arg, Load) or arg.fill != neutral:
        return 0, length
    guards = [g for g in arg.guards if g.index.coefficient(lane)]
    if len(guards) != 1 or guards[0].index.coefficient(lane) != step:
        return 0, length
    (guard,) = guards
    if len(guard.index.terms) != 2:
        return 0, length
    first = max(0, -guard.index.offset)
    last = min(length, guard.size - guard.index.offset)
    return (first, last) if first < last else (0, length)


def _in_groups(kernel: Kernel, lane: Axis, length: int) -> Kernel:
    """`kernel` with its innermost axis of lines cut into groups, where more than one would be
    written at a time and their windows overlap."""
    axes = tuple(a for a in kernel.outer if a != lane)
    axis = _lines(axes, length)
    most = max(FEWEST_LINES, GROUP_BYTES // (4 * length))
    if axis is None or axis.size <= most or not _overlapping(kernel, axis):
        return kernel
    even = [d for d in range(FEWEST_LINES, 2 * most) if axis.size % d == 0 and d < axis.size]
    if not even:
        return kernel
    rows = min(even, key=lambda d: abs(d - most))
    group, row = Axis(f"{axis.name}o", axis.size // rows), Axis(f"{axis.name}i", rows)
    place = Affine(0, ((group, rows), (row, 1)))

    def cut(of: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(b for a in of for b in ((group, row) if a == axis else (a,)))

    (target,) = kernel.targets
    target = dataclasses.replace(
        target,
        index=replaced(target.index, axis, place),
        axes=cut(target.axes),
        value=split_axis(target.value, axis, group, row),
    )
    return Kernel((target,), cut(kernel.outer), kernel.inner)


def _overlapping(kernel: Kernel, axis: Axis) -> bool:
    """Whether neighbours along `axis` read some of the same elements."""
    loads = [v for v in kernel.values if isinstance(v, Load)]
    steps = [(v.index.coefficient(axis), v.index.coefficient(w), w.size)
             for v in loads for w in kernel.inner]  # fmt: skip
    return any(
        own > 0 and own % step == 0 and step * size > own for own, step, size in steps if step > 0
    )


def _lines(outer: tuple[Axis, ...], length: int) -> Axis | None:
    """The innermost axis of lines, where they have room and enough tasks are left."""
    if not outer or outer[-1].size * length * 4 > LINES_BYTES:
        return None
    return outer[-1] if math.prod(a.size for a in outer[:-1]) >= FEWEST_TASKS else None


def _across(reduce: Reduce, lane: Axis) -> tuple[Axis, int, int] | None:
    """(window axis, its lanes' step, its own step) when operands depend on the lane and on that
    axis only through step * lane + gap * window."""
    if reduce.kind not in ("sum", "max", "min") or reduce.dtype != "float32":
        return None
    affines: list[Affine] = []
    for v in walk((reduce.arg,)):
        if isinstance(v, Index) and lane in v.axes:
            return None
        if isinstance(v, Load):
            if v.indirect:
                return None
            affines += [v.index, *(g.index for g in v.guards)]
    used = [f for f in affines if f.coefficient(lane)]
    found = []
    for window in reduce.over:
        pairs = {(f.coefficient(lane), f.coefficient(window)) for f in used}
        touched = all(f.coefficient(lane) for f in affines if f.coefficient(window))
        if len(pairs) != 1 or not touched:
            continue
        step, gap = pairs.pop()
        if not 0 < step <= APART * gap * window.size:
            continue  # most of the line would be read by nobody
        if gap > 0 and all(window not in v.axes for v in _indices(reduce.arg)):
            found.append((window, step, gap))
    return min(found, key=lambda f: f[2], default=None)


def _indices(value: Value) -> list[Value]:
    return [v for v in walk((value,)) if isinstance(v, Index)]


def _moved(
    value: Value, axes: tuple[Axis, Axis, Axis], step: int, first: int, guarded: bool
) -> Value:
    """`value` as a function of the position on the line, counted from `first`; unguarded along
    it where every position is inside."""
    lane, window, line = axes

    def affine(f: Affine) -> Affine:
        c = f.coefficient(lane)
        if not c:
            return f
        kept = tuple((a, k) for a, k in f.terms if a not in (lane, window))
        return Affine(f.offset + c // step * first, (*kept, (line, c // step)))

    def leaf(v: Value) -> Value | None:
        if not isinstance(v, Load):
            return None
        kept = (g for g in v.guards if guarded or not g.index.coefficient(lane))
        guards = tuple(Guard(affine(g.index), g.size) for g in kept)
        return dataclasses.replace(v, index=affine(v.index), guards=guards)

    return rebuild(value, leaf, {})
