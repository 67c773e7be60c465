"""Contractions: matrix products in every form become sums of products over a shared axis."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Value
from epitaxy.proposers.grower.axes import Dim, align
from epitaxy.proposers.grower.lower_core import (
    Index,
    Lowering,
    dtype_of,
    op,
    shape_of,
    working,
)
from epitaxy.proposers.grower.lower_pointwise import operand_index

_ADDED = ("addmm", "baddbmm", "addmv")


_TYPES = ("float32", "bfloat16", "float16", "int32")


def _plain(node: Node) -> bool:
    """Products that are computed in float32 or int32."""
    tensors = [n for n in node.all_input_nodes if hasattr(n.meta.get("val"), "shape")]
    types = {dtype_of(n) for n in (node, *tensors)}
    return len(types) == 1 and types <= set(_TYPES)


def _small(node: Node) -> bool:
    """Products of int8 in int32."""
    left, right = node.args[:2]
    assert isinstance(left, Node)
    assert isinstance(right, Node)
    return {dtype_of(left), dtype_of(right)} == {"int8"}


def _operands(node: Node) -> tuple[Node, Node, bool]:
    """(left, right, whether the right one is transposed) of a product."""
    name = str(node.target).split(".")[1]
    first = 1 if name in _ADDED else 0
    left, right = node.args[first], node.args[first + 1]
    assert isinstance(left, Node)
    assert isinstance(right, Node)
    return left, right, name == "linear"


def _hint(low: Lowering, node: Node) -> None:
    """Join rows with rows, columns with columns, and the two contracted dimensions."""
    left, right, turned = _operands(node)
    a, b, c = list(low.dims(left)), list(low.dims(right)), list(low.dims(node))
    _join(a.pop(), b.pop(-1 if turned or len(b) == 1 else -2))
    if b:
        _join(b.pop(), c.pop())
    if a:
        _join(a.pop(), c.pop())
    for rest in (a, b):
        for own, other in zip(reversed(rest), reversed(c), strict=False):
            _join(own, other)
    for extra in node.all_input_nodes:
        if extra not in (left, right):
            for own, other in zip(
                reversed(low.dims(extra)), reversed(low.dims(node)), strict=False
            ):
                _join(own, other)


def _join(first: Dim, second: Dim) -> None:
    if first.size == second.size:
        align([first], [second])


def _product(low: Lowering, node: Node, index: Index) -> Value:
    left, right, turned = _operands(node)
    a, b = shape_of(left), shape_of(right)
    rest = list(index)
    column = [rest.pop()] if len(b) > 1 else []
    row = [rest.pop()] if len(a) > 1 else []
    (k,), over = low.bind([low.dims(left)[-1]], index, "k")
    batch = tuple(rest)
    left_batch = _batch(a[:-2], batch)
    right_batch = _batch(b[:-2], batch)
    dtype = working(dtype_of(node))
    x = low.as_dtype(left, (*left_batch, *row, k), dtype)
    inner = (*column, k) if turned else (k, *column)
    y = low.as_dtype(right, (*right_batch, *inner), dtype)
    return low.build.reduce("sum", over, low.build.map("mul", x, y), dtype)


def _batch(shape: tuple[int, ...], index: Index) -> Index:
    """The index into batch dimensions of `shape` that broadcast to those of `index`."""
    from epitaxy.proposers.grower.axes import Ix

    tail = index[len(index) - len(shape) :]
    return tuple(Ix() if n == 1 else ix for n, ix in zip(shape, tail, strict=True))


@op("contract", "aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot", "aten.matmul",
    "aten.linear", ok=_plain, hint=_hint)  # fmt: skip
def lower_product(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Products of matrices, vectors and batches; linear layers, with their bias."""
    value = _product(low, node, index)
    bias: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    if isinstance(bias, Node):
        value = low.build.map("add", value, low.pull(bias, index[-1:]))
    return value


@op("contract", "aten._int_mm", ok=_small, hint=_hint)
def lower_small(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """A product of int8 matrices in int32."""
    return _product(low, node, index)


@op("contract", *(f"aten.{name}" for name in _ADDED), ok=_plain, hint=_hint)
def lower_added(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """beta * input + alpha * product; beta = 0 leaves the input unread, as PyTorch does."""
    dtype = working(dtype_of(node))
    beta: Any = node.kwargs.get("beta", 1)
    alpha: Any = node.kwargs.get("alpha", 1)
    build = low.build
    value = build.map("mul", _product(low, node, index), build.const(alpha, dtype))
    if beta == 0:
        return value
    extra = low.pull(node.args[0], operand_index(node.args[0], shape_of(node), index))
    return build.map("add", value, build.map("mul", extra, build.const(beta, dtype)))
