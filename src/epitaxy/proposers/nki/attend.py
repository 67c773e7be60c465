"""NKI attention: 128 queries across the partitions, keys block by block with a running maximum.

Scores are a product in PSUM with the depth across the partitions; weights are transposed by the
tensor engine, 128 keys at a time, since the second product contracts along them. What was added up
is rescaled when the maximum grows: Milakov, Gimelshein, "Online normalizer calculation for
softmax", 2018; Dao et al., "FlashAttention", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epitaxy.proposers._frames import Array, Frame
from epitaxy.proposers._nests import Known
from epitaxy.proposers.grower.algebra import Axis, Const, Load, Map
from epitaxy.proposers.grower.attention import Attention, exactly
from epitaxy.proposers.grower.contract import load_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.nki.instructions import STORED, Instructions, number
from epitaxy.proposers.nki.pieces import divisor, nested
from epitaxy.proposers.nki.products import ONE, fused, side

LOWEST = -3.4028234663852886e38
"""Taken from scores where a row has seen none yet: infinities would give NaN."""
LEAST_WEIGHT = 1e-38


class Attend:
    """How one attention is cut: queries by partitions, keys by the moving operand's columns."""

    def __init__(self, what: Attention, chip: Mapping[str, int], large: Attend | None) -> None:
        inner = what.weighted
        groups = (what.rows or (ONE,), inner.keys, inner.depth, what.columns)
        if any(len(g) != 1 for g in groups):
            raise Unsupported("attention over more than one axis of queries, keys or depth")
        if len(chip) < 3:
            raise Unsupported("a chip whose file does not know the operands of a product")
        self.what = what
        self.rows, self.keys, self.depth, self.columns = (g[0] for g in groups)
        partitions, moving = chip["partitions"], chip["moving_columns"]
        most = min(chip["stationary_columns"], partitions)
        for axis, limit, name in (
            (self.depth, partitions, "partitions"), (self.columns, moving, "moving_columns"),
        ):  # fmt: skip
            if axis.size > limit:
                raise Unsupported(f"{axis.size} columns of a head, {limit} at most ({name})")
        if large is None:
            self.lanes = divisor(self.rows.size, most)
            self.block = divisor(self.keys.size, moving)
            self.part = divisor(self.block, most)
        else:
            self.lanes = _cut(large.lanes, large.rows.size, self.rows.size)
            self.block = _cut(large.block, large.keys.size, self.keys.size)
            self.part = _cut(large.part, large.block, self.block)

    def tiles(self, last: Axis, width: int) -> Any:
        """What `Instructions` asks of a nest: queries across the partitions, `last` along them."""
        return _Tiles(self, last, width)


