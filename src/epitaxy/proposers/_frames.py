"""Arrays as a kernel sees them: every buffer has one dimension for each axis of the loop nest.

An axis that a buffer lacks has size 1 there, so that all operations broadcast. The order is that
of the largest buffer in memory, which then needs no rearrangement; a buffer in another order is
transposed before the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import Affine, Axis, Load, Value, walk
from epitaxy.proposers.grower.emit_expr import Unsupported
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


def frame_of(kernel: Kernel) -> Frame:
    """The kernel's frame. Raises Unsupported where no buffer has all its axes."""
    wanted = {a for a in (*kernel.outer, *kernel.inner) if a.size > 1}
    found = loads(tuple(t.value for t in kernel.targets))
    indices = [x.index for x in found] + [t.index for t in kernel.targets]
    orders = [o for o in map(ordered, indices) if set(o) == wanted]
    if not orders:
        raise Unsupported("loops that no tensor has all axes of")
    return Frame(orders[0])
