"""Folds over more than a partition of SBUF holds: piece by piece, once for every reduction that
needs another's result.

What is folded so far stays in a tile with one element per partition. Where an axis does not fill
the partitions, another one is stacked upon it: a DMA for each of its places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epitaxy.proposers._frames import Array, frame_of
from epitaxy.proposers.grower.algebra import Axis, Const, Load, Reduce, Scan, Value, operands
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.emit_kernel import Passes
from epitaxy.proposers.grower.schedule import NEUTRAL, Kernel
from epitaxy.proposers.nki.instructions import FLOATS, FOLDS, Instructions, number

STEMS = {"sum": "total", "max": "most", "min": "least"}


class Pieces:
    """How such a nest is cut. `columns` folded elements at most are in a tile at once; `large` is
    the same nest at larger sizes. Raises Unsupported."""

    def __init__(self, kernel: Kernel, columns: int, partitions: int, large: Pieces | None) -> None:
        self.frame = frame_of(kernel)
        axes = self.frame.axes
        kept = [a for a in axes if a not in kernel.inner]
        self.folded = [a for a in axes if a in kernel.inner]
        if not kept or not self.folded:
            raise Unsupported("a result without an axis for the partitions")
        if large is not None and len(axes) != len(large.frame.axes):
            raise Unsupported("other loops at other sizes")
        self.stack: Axis | None = None
        self.stacked = 1
        """Places of `stack` in a tile."""
        self.across: Axis = self._across(axes, kept, partitions, large)
        self._place(partitions, large)
        self.last: Axis
        """The axis of which a tile has a piece; those after it are whole, those before loops."""
        self.last, self.piece = self._cut(columns, large)
        self.pieces = (self.lanes * self.stacked, self.piece)
        self.outer = [a for a in kept if a not in (self.across, self.stack)]
        self.loops = [*self.outer, *self.folded[: self.folded.index(self.last)]]
        """Axes of which a tile has one place."""
        self.free = [a for a in self.folded if a not in self.loops]

    def _across(
        self, axes: Sequence[Axis], kept: Sequence[Axis], partitions: int, large: Pieces | None
    ) -> Axis:
        """What lies across the partitions; `stack` is set where that does not fill them."""
        if large is not None:
            if large.stack is not None:
                self.stack = axes[large.frame.axes.index(large.stack)]
            return axes[large.frame.axes.index(large.across)]
        across = max(kept, key=lambda a: (min(a.size, partitions), axes.index(a)))
        rest = [a for a in kept if a != across]
        if rest and 2 * across.size <= partitions:
            self.stack = max(rest, key=lambda a: a.size)
        return across

    def _place(self, partitions: int, large: Pieces | None) -> None:
        """How many partitions a tile takes."""
        self.lanes = min(self.across.size, partitions)
        if large is not None and large.lanes < large.across.size:
            self.lanes = max(1, min(self.lanes, self.across.size // 2))
        if self.across.size % self.lanes:
            raise Unsupported("sizes that tiles do not divide")
        if self.stack is not None:
            self.stacked = divisor(self.stack.size, partitions // self.lanes)

    def _cut(self, columns: int, large: Pieces | None) -> tuple[Axis, int]:
        if large is not None:
            last = self.folded[large.folded.index(large.last)]
            whole = large.piece == large.last.size
            return last, last.size if whole else divisor(last.size, last.size // 2)
        width, place = 1, len(self.folded) - 1
        while place and width * self.folded[place].size <= columns:
            width *= self.folded[place].size
            place -= 1
        last = self.folded[place]
        return last, divisor(last.size, columns // width)

    def extent(self, axis: Axis) -> int:
        """Elements of a tile along a free axis."""
        return self.piece if axis == self.last else axis.size

    def begin(self) -> list[str]:
        """Loops over the tiles of the result."""
        found = [f"for {a.name} in nl.affine_range({a.size}):" for a in self.outer]
        if self.stack is not None:
            count = self.stack.size // self.stacked
            return [*found, f"for stack in nl.affine_range({count}):"]
        return [*found, f"for block in nl.affine_range({self.across.size // self.lanes}):"]

    def along(self) -> list[str]:
        """Loops over the pieces of what is folded."""
        before = self.folded[: self.folded.index(self.last)]
        found = [f"for {a.name} in nl.sequential_range({a.size}):" for a in before]
        return [*found, f"for piece in nl.sequential_range({self.last.size // self.piece}):"]


def divisor(size: int, most: int) -> int:
    """The largest divisor of `size` that is not above `most`."""
    return next(n for n in range(min(size, max(1, most)), 0, -1) if size % n == 0)


class Piecewise(Instructions):
    """Writes what happens to one piece, or, with another prefix, to what was folded."""

    def __init__(self, arrays: Mapping[Load, Array], tiles: Pieces) -> None:
        n, piece = tiles.lanes, tiles.piece
        rows = ":" if tiles.stack else f"block * {n} : (block + 1) * {n}"
        super().__init__(arrays, tiles, rows, f"piece * {piece} : (piece + 1) * {piece}")

    def place(self, array: Array) -> str:
        """The part of a buffer that belongs to the tile at hand, at one place of the stack."""
        stack = self.tiles.stack
        return super().place(array) if stack is None else self.placed(array, stack)

    def placed(self, array: Array, stack: Axis) -> str:
        """As `place`, with the position along `stack` for its name."""
        kept, self.tiles.loops = self.tiles.loops, [*self.tiles.loops, stack]
        try:
            return super().place(array)
        finally:
            self.tiles.loops = kept

    def copy(self, dst: str, src: str) -> list[str]:
        """A DMA for each place of what is stacked."""
        made: Pieces = self.tiles
        if made.stack is None:
            return super().copy(dst, src)
        part = f"[lane * {made.lanes} : (lane + 1) * {made.lanes}]"
        sides = [side + part if side.isidentifier() else side for side in (dst, src)]
        return [
            f"for lane in nl.affine_range({made.stacked}):",
            f"    {made.stack.name} = stack * {made.stacked} + lane",
            *(f"    {x}" for x in super().copy(*sides)),
        ]

    def _reduce(self, value: Reduce) -> str:
        raise Unsupported(f"a {value.kind} that is not ready")

    def _scan(self, value: Scan) -> str:
        raise Unsupported(f"a running {value.kind} in pieces")

    def fold(self, value: Reduce, into: str) -> None:
        """Fold a piece of what `value` folds into the tile that holds the others."""
        arg = self.use(value.arg)
        part = self.tile("part", (), "float32")
        axes = tuple(range(1, len(self.tiles.free) + 1))
        op = FOLDS[value.kind]
        self.lines += [
            f"nisa.tensor_reduce(dst={part}, op={op}, data={arg}, axis={axes}, keepdims=True)",
            f"nisa.tensor_tensor(dst={into}, data1={into}, data2={part}, op={op})",
        ]


def write_pieces(
    kernel: Kernel, arrays: Mapping[Load, Array], results: Sequence[Array], made: Pieces
) -> tuple[list[str], int]:
    """The statements, and the bytes of a partition that they hold at most. Raises Unsupported."""
    passes = Passes(kernel)
    where = {t.buffer: array for t, array in zip(kernel.targets, results, strict=True)}
    whole = Piecewise(arrays, made)
    whole.prefix = "row_"
    body: list[str] = []
    held: dict[str, int] = {}
    for turn in range(passes.count):
        reduces = passes.reduces.get(turn, [])
        stores = passes.stores.get(turn, [])
        if not (reduces or stores):
            continue
        _ready(passes, turn, whole)
        kept: dict[Value, str] = {}
        for r in reduces:
            kept[r] = _begin(r, whole)
        body += whole.lines
        whole.lines = []
        one = Piecewise(arrays, made)
        one.memo |= whole.memo
        one.dtypes |= whole.dtypes
        for r in reduces:
            one.fold(r, kept[r])
        for t in stores:
            one.store(t.value, where[t.buffer])
        body += nested(made.along(), one.lines)
        whole.memo |= kept
        held |= {n: max(held.get(n, 0), size) for n, size in one.held.items()}
    for t in passes.row_stores:
        whole.store(t.value, where[t.buffer])
    body += whole.lines
    # A tile of a later pass takes the name of an earlier one, and both are there for a moment.
    most = sum(held.values()) + max(held.values(), default=0) + whole.peak_bytes
    return nested(made.begin(), body), most


def nested(loops: Sequence[str], body: Sequence[str]) -> list[str]:
    """`body` in loops, the outermost first."""
    deep = "    " * len(loops)
    return [*("    " * n + x for n, x in enumerate(loops)), *(deep + x for x in body)]


def _ready(passes: Passes, turn: int, whole: Piecewise) -> None:
    """Compute what a pass needs and no piece changes, before its loop."""
    for value in passes.needed(turn):
        for one in operands(value):
            if not one.axes & passes.inner and not isinstance(one, Const):
                whole.use(one)


def _begin(value: Reduce, whole: Piecewise) -> str:
    """Declare the tile that a reduction is folded into."""
    if value.kind not in FOLDS or value.arg.dtype not in FLOATS:
        raise Unsupported(f"a reduction by {value.kind} of {value.arg.dtype}")
    over = {a for a in value.over if a.size > 1}
    if over != set(whole.tiles.folded) or not over <= value.arg.axes:
        raise Unsupported(f"a {value.kind} of what does not vary")
    made = whole.tile(STEMS[value.kind], (), "float32")
    none = number(Const(NEUTRAL[value.kind], "float32"))
    whole.lines.append(f"nisa.memset(dst={made}, value={none})")
    return made
