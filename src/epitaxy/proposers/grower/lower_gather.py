"""Operators that read where data says, and operators that make tensors from nothing."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Value
from epitaxy.proposers.grower.axes import Ix
from epitaxy.proposers.grower.lower_core import (
    Index,
    Lowering,
    dtype_of,
    op,
    shape_of,
    working,
)


def _dim(node: Node, value: Any) -> int:
    return int(value) % max(len(shape_of(node)), 1)


def _replaced(index: Index, dim: int, ix: Ix) -> Index:
    return (*index[:dim], ix, *index[dim + 1 :])


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


@op("make", "aten.zeros", "aten.zeros_like", "aten.new_zeros", "aten.empty", "aten.empty_like",
    "aten.new_empty", "aten.empty_permuted")  # fmt: skip
def lower_zeros(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Zeros; an empty tensor may hold anything."""
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
