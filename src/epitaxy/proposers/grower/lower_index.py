"""Operators that only move elements: views are index maps, the rest choose between operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Value
from epitaxy.proposers.grower.axes import Inexpressible, Ix, divmod_ix, guards_of, reshape
from epitaxy.proposers.grower.lower_core import (
    Index,
    Lowering,
    dtype_of,
    op,
    shape_of,
    working,
)


def _arg(node: Node, position: int, name: str, default: Any = None) -> Any:
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _dim(node: Node, value: Any) -> int:
    return int(value) % max(len(shape_of(node)), 1)


def _replaced(index: Index, dim: int, ix: Ix) -> Index:
    return (*index[:dim], ix, *index[dim + 1 :])


# -- views ---------------------------------------------------------------------------------


@op("view", "aten.view.default", "aten._unsafe_view", "aten.reshape", "aten.flatten.using_ints",
    "aten.unflatten.int", "aten.squeeze", "aten.unsqueeze", "aten.view_as")  # fmt: skip
def view_reshape(node: Node, index: Index, which: int) -> Index:
    """Any reshape, squeeze and unsqueeze included."""
    return reshape(index, shape_of(node), shape_of(node.args[0]))


@op("view", "aten.permute", "aten.numpy_T")
def view_permute(node: Node, index: Index, which: int) -> Index:
    """permute."""
    rank = len(index)
    order: Sequence[int] = _arg(node, 1, "dims") or tuple(reversed(range(rank)))
    inner = [Ix()] * rank
    for k, d in enumerate(order):
        inner[d % rank] = index[k]
    return tuple(inner)


@op("view", "aten.transpose.int", "aten.t", "aten.swapaxes")
def view_transpose(node: Node, index: Index, which: int) -> Index:
    """transpose and t."""
    if len(index) < 2:
        return index
    a, b = _dim(node, _arg(node, 1, "dim0", 0)), _dim(node, _arg(node, 2, "dim1", 1))
    inner = list(index)
    inner[a], inner[b] = inner[b], inner[a]
    return tuple(inner)


@op("view", "aten.expand", "aten.expand_as", "aten.broadcast_to")
def view_expand(node: Node, index: Index, which: int) -> Index:
    """expand."""
    own = shape_of(node.args[0])
    tail = index[len(index) - len(own) :]
    return tuple(Ix() if n == 1 else ix for n, ix in zip(own, tail, strict=True))


@op("view", "aten.slice.Tensor")
def view_slice(node: Node, index: Index, which: int) -> Index:
    """x[start:end:step] along one dimension."""
    dim = _dim(node, _arg(node, 1, "dim", 0))
    size = shape_of(node.args[0])[dim]
    start = _arg(node, 2, "start") or 0
    start = max(start + size, 0) if start < 0 else min(start, size)
    return _replaced(index, dim, index[dim].times(_arg(node, 4, "step", 1)).shifted(start))


@op("view", "aten.select.int")
def view_select(node: Node, index: Index, which: int) -> Index:
    """x.select(dim, i)."""
    source = node.args[0]
    assert isinstance(source, Node)
    dim = _dim(source, node.args[1])
    at = int(node.args[2])  # type: ignore[arg-type]
    at = at + shape_of(source)[dim] if at < 0 else at
    return (*index[:dim], Ix(at), *index[dim:])


@op("view", "aten.flip")
def view_flip(node: Node, index: Index, which: int) -> Index:
    """flip."""
    inner = list(index)
    for d in node.args[1]:  # type: ignore[union-attr]
        d = _dim(node, d)
        inner[d] = index[d].times(-1).shifted(shape_of(node)[d] - 1)
    return tuple(inner)


@op("view", "aten.unfold.default")
def view_unfold(node: Node, index: Index, which: int) -> Index:
    """x.unfold(dim, size, step): sliding windows."""
    source = node.args[0]
    assert isinstance(source, Node)
    dim, step = _dim(source, node.args[1]), int(node.args[3])  # type: ignore[arg-type]
    return _replaced(index[:-1], dim, index[dim].times(step).plus(index[-1]))


@op("view", "aten.diagonal")
def view_diagonal(node: Node, index: Index, which: int) -> Index:
    """diagonal."""
    source = node.args[0]
    assert isinstance(source, Node)
    offset = _arg(node, 1, "offset", 0)
    a, b = _dim(source, _arg(node, 2, "dim1", 0)), _dim(source, _arg(node, 3, "dim2", 1))
    inner = list(index[:-1])
    for d, start in sorted([(a, max(-offset, 0)), (b, max(offset, 0))]):
        inner.insert(d, index[-1].shifted(start))
    return tuple(inner)


@op("view", "aten.repeat", "aten.tile")
def view_repeat(node: Node, index: Index, which: int) -> Index:
    """repeat: the position modulo the source's size."""
    own = shape_of(node.args[0])
    tail = index[len(index) - len(own) :]
    sizes = shape_of(node)[len(index) - len(own) :]
    return tuple(
        ix if n == m else divmod_ix(ix, n)[1] if n > 1 else Ix()
        for ix, n, m in zip(tail, own, sizes, strict=True)
    )