def _cut(piece: int, whole: int, size: int) -> int:
    """A piece of `size` where another was one of `whole`."""
    return size if piece == whole else divisor(size, max(1, min(piece, size // 2)))


class _Tiles:
    def __init__(self, made: Attend, last: Axis, width: int) -> None:
        self.loops, self.across = made.what.batch, made.rows
        self.frame = Frame((*self.loops, self.across, last))
        self.free, self.last, self.lanes = [last], last, made.lanes
        self.pieces = (made.lanes, width)

    def extent(self, axis: Axis) -> int:
        return self.pieces[1] if axis == self.last else axis.size


class Masked(Instructions):
    """Writes the scores: what positions mask away is selected by the engine itself."""

    def __init__(self, arrays: Mapping[Load, Array], made: Attend, at: dict[Axis, str]) -> None:
        super().__init__(
            arrays, made.tiles(made.keys, made.block), at[made.rows], at[made.keys]
        )  # fmt: skip
        self.made = made

    def _map(self, value: Map) -> str:
        if value.fn != "where":
            return super()._map(value)
        condition, yes, no = value.args
        if isinstance(yes, Const) and not isinstance(no, Const):
            condition, yes, no = Map("not", (condition,), "bool"), no, yes
        tests = exactly(condition)
        if tests is None or not isinstance(no, Const):
            raise Unsupported("a choice by what is no position on a NeuronCore")
        free = tuple(self.tiles.free)
        tile = self.constant(yes, free) if isinstance(yes, Const) else self.use(yes)
        if not isinstance(yes, Const) and self.axes(yes) != free:
            raise Unsupported("a choice of what does not vary along the keys")
        for test in tests:
            self.lines_of(test, made := self.tile("kept", free, "float32"), tile, no)
            tile = made
        return tile

    def lines_of(self, test: Any, made: str, tile: str, no: Const) -> None:
        """One selection."""
        it = self.made
        known = {it.rows: f"row * {it.lanes}", it.keys: f"block * {it.block}"}
        known |= {a: a.name for a in it.what.batch}
        if any(a not in known for a, _ in test.index.terms):
            raise Unsupported("a position beside queries and keys")
        offset = [str(test.index.offset - test.bound)]
        for axis, c in test.index.terms:
            times = "" if abs(c) == 1 else f"{abs(c)} * "
            offset.append(f"{'-' if c < 0 else '+'} {times}{known[axis]}")
        slope, across = (test.index.coefficient(a) for a in (it.keys, it.rows))
        self.lines.append(
            f"nisa.affine_select(dst={made}, pattern=[[{slope}, {it.block}]], "
            f"offset={' '.join(offset)}, channel_multiplier={across}, on_true_tile={tile}, "
            f"on_false_value={number(no)}, "
            f"cmp_op={'nl.less' if test.least else 'nl.greater_equal'})"
        )


def write_attention(kernel: Kernel, known: Known, made: Attend) -> list[str]:
    """The loops over one attention. Raises Unsupported."""
    what, inner, (target,) = made.what, made.what.weighted, kernel.targets
    m, n, t, e = made.lanes, made.block, made.part, made.columns.size
    at = {
        made.rows: f"row * {m} : (row + 1) * {m}",
        made.keys: f"block * {n} : (block + 1) * {n}",
        made.depth: ":",
        made.columns: ":",
    }
    query = side(inner.query, (what.batch, made.rows, made.depth), known, at)
    key = side(inner.key, (what.batch, made.keys, made.depth), known, at)
    down = {**at, made.keys: f"block * {n} + part * {t} : block * {n} + (part + 1) * {t}"}
    value = side(inner.value, (what.batch, made.columns, made.keys), known, down)
    if target.dtype not in STORED:
        raise Unsupported(f"{target.dtype} on a NeuronCore")
    scores, masked = _scores(made, known, at)
    narrow = load_of(inner.value).dtype
    d = made.depth.size
    block = [
        *_loaded("keys", (d, n), key),
        f"sums = nl.ndarray({(m, n)}, dtype=nl.float32, buffer=nl.psum)",
        "nisa.nc_matmul(dst=sums, stationary=queries, moving=keys)",
        *_new("product", (m, n)), "nisa.tensor_copy(dst=product, src=sums)",
        *masked,
        *_new("higher", (m, 1)), *_new("shift", (m, 1)), *_new("kept_share", (m, 1)),
        *_new("weights", (m, n)), *_new("added", (m, 1)),
        f"nisa.tensor_reduce(dst=higher, op=nl.maximum, data={scores}, axis=(1,), keepdims=True)",
        "nisa.tensor_tensor(dst=higher, data1=most, data2=higher, op=nl.maximum)",
        f"nisa.tensor_scalar(dst=shift, data=higher, op0=nl.maximum, operand0={LOWEST!r}, "
        "op1=nl.multiply, operand1=-1.0)",
        f"nisa.activation(dst=weights, op=nl.exp, data={scores}, bias=shift)",
        "nisa.activation(dst=kept_share, op=nl.exp, data=most, bias=shift)",
        "nisa.tensor_reduce(dst=added, op=nl.add, data=weights, axis=(1,), keepdims=True)",
        "nisa.tensor_scalar(dst=weight, data=weight, op0=nl.multiply, operand0=kept_share, "
        "op1=nl.add, operand1=added)",
        "nisa.tensor_copy(dst=most, src=higher)",
        "nisa.tensor_scalar(dst=total, data=total, op0=nl.multiply, operand0=kept_share)",
        f"made = nl.ndarray({(m, e)}, dtype=nl.float32, buffer=nl.psum)",
        f"for part in nl.sequential_range({n // t}):",
        f"    turned = nl.ndarray({(t, m)}, dtype=nl.float32, buffer=nl.psum)",
        f"    nisa.nc_transpose(dst=turned, data=weights[:, part * {t} : (part + 1) * {t}])",
        f"    stationary = nl.ndarray({(t, m)}, dtype=nl.{narrow}, buffer=nl.sbuf)",
        "    nisa.tensor_copy(dst=stationary, src=turned)",
        *(f"    {x}" for x in _loaded("values", (t, e), value)),
        "    nisa.nc_matmul(dst=made, stationary=stationary, moving=values)",
        "nisa.tensor_tensor(dst=total, data1=total, data2=made, op=nl.add)",
    ]  # fmt: skip
    rows = [
        *_loaded("queries", (d, m), query),
        *_filled("most", (m, 1), 'float("-inf")'), *_filled("weight", (m, 1), "0.0"),
        *_filled("total", (m, e), "0.0"),
        *nested([f"for block in nl.sequential_range({made.keys.size // n}):"], block),
        *_finish(kernel, known, made, at),
    ]  # fmt: skip
    loops = [f"for {a.name} in nl.affine_range({a.size}):" for a in what.batch]
    loops.append(f"for row in nl.affine_range({made.rows.size // m}):")
    times = "".join(f"{a.size} times " for a in what.batch)
    comment = (
        f"# {target.buffer}: {times}{made.rows.size} queries of {made.keys.size} keys, {d} deep"
    )
    return [comment, *nested(loops, rows)]


def _scores(made: Attend, known: Known, at: dict[Axis, str]) -> tuple[str, list[str]]:
    """The tile of the scores, and the statements that make it of the product."""
    inner = made.what.weighted
    place = (made.what.batch, (made.rows,), (made.keys,))
    arrays = fused(inner.scores, inner.product, place, known)
    writer = Masked(arrays, made, at)
    writer.memo[inner.product] = "product"
    writer.dtypes["product"] = "float32"
    return writer.use(inner.scores), writer.lines


def _finish(kernel: Kernel, known: Known, made: Attend, at: dict[Axis, str]) -> list[str]:
    """What is done to the result on the way out."""
    what, inner, (target,) = made.what, made.what.weighted, kernel.targets
    tiles = made.tiles(made.columns, made.columns.size)
    place = (what.batch, (made.rows,), (made.columns,))
    arrays = fused(target.value, inner.total, place, known)
    writer = Instructions(arrays, tiles, at[made.rows], at[made.columns])
    writer.memo[inner.total] = "total"
    writer.dtypes["total"] = "float32"
    frame: Frame = tiles.frame
    array = frame.array(-1, target.buffer, target.dtype, target.index, target.numel)
    lines = []
    if inner.safe:
        lines.append(
            f"nisa.tensor_scalar(dst=weight, data=weight, op0=nl.maximum, operand0={LEAST_WEIGHT})"
        )
    lines.append("nisa.tensor_scalar(dst=total, data=total, op0=nl.divide, operand0=weight)")
    writer.store(target.value, array)
    return [*lines, *writer.lines]


def _new(name: str, shape: tuple[int, int]) -> list[str]:
    return [f"{name} = nl.ndarray({shape}, dtype=nl.float32, buffer=nl.sbuf)"]


def _filled(name: str, shape: tuple[int, int], value: str) -> list[str]:
    return [*_new(name, shape), f"nisa.memset(dst={name}, value={value})"]


def _loaded(name: str, shape: tuple[int, int], given: tuple[str, str]) -> list[str]:
    text, dtype = given
    return [
        f"{name} = nl.ndarray({shape}, dtype=nl.{dtype}, buffer=nl.sbuf)",
        f"nisa.dma_copy(dst={name}, src={text})",
    ]
