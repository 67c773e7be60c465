"""Operators that only move elements: views are index maps, the rest choose between operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Const, Value
from epitaxy.proposers.grower.axes import Inexpressible, Ix, divmod_ix, guards_of, reshape
from epitaxy.proposers.grower.lower_core import (
    Index,
    Lowering,
    op,
    shape_of,
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


def _restrides_nothing(node: Node) -> bool:
    source: Any = node.args[0]
    made = node.meta["val"]
    same = made.is_contiguous() and source.meta["val"].is_contiguous()
    return same and made.numel() == source.meta["val"].numel() and not _arg(node, 3, "offset", 0)


@op("view", "aten.as_strided", ok=_restrides_nothing)
def view_as_strided(node: Node, index: Index, which: int) -> Index:
    """as_strided where it is only a reshape."""
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
    start = 0
    pieces: list[tuple[Any, int, int]] = []
    for source in node.args[0]:  # type: ignore[union-attr]
        size = shape_of(source)[dim] if shape_of(source) != (0,) else 0
        if size:
            pieces.append((source, start, size))
        start += size
    first, last = index[dim].range()
    reached = [p for p in pieces if p[1] <= last and first < p[1] + p[2]] or pieces[:1]
    if len(reached) == 2:
        for constant, other in (reached, reversed(reached)):
            number = low.pull(constant[0], _replaced(index, dim, Ix()))
            if isinstance(number, Const):
                inner = _replaced(index, dim, index[dim].shifted(-other[1]))
                return padded(low, other[0], inner, number.value)
    source, start, _ = reached[-1]
    value = low.pull(source, _replaced(index, dim, index[dim].shifted(-start)))
    for source, start, size in reversed(reached[:-1]):
        here = index[dim].shifted(-start)
        piece = low.pull(source, _replaced(index, dim, here))
        piece = low.build.cast(piece, value.dtype)
        value = low.build.map("where", low.build.below(here, size), piece, value)
    return value


@op("move", "aten.stack")
def lower_stack(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """stack: a cat along a new dimension."""
    dim = _dim(node, _arg(node, 1, "dim", 0))
    rest = (*index[:dim], *index[dim + 1 :])
    sources: Any = node.args[0]
    value = low.pull(sources[-1], rest)
    for k in reversed(range(len(sources) - 1)):
        here = low.build.below(index[dim], k + 1)
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
    return low.build.map("where", low.build.below(index[d], shift), wrapped, plain)


@op("move", "aten.tril", "aten.triu")
def lower_triangle(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """tril and triu: zero on the other side of the diagonal."""
    diagonal = _arg(node, 1, "diagonal", 0)
    above = index[-1].plus(index[-2].times(-1)).shifted(-diagonal)
    value = low.pull(node.args[0], index)
    zero = low.build.const(0, value.dtype)
    if "triu" in str(node.target):
        return low.build.map("where", low.build.below(above, 0), zero, value)
    return low.build.map("where", low.build.below(above, 1), value, zero)
