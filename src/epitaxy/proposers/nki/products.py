"""NKI products: 128 by 512 tiles summed in PSUM, and what follows them on the way out.

The tensor engine contracts along the partitions of both operands, so each is loaded with the
contracted axis across them; one that lies the other way is read by a strided DMA.
"""

from __future__ import annotations

from dataclasses import dataclass

from epitaxy.proposers._frames import Array, ordered
from epitaxy.proposers.grower.algebra import Axis, Load, Value, operands
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.nki.instructions import STORED, Instructions

Known = dict[int, tuple[str, str, int]]


@dataclass(frozen=True)
class Frame:
    """Rows and columns of the result."""

    axes: tuple[Axis, ...]


class Product:
    """How one product is cut: rows by partitions, columns by a bank of PSUM, steps along depth."""

    tile: tuple[int, ...]

    def __init__(self, what: Contraction, chip: dict[str, int], large: Product | None) -> None:
        groups = (what.rows, what.columns, what.inner)
        if what.batch or what.fetched or any(len(g) != 1 for g in groups):
            raise Unsupported("a product of more than three axes")
        if len(chip) < 3:
            raise Unsupported("a chip whose file does not know the operands of a product")
        if what.total.dtype != "float32":
            raise Unsupported(f"a product in {what.total.dtype}")
        self.what = what
        self.axes = (what.rows[0], what.columns[0], what.inner[0])
        sizes = tuple(a.size for a in self.axes)
        most = (chip["stationary_columns"], chip["moving_columns"], chip["partitions"])
        if large is None:
            tile = tuple(min(s, m) for s, m in zip(sizes, most, strict=True))
        else:
            both = zip(large.tile, large.axes, sizes, strict=True)
            tile = tuple(n if t == a.size else max(1, min(t, n // 2)) for t, a, n in both)
        if any(s % t for s, t in zip(sizes, tile, strict=True)):
            raise Unsupported("sizes that tiles do not divide")
        self.tile = tile
        # What `Instructions` asks of a nest: one row of the tile along the partitions, and columns.
        rows, columns, _ = self.axes
        self.frame, self.across, self.loops = Frame((rows, columns)), rows, ()
        self.free, self.last, self.pieces = [columns], columns, (tile[0], tile[1])

    def extent(self, axis: Axis) -> int:
        """Elements of a tile along the columns."""
        return self.tile[1] if axis == self.axes[1] else axis.size


def write_product(kernel: Kernel, known: Known, made: Product) -> list[str]:
    """The loops over one product. Raises Unsupported."""
    what, (target,) = made.what, kernel.targets
    m, n, k = made.tile
    rows, columns, depth = made.axes
    at = {
        rows: f"row * {m} : (row + 1) * {m}",
        columns: f"column * {n} : (column + 1) * {n}",
        depth: f"step * {k} : (step + 1) * {k}",
    }
    sides = [
        _side(value, axis, depth, known, at)
        for value, axis in ((what.left, rows), (what.right, columns))
    ]
    writer = Instructions(_fused(target.value, what, known), made, at[rows], at[columns])
    writer.memo[what.total] = "total"
    writer.dtypes["total"] = "float32"
    if target.dtype not in STORED:
        raise Unsupported(f"{target.dtype} on a NeuronCore")
    shape = tuple(a.size for a in (rows, columns))
    if ordered(target.index) != tuple(a for a in (rows, columns) if a.size > 1):
        raise Unsupported("a product stored in another order")
    result = Array(-1, target.buffer, target.dtype, (rows, columns), shape, ())
    writer.store(target.value, result)
    counts = [a.size // t for a, t in zip(made.axes, made.tile, strict=True)]
    return [
        f"# {target.buffer}: {rows.size} x {columns.size}, contracting {depth.size}",
        f"for row in nl.affine_range({counts[0]}):",
        f"    for column in nl.affine_range({counts[1]}):",
        f"        sums = nl.ndarray({(m, n)}, dtype=nl.float32, buffer=nl.psum)",
        f"        for step in nl.sequential_range({counts[2]}):",
        *_loaded("stationary", (k, m), sides[0]),
        *_loaded("moving", (k, n), sides[1]),
        "            nisa.nc_matmul(dst=sums, stationary=stationary, moving=moving)",
        f"        total = nl.ndarray({(m, n)}, dtype=nl.float32, buffer=nl.sbuf)",
        "        nisa.tensor_copy(dst=total, src=sums)",
        *(f"        {x}" for x in writer.lines),
    ]


def _loaded(name: str, shape: tuple[int, int], side: tuple[str, str]) -> list[str]:
    text, dtype = side
    return [
        f"            {name} = nl.ndarray({shape}, dtype=nl.{dtype}, buffer=nl.sbuf)",
        f"            nisa.dma_copy(dst={name}, src={text})",
    ]


def _side(
    value: Value, axis: Axis, depth: Axis, known: Known, at: dict[Axis, str]
) -> tuple[str, str]:
    """(the operand's tile in HBM, contracted axis first; its dtype). Raises Unsupported."""
    if not isinstance(value, Load) or value.guards or value.indirect or value.index.offset:
        raise Unsupported("a product of what is computed")
    name, dtype, numel = known[value.buffer]
    memory = ordered(value.index)
    if set(memory) != {axis, depth} or size_of(memory) != numel or dtype not in STORED:
        raise Unsupported("a product of a part of a tensor")
    if value.index.coefficient(memory[1]) != 1:
        raise Unsupported("a product of a tensor with gaps")
    sizes = tuple(a.size for a in memory)
    text = f"{name}.reshape({sizes})[{at[memory[0]]}, {at[memory[1]]}]"
    return (text if memory[0] == depth else f"{text}.permute((1, 0))"), dtype


def _fused(value: Value, what: Contraction, known: Known) -> dict[Load, Array]:
    """What the result is combined with, by load."""
    rows, columns = what.rows[0], what.columns[0]
    found: dict[Load, Array] = {}
    stack = [value]
    seen: set[Value] = {what.total}
    while stack:
        one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        stack.extend(operands(one))
        if not isinstance(one, Load):
            continue
        name, dtype, numel = known[one.buffer]
        memory = ordered(one.index)
        plain = not one.guards and not one.indirect and not one.index.offset
        if memory not in ((rows, columns), (rows,), (columns,), ()) or size_of(memory) != numel:
            raise Unsupported("a product combined with a part of a tensor")
        if not plain or dtype not in STORED:
            raise Unsupported(f"a product combined with {dtype}")
        shape = tuple(a.size if a in memory else 1 for a in (rows, columns))
        found[one] = Array(one.buffer, name, dtype, memory, shape, ())
    return found
