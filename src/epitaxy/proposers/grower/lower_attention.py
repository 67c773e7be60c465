"""Scaled dot-product attention: PyTorch's own operator as algebra, and where the written-out form
ends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Value
from epitaxy.proposers.grower.axes import Dim, Inexpressible, Ix, align, divmod_ix, pure
from epitaxy.proposers.grower.lower_core import (
    HALVES,
    Index,
    Lowering,
    dtype_of,
    op,
    op_of,
    shape_of,
)
from epitaxy.proposers.grower.lower_pointwise import operand_index

_STEPS = 64
"""Nodes looked at between the two products of one attention."""
_BLOCK = 512
"""Keys in a block of PyTorch's kernel (FlashAttentionKernel.cpp, kvSplitSize)."""
_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def _given(node: Node, name: str, default: Any = None) -> Any:
    position = _NAMES.index(name) if name in _NAMES else len(node.args)
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _plain(node: Node) -> bool:
    """Floats of one kind without dropout; a mask of truths or of numbers that are added."""
    mask, own = _given(node, "attn_mask"), dtype_of(node)
    allowed = mask is None or dtype_of(mask) in ("bool", "float32", own)
    floats = own in ("float32", *HALVES) and all(dtype_of(n) == own for n in _operands(node))
    ranks = {len(shape_of(n)) for n in _operands(node)}
    return allowed and floats and not _given(node, "dropout_p", 0.0) and len(ranks) == 1


def _operands(node: Node) -> tuple[Node, Node, Node]:
    q, k, v = (_given(node, name) for name in _NAMES[:3])
    return q, k, v


def _hint(low: Lowering, node: Node) -> None:
    """Heads with heads, rows with rows, keys with keys."""
    q, k, v = (list(low.dims(n)) for n in _operands(node))
    own = list(low.dims(node))
    _join(q[-1], k[-1])
    _join(k[-2], v[-2])
    _join(v[-1], own[-1])
    _join(q[-2], own[-2])
    for a, b, c, d in zip(q[:-2], k[:-2], v[:-2], own[:-2], strict=True):
        _join(b, c)
        _join(a, d)
        _join(b, d)
    mask = _given(node, "attn_mask")
    if isinstance(mask, Node):
        wanted = [*own[:-1], k[-2]]
        for a, b in zip(reversed(low.dims(mask)), reversed(wanted), strict=False):
            _join(a, b)


def _join(first: Dim, second: Dim) -> None:
    if first.size == second.size and first.size > 1:
        align([first], [second])


@op("contract", "aten.scaled_dot_product_attention", ok=_plain, hint=_hint)
def lower_attention(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """softmax(q k^T * scale + mask) v; a row that may look at no key is zero, as in PyTorch."""
    if any(pure(ix) is None for ix in index if ix.axes):
        raise Inexpressible(node)  # it is computed once, in its own order
    q, k, v = _operands(node)
    build = low.build
    *batch, row, column = index
    (key,), over = low.bind([low.dims(k)[-2]], index, "k")
    scores = _scores(low, node, (*batch, row), key)
    lowest = build.const(-math.inf, "float32")
    most = build.reduce("max", over, scores, "float32")
    top = build.map("exp", build.map("sub", scores, most))
    weights = build.map("div", top, build.reduce("sum", over, top, "float32"))
    empty = build.map("eq", most, lowest)
    weights = build.map("where", empty, build.const(0.0, "float32"), weights)
    value = low.pull(v, (*_heads(low, node, v, tuple(batch)), key, column))
    if _given(node, "is_causal", False) and (shape_of(k)[-2] > _BLOCK or not _blocked(node)):
        _finite(low, value)
    return build.reduce("sum", over, build.map("mul", weights, value), "float32")


def uncounted(nodes: Iterable[Node]) -> float:
    """Flops ahead of the rows of causal attention among `nodes`: they are products in the algebra,
    and no work of the reference."""
    total = 0.0
    for node in nodes:
        if str(node.target).startswith("aten.scaled_dot_product_attention") and _given(
            node, "is_causal", False
        ):
            (*batch, rows, width), keys = shape_of(node), shape_of(_operands(node)[1])[-2]
            ahead = sum(max(0, keys - i - 1) for i in range(rows))
            depth = shape_of(_operands(node)[0])[-1]
            total += 2.0 * math.prod(batch) * ahead * (depth + width)
    return total


def _blocked(node: Node) -> bool:
    """Whether PyTorch has its blocked kernel for it: with batch and heads, and nothing else."""
    return len(shape_of(node)) == 4


def _finite(low: Lowering, value: Value) -> None:
    """Refuse calls with a NaN or an infinity among the values. PyTorch leaves out whole blocks of
    keys that lie ahead of a row, so that which rows meet such a value depends on its blocks; where
    it has no such kernel, keys ahead are products like others, to which -inf is added."""
    build = low.build
    fine = build.map("lt", build.map("abs", value), build.const(math.inf, "float32"))
    build.outside[build.map("not", fine)] = None


def _scores(low: Lowering, node: Node, place: Index, key: Ix) -> Value:
    q, k, _ = _operands(node)
    build = low.build
    *batch, row = place
    (depth,), over = low.bind([low.dims(q)[-1]], (*place, key), "k")
    x = low.pull(q, (*_heads(low, node, q, tuple(batch)), row, depth))
    y = low.pull(k, (*_heads(low, node, k, tuple(batch)), key, depth))
    scale = node.kwargs.get("scale")
    number = 1 / math.sqrt(shape_of(q)[-1]) if scale is None else float(scale)  # type: ignore[arg-type]
    product = build.reduce("sum", over, build.map("mul", x, y), "float32")
    scores = build.map("mul", product, build.const(number, "float32"))
    lowest = build.const(-math.inf, "float32")
    mask = _given(node, "attn_mask")
    if isinstance(mask, Node):
        shape = (*shape_of(node)[:-1], shape_of(k)[-2])
        value = low.pull(mask, operand_index(mask, shape, (*place, key)))
        if dtype_of(mask) == "bool":
            value = build.map("where", value, build.const(0.0, "float32"), lowest)
        scores = build.map("add", scores, value)
    if _given(node, "is_causal", False):
        if not _blocked(node):
            _finite(low, y)
        ahead = key.plus(row.times(-1))
        scores = build.map("where", build.below(ahead, 1), scores, lowest)
    return scores


def _heads(low: Lowering, node: Node, operand: Node, batch: Index) -> Index:
    """The batch index of an operand: sizes of 1 are broadcast, groups of heads share keys."""
    own, full = shape_of(operand)[:-2], shape_of(node)[:-2]
    found = [Ix() if n == 1 else ix for n, ix in zip(own, batch, strict=True)]
    if own and own[-1] not in (1, full[-1]):
        found[-1], _ = divmod_ix(batch[-1], full[-1] // own[-1])
    return tuple(found)


def closes(node: Node) -> bool:
    """Whether the product `node` weighs values by a softmax of another product."""
    left = node.args[0] if node.args else None
    stack: list[Any] = [left]
    seen: set[Node] = set()
    names: set[str] = set()
    while stack and len(seen) < _STEPS:
        source = stack.pop()
        found = op_of(source) if isinstance(source, Node) else None
        if found is None or source in seen or not isinstance(source, Node):
            continue
        seen.add(source)
        if found.kind == "contract":
            if {"exp", "amax"} <= names or {"exp", "max"} <= names:
                return True
            continue
        names.add(str(source.target).split(".")[1] if "." in str(source.target) else "")
        stack += source.all_input_nodes
    return False
