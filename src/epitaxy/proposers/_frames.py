"""Arrays as a kernel sees them: every buffer has one dimension for each axis of the loop nest.

An axis that a buffer lacks has size 1 there, so that all operations broadcast. The order is that
of the largest buffer in memory, which then needs no rearrangement; a buffer in another order is
transposed before the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Load,
    Region,
    Store,
    Value,
    operands,
    walk,
)
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.rewrite import map_axes
from epitaxy.proposers.grower.schedule import Kernel


@dataclass(frozen=True)
class Array:
    """One buffer in the frame: its axes in memory order, and where the frame has them."""

    buffer: int
    name: str
    dtype: str
    memory: tuple[Axis, ...]
    shape: tuple[int, ...]
    """In the frame's order, 1 where an axis is missing."""
    permutation: tuple[int, ...]
    """Of `memory`, to come into the frame's order; () where it is in order already."""


@dataclass(frozen=True)
class Frame:
    """The axes of a kernel, outermost in memory first."""

    axes: tuple[Axis, ...]

    def array(self, buffer: int, name: str, dtype: str, index: Affine, numel: int) -> Array:
        """A buffer that `index` reads or writes. Raises Unsupported where it has gaps."""
        memory = ordered(index)
        if index.offset or not _dense(index, memory) or _size(memory) != numel:
            raise Unsupported("a part of a tensor, or one read more than once")
        if not set(memory) <= set(self.axes):
            raise Unsupported("an axis outside the loops")
        wanted = [a for a in self.axes if a in memory]
        moved = tuple(memory.index(a) for a in wanted)
        plain = moved == tuple(range(len(moved)))
        shape = tuple(a.size if a in memory else 1 for a in self.axes)
        return Array(buffer, name, dtype, memory, shape, () if plain else moved)


def ordered(index: Affine) -> tuple[Axis, ...]:
    """The axes of an index, the one with the largest stride first."""
    used = [(c, a) for a, c in index.terms if c and a.size > 1]
    return tuple(a for _, a in sorted(used, key=lambda p: -p[0]))


def spans(index: Affine, numel: int) -> list[tuple[int, Axis | int]]:
    """The dimensions of a tensor of `numel` elements of which `index` reads a part, outermost
    first: of each its size and the axis along it, or the one place that is read. Raises
    Unsupported."""
    found: list[tuple[int, Axis | int]] = []
    stride, left = 1, index.offset

    def gap(until: int) -> None:
        nonlocal stride, left
        if until % stride:
            raise Unsupported("a part of a tensor that is no block of it")
        if until > stride:
            size = until // stride
            place = left // stride % size
            found.insert(0, (size, place))
            left -= place * stride
        stride = until

    for axis in reversed(ordered(index)):
        gap(index.coefficient(axis))
        found.insert(0, (axis.size, axis))
        stride *= axis.size
    gap(numel)
    if left:
        raise Unsupported("a part of a tensor that is no block of it")
    return found


def _dense(index: Affine, memory: tuple[Axis, ...]) -> bool:
    stride = 1
    for axis in reversed(memory):
        if index.coefficient(axis) != stride:
            return False
        stride *= axis.size
    return True


def _size(axes: tuple[Axis, ...]) -> int:
    size = 1
    for axis in axes:
        size *= axis.size
    return size


def loads(values: tuple[Value, ...]) -> list[Load]:
    """The loads that values need, each once."""
    return [v for v in walk(values) if isinstance(v, Load)]


def loads_beside(value: Value, total: Value) -> Iterator[Load]:
    """What `value` reads besides `total` and what that is made of, each once."""
    stack, seen = [value], {total}
    while stack:
        one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        stack.extend(operands(one))
        if isinstance(one, Load):
            yield one


def frame_of(kernel: Kernel) -> Frame:
    """The kernel's frame. Raises Unsupported where no buffer has all its axes."""
    wanted = {a for a in (*kernel.outer, *kernel.inner) if a.size > 1}
    found = loads(tuple(t.value for t in kernel.targets))
    indices = [x.index for x in found] + [t.index for t in kernel.targets]
    orders = [o for o in map(ordered, indices) if set(o) == wanted]
    if not orders:
        raise Unsupported("loops that no tensor has all axes of")
    return Frame(orders[0])


def refined(kernel: Kernel, region: Region) -> Kernel:
    """The kernel with loops over tensors' own dimensions, where one loop runs over several.

    Memory tiled in two dimensions has no cheap reshape, and rows across partitions want a
    dimension of their own.
    """
    cuts: dict[Axis, tuple[Axis, ...]] = {}
    read = loads(tuple(t.value for t in kernel.targets))
    seen = [(region.inputs[v.buffer], v.index) for v in read if v.buffer < len(region.inputs)]
    made = {f"y{i}": spec for i, spec in enumerate(region.outputs)}
    seen += [(made[t.buffer], t.index) for t in kernel.targets if t.buffer in made]
    for spec, index in sorted(seen, key=lambda p: -p[0].numel):
        for axis, sizes in _dimensions(spec.shape, ordered(index)):
            parts = tuple(Axis(f"{axis.name}_{n}", size) for n, size in enumerate(sizes))
            cuts.setdefault(axis, parts)
    cuts = {a: parts for a, parts in cuts.items() if len(parts) > 1}

    def affine(index: Affine) -> Affine:
        terms: list[tuple[Axis, int]] = []
        for axis, c in index.terms:
            for part in reversed(cuts.get(axis, (axis,))):
                terms.append((part, c))
                c *= part.size
        return Affine(index.offset, tuple(terms))

    def axes(given: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(part for a in given for part in cuts.get(a, (a,)))

    if not cuts:
        return kernel
    stores = tuple(Store(0, t.index, t.axes, t.value) for t in kernel.targets)
    moved = map_axes(Region("", (), (), stores), affine, axes).stores
    pairs = zip(kernel.targets, moved, strict=True)
    targets = tuple(replace(t, index=s.index, axes=s.axes, value=s.value) for t, s in pairs)
    return replace(kernel, targets=targets, outer=axes(kernel.outer), inner=axes(kernel.inner))


def _dimensions(
    shape: tuple[int, ...], memory: tuple[Axis, ...]
) -> list[tuple[Axis, tuple[int, ...]]]:
    """Which dimensions of a tensor each axis runs over; () where they do not fit together."""
    found, sizes = [], [n for n in shape if n > 1]
    for axis in memory:
        own: list[int] = []
        while sizes and _product(own) < axis.size:
            own.append(sizes.pop(0))
        if _product(own) != axis.size:
            return []
        found.append((axis, tuple(own)))
    return found


def _product(sizes: list[int]) -> int:
    made = 1
    for n in sizes:
        made *= n
    return made
