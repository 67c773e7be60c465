"""NKI products: 128 by 512 tiles summed in PSUM, and what follows them on the way out.

The tensor engine contracts along the partitions of both operands, so each is loaded with the
contracted axis across them; one that lies the other way is read by a strided DMA. Products of a
batch are a loop of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from epitaxy.proposers._frames import Array, loads_beside, ordered, spans
from epitaxy.proposers._nests import Known
from epitaxy.proposers.grower.algebra import Axis, Load, Value
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.nki.instructions import STORED, Instructions

ONE = Axis("one", 1)
"""Stands for the rows of a product of a vector."""


@dataclass(frozen=True)
class Frame:
    """Batch, rows and columns of the result."""

    axes: tuple[Axis, ...]


class Product:
    """How one product is cut: rows by partitions, columns by a bank of PSUM, steps along depth."""

    tile: tuple[int, ...]

    def __init__(self, what: Contraction, chip: dict[str, int], large: Product | None) -> None:
        groups = (what.rows or (ONE,), what.columns, what.inner)
        if what.fetched or any(len(g) != 1 for g in groups):
            raise Unsupported("a product of more than three axes")
        if len(chip) < 3:
            raise Unsupported("a chip whose file does not know the operands of a product")
        if what.total.dtype != "float32":
            raise Unsupported(f"a product in {what.total.dtype}")
        self.what = what
        self.axes = tuple(g[0] for g in groups)
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
        self.frame, self.across, self.loops = Frame((*what.batch, rows, columns)), rows, what.batch
        self.free, self.last, self.pieces = [columns], columns, (tile[0], tile[1])

    @property
    def lanes(self) -> int:
        """Elements of a tile along the partitions."""
        return self.pieces[0]

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
        side(value, (what.batch, axis, depth), known, at)
        for value, axis in ((what.left, rows), (what.right, columns))
    ]
    place = (what.batch, (rows,), (columns,))
    arrays = fused(target.value, what.total, place, known)
    writer = Instructions(arrays, made, at[rows], at[columns])
    writer.memo[what.total] = "total"
    writer.dtypes["total"] = "float32"
    if target.dtype not in STORED:
        raise Unsupported(f"{target.dtype} on a NeuronCore")
    shape = tuple(a.size for a in (rows, columns))
    whole = (*what.batch, rows, columns)
    if ordered(target.index) != tuple(a for a in whole if a.size > 1):
        raise Unsupported("a product stored in another order")
    shape = tuple(a.size for a in whole)
    writer.store(target.value, Array(-1, target.buffer, target.dtype, whole, shape, ()))
    counts = [a.size // t for a, t in zip(made.axes, made.tile, strict=True)]
    outer = [f"for {a.name} in nl.affine_range({a.size}):" for a in what.batch]
    times = "".join(f"{a.size} times " for a in what.batch)
    body = [
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
    return [
        f"# {target.buffer}: {times}{rows.size} x {columns.size}, contracting {depth.size}",
        *("    " * d + x for d, x in enumerate(outer)),
        *("    " * len(outer) + x for x in body),
    ]


def _loaded(name: str, shape: tuple[int, int], side: tuple[str, str]) -> list[str]:
    text, dtype = side
    return [
        f"            {name} = nl.ndarray({shape}, dtype=nl.{dtype}, buffer=nl.sbuf)",
        f"            nisa.dma_copy(dst={name}, src={text})",
    ]


def side(
    value: Value, axes: tuple[tuple[Axis, ...], Axis, Axis], known: Known, at: dict[Axis, str]
) -> tuple[str, str]:
    """(the operand's tile in HBM, contracted axis first; its dtype); `axes` are its batch, its own
    and the contracted one. Raises Unsupported."""
    batch, axis, depth = axes
    if not isinstance(value, Load) or value.guards or value.indirect:
        raise Unsupported("a product of what is computed")
    name, dtype, numel = known[value.buffer]
    memory = ordered(value.index)
    if not {a for a in (axis, depth) if a.size > 1} <= set(memory) <= {*batch, axis, depth}:
        raise Unsupported("a product of a tensor with other axes")
    if dtype not in STORED:
        raise Unsupported(f"a product of {dtype}")
    named = {a: a.name for a in batch} | at
    parts = spans(value.index, numel)
    sizes = [size for size, _ in parts]
    index = [named[a] if isinstance(a, Axis) else str(a) for _, a in parts]
    inner = [a for a in memory if a in (axis, depth)]
    for one in (a for a in (depth, axis) if a not in inner):
        inner.append(one)
        sizes.append(1)
        index.append("0:1")
    text = f"{name}.reshape({tuple(sizes)})[{', '.join(index)}]"
    return (f"{text}.permute((1, 0))" if inner[0] == axis else text), dtype


def fused(
    value: Value, total: Value, place: tuple[tuple[Axis, ...], ...], known: Known
) -> dict[Load, Array]:
    """What a product `total` is combined with in `value`, by load; `place` are the axes of batch,
    rows and columns. Raises Unsupported."""
    batch, rows, columns = place
    frame = (*batch, *rows, *columns)
    found: dict[Load, Array] = {}
    for one in loads_beside(value, total):
        name, dtype, numel = known[one.buffer]
        memory = ordered(one.index)
        plain = not one.guards and not one.indirect and not one.index.offset
        kinds = (frame, (*rows, *columns), rows, columns, ())
        if memory not in [tuple(a for a in g if a.size > 1) for g in kinds] or (
            size_of(memory) != numel
        ):
            raise Unsupported("a product combined with a part of a tensor")
        if not plain or dtype not in STORED:
            raise Unsupported(f"a product combined with {dtype}")
        shape = tuple(a.size if a in memory else 1 for a in frame)
        found[one] = Array(one.buffer, name, dtype, memory, shape, ())
    return found
