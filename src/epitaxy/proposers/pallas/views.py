"""Tensors as a kernel's blocks take them: two sides in a block, all else one place at a time.

A block covers the last two dimensions of its array, so a tensor whose sides lie elsewhere in memory
is transposed before the call (and a result after it); the places before them come from the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epitaxy.proposers._frames import spans
from epitaxy.proposers.grower.algebra import Affine, Axis
from epitaxy.proposers.grower.contract import size_of, step
from epitaxy.proposers.grower.emit_expr import Unsupported


@dataclass(frozen=True)
class Side:
    """Axes that count as one dimension of a block: how many places it has, and the text of its
    number."""

    axes: tuple[Axis, ...]
    block: int
    at: str

    @property
    def size(self) -> int:
        """Places along all of it."""
        return size_of(self.axes)


@dataclass(frozen=True)
class View:
    """A tensor's dimensions in memory, their order in the array, and the block."""

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]
    """Of the array, whose last two dimensions are the sides."""
    block: tuple[int | None, ...]
    at: tuple[str, ...]
    turned: bool
    """The second side comes before the first."""

    @classmethod
    def of(
        cls, index: Affine, numel: int, batch: Mapping[Axis, str], sides: tuple[Side, Side],
        turn: bool = False,
    ) -> View:  # fmt: skip
        """What `index` reads of `numel` elements; `batch` names the number of each axis before the
        sides, `turn` leaves the sides in the order of memory. Raises Unsupported."""
        ones = tuple(Axis(f"side{n}", s.size) for n, s in enumerate(sides))
        parts = spans(_merged(index, sides, ones), numel)
        inside = [n for n, (_, a) in enumerate(parts) if a in ones]
        outer = [n for n in range(len(parts)) if n not in inside]
        if any(isinstance(parts[n][1], Axis) and parts[n][1] not in batch for n in outer):
            raise Unsupported("an axis outside the loops")
        turned = turn and [parts[n][1] for n in inside] == [ones[1], ones[0]]
        inside.sort(key=lambda n: (parts[n][1] == ones[1]) != turned)
        own = {parts[n][1] for n in inside}
        pairs = list(zip(sides, ones, strict=True))[:: -1 if turned else 1]
        block = tuple(s.block if one in own else 1 for s, one in pairs)
        order = (*outer, *inside)
        sizes = tuple(size for size, _ in parts)
        lead = [parts[n][1] for n in outer]
        return cls(
            sizes, order,
            (*(sizes[n] for n in outer), *(s.size if one in own else 1 for s, one in pairs)),
            (*(None for _ in outer), *block),
            (
                *(batch[a] if isinstance(a, Axis) else str(a) for a in lead),
                *(s.at if one in own else "0" for s, one in pairs),
            ),
            turned,
        )  # fmt: skip

    def spec(self, grid: str) -> str:
        """The text of a BlockSpec; `grid` lists the numbers' names."""
        return f"pl.BlockSpec({self.block}, lambda {grid}: ({', '.join(self.at)}))"

    def given(self, name: str) -> str:
        """The tensor as the kernel's argument."""
        if self._plain:
            return f"{name}.reshape({self.shape})"
        moved = f"{name}.reshape({self.sizes}).transpose({self.order})"
        return moved if self._moved == self.shape else f"{moved}.reshape({self.shape})"

    def back(self, name: str) -> tuple[str, ...]:
        """The statement that brings a result into the order of memory, where it is in another."""
        if self._plain:
            return ()
        inverse = tuple(self.order.index(n) for n in range(len(self.order)))
        whole = name if self._moved == self.shape else f"{name}.reshape({self._moved})"
        return (f"{name} = {whole}.transpose({inverse})",)

    @property
    def _plain(self) -> bool:
        return self.order == tuple(range(len(self.order)))

    @property
    def _moved(self) -> tuple[int, ...]:
        return tuple(self.sizes[n] for n in self.order)


def _merged(index: Affine, sides: tuple[Side, Side], ones: tuple[Axis, ...]) -> Affine:
    """`index` with one axis for each side."""
    taken = {a for s in sides for a in s.axes}
    terms = [(a, c) for a, c in index.terms if a not in taken]
    for side, one in zip(sides, ones, strict=True):
        stride = step(index, side.axes)
        if stride is None:
            raise Unsupported("an operand without a stride")
        terms.append((one, stride))
    return Affine(index.offset, tuple(terms))