@op("view", "aten.split_with_sizes", "aten.split.Tensor", "aten.chunk")
def view_split(node: Node, index: Index, which: int) -> Index:
    """One piece of split or chunk."""
    source = node.args[0]
    assert isinstance(source, Node)
    dim = _dim(source, _arg(node, 2, "dim", 0))
    before = sum(int(piece.shape[dim]) for piece in node.meta["val"][:which])
    return _replaced(index, dim, index[dim].shifted(before))


@op("view", "aten.unbind")
def view_unbind(node: Node, index: Index, which: int) -> Index:
    """One slice of unbind."""
    source = node.args[0]
    assert isinstance(source, Node)
    dim = _dim(source, _arg(node, 1, "dim", 0))
    return (*index[:dim], Ix(which), *index[dim:])


def _whole_factors(node: Node) -> bool:
    """Nearest upsampling by whole factors only."""
    return all(m % n == 0 for n, m in zip(shape_of(node.args[0]), shape_of(node), strict=True))


@op("view", "aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_nearest3d",
    "aten.repeat_interleave.self_int", ok=_whole_factors)  # fmt: skip
def view_upsample(node: Node, index: Index, which: int) -> Index:
    """Nearest upsampling by whole factors: the position divided by the factor."""
    own, made = shape_of(node.args[0]), shape_of(node)
    return tuple(
        Ix() if n == 1 else divmod_ix(ix, m // n)[0]
        for ix, n, m in zip(index, own, made, strict=True)
    )


# -- choices -------------------------------------------------------------------------------


@op("move", "aten.cat", "aten.concat")
def lower_cat(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """cat: the first operand whose range holds the position."""
    dim = _dim(node, _arg(node, 1, "dim", 0))
    start, pieces = 0, []
    for source in node.args[0]:  # type: ignore[union-attr]
        size = shape_of(source)[dim] if shape_of(source) != (0,) else 0
        if size:
            pieces.append((source, start, size))
        start += size
    first, last = index[dim].range()
    reached = [p for p in pieces if p[1] <= last and first < p[1] + p[2]] or pieces[:1]
    source, start, _ = reached[-1]
    value = low.pull(source, _replaced(index, dim, index[dim].shifted(-start)))
    for source, start, size in reversed(reached[:-1]):
        here = index[dim].shifted(-start)
        piece = low.pull(source, _replaced(index, dim, here))
        # Earlier pieces were tried first: only the upper end decides.
        inside = low.build.inside(here.shifted(-size).times(-1).shifted(-1), 1 << 62)
        value = low.build.map("where", inside, low.build.cast(piece, value.dtype), value)
    return value


@op("move", "aten.stack")
def lower_stack(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """stack: a cat along a new dimension."""
    dim = _dim(node, _arg(node, 1, "dim", 0))
    rest = (*index[:dim], *index[dim + 1 :])
    sources: Any = node.args[0]
    value = low.pull(sources[-1], rest)
    for k in reversed(range(len(sources) - 1)):
        here = low.build.inside(index[dim].times(-1).shifted(k), 1 << 62)
        value = low.build.map("where", here, low.pull(sources[k], rest), value)
    return value


@op("move", "aten.constant_pad_nd")
def lower_pad(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Constant padding; negative padding crops."""
    pads: Any = node.args[1]
    fill = _arg(node, 2, "value", 0) or 0
    inner = list(index)
    for k in range(len(pads) // 2):
        d = len(index) - 1 - k
        inner[d] = index[d].shifted(-pads[2 * k])
    source: Any = node.args[0]
    return padded(low, source, tuple(inner), fill)


def padded(low: Lowering, source: Node, index: Index, fill: float) -> Value:
    """`source` at `index`, or `fill` where that lies outside."""
    shape = shape_of(source)
    value = low.pull(source, index)
    guards = guards_of(index, shape)
    if not guards:
        return value
    merged = low.build.filled(value, guards, fill)
    if merged is not None:
        return merged
    inside: Value = low.build.const(True, "bool")
    for ix, n in zip(index, shape, strict=True):
        inside = low.build.map("and", inside, low.build.inside(ix, n))
    return low.build.map("where", inside, value, low.build.const(fill, value.dtype))


@op("move", "aten.roll")
def lower_roll(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """roll: two shifted reads for every rolled dimension."""
    shifts, dims = node.args[1], _arg(node, 2, "dims", ())
    shifts = shifts if isinstance(shifts, list | tuple) else [shifts]
    if not dims:
        raise Inexpressible(node)
    return _rolled(low, node, list(zip(shifts, dims, strict=True)), index)


def _rolled(low: Lowering, node: Node, rolls: list[tuple[Any, Any]], index: Index) -> Value:
    if not rolls:
        return low.pull(node.args[0], index)
    (shift, dim), rest = rolls[0], rolls[1:]
    d = _dim(node, dim)
    size = shape_of(node)[d]
    shift = shift % size
    if not shift:
        return _rolled(low, node, rest, index)
    wrapped = _rolled(low, node, rest, _replaced(index, d, index[d].shifted(size - shift)))
    plain = _rolled(low, node, rest, _replaced(index, d, index[d].shifted(-shift)))
    here = low.build.inside(index[d].shifted(-shift), size)
    return low.build.map("where", here, plain, wrapped)


@op("move", "aten.tril", "aten.triu")
def lower_triangle(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """tril and triu: zero on the other side of the diagonal."""
    diagonal = _arg(node, 1, "diagonal", 0)
    above = index[-1].plus(index[-2].times(-1)).shifted(-diagonal)
    kept = above if "triu" in str(node.target) else above.times(-1)
    value = low.pull(node.args[0], index)
    here = low.build.inside(kept, 1 << 62)
    return low.build.map("where", here, value, low.build.const(0, value.dtype))


# -- gathers -------------------------------------------------------------------------------


def _gathered(low: Lowering, at: Any, index: Index, size: int, wrap: bool = False) -> Ix:
    """The index that tensor `at` holds at `index`, for a dimension of `size`."""
    value = low.build.cast(low.pull(at, index), "int64")
    if wrap:
        zero, length = low.build.const(0, "int64"), low.build.const(size, "int64")
        below = low.build.map("lt", value, zero)
        value = low.build.map("where", below, low.build.map("add", value, length), value)
    return low.build.as_ix(value, size)


@op("gather", "aten.gather")
def lower_gather(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """gather along one dimension."""
    source, at = node.args[0], node.args[2]
    dim = _dim(node, node.args[1])
    place = _gathered(low, at, index, shape_of(source)[dim])
    return low.pull(source, _replaced(index, dim, place))


@op("gather", "aten.index_select")
def lower_index_select(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """index_select."""
    source, at = node.args[0], node.args[2]
    dim = _dim(node, node.args[1])
    place = _gathered(low, at, (index[dim],)[: len(shape_of(at))], shape_of(source)[dim])
    return low.pull(source, _replaced(index, dim, place))


@op("gather", "aten.embedding")
def lower_embedding(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """embedding."""
    table, at = node.args[0], node.args[1]
    return low.pull(table, (_gathered(low, at, index[:-1], shape_of(table)[0]), index[-1]))


def _index_ok(node: Node) -> bool:
    tensors: Any = node.args[1]
    return all(t is None or dtype_of(t) in ("int64", "int32") for t in tensors)


@op("gather", "aten.index.Tensor", "aten._unsafe_index.Tensor", ok=_index_ok)
def lower_index(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """x[:, i, j]: integer tensors that broadcast together; negative positions wrap."""
    source, tensors = node.args[0], list(node.args[1])  # type: ignore[arg-type]
    shape = shape_of(source)
    tensors += [None] * (len(shape) - len(tensors))
    used = [k for k, t in enumerate(tensors) if t is not None]
    joint = max(len(shape_of(tensors[k])) for k in used)
    start = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    at = index[start : start + joint]
    rest = iter((*index[:start], *index[start + joint :]))
    inner = []
    for k, tensor in enumerate(tensors):
        if tensor is None:
            inner.append(next(rest))
            continue
        own = shape_of(tensor)
        place = tuple(
            Ix() if n == 1 else ix for n, ix in zip(own, at[joint - len(own) :], strict=True)
        )
        inner.append(_gathered(low, tensor, place, shape[k], wrap=True))
    return low.pull(source, tuple(inner))


# -- from nothing --------------------------------------------------------------------------


@op("make", "aten.full", "aten.full_like", "aten.new_full", "aten.scalar_tensor")
def lower_full(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """A constant tensor."""
    position = {"scalar_tensor": 0, "new_full": 2}.get(str(node.target).split(".")[1], 1)
    return low.build.const(node.args[position], working(dtype_of(node)))  # type: ignore[arg-type]


@op("make", "aten.zeros", "aten.zeros_like", "aten.new_zeros")
def lower_zeros(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Zeros."""
    return low.build.const(0, working(dtype_of(node)))


@op("make", "aten.ones", "aten.ones_like", "aten.new_ones")
def lower_ones(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Ones."""
    return low.build.const(1, working(dtype_of(node)))


@op("make", "aten.arange")
def lower_arange(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """arange: start + step * position."""
    start, step = (0, 1) if len(node.args) < 2 else (node.args[0], [*node.args, 1][2])
    dtype = working(dtype_of(node))
    if dtype not in ("float32", "float64"):
        return low.build.index(index[0].times(int(step)).shifted(int(start)), dtype)  # type: ignore[arg-type]
    scaled = low.build.map("mul", low.build.index(index[0], dtype), low.build.const(step, dtype))  # type: ignore[arg-type]
    return low.build.map("add", scaled, low.build.const(start, dtype))  # type: ignore[arg-type]


@op("make", "aten.eye")
def lower_eye(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """The identity matrix."""
    here = low.build.map("eq", low.build.index(index[0]), low.build.index(index[1]))
    return low.build.cast(here, working(dtype_of(node)))
