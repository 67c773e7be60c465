"""Convolutions: sums of products over channels and windows of an image that is zero outside."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower import lower_transpose
from epitaxy.proposers.grower.algebra import Load, Value
from epitaxy.proposers.grower.axes import Inexpressible, Ix, align, divmod_ix, pure
from epitaxy.proposers.grower.lower_core import Index, Lowering, dtype_of, op, shape_of
from epitaxy.proposers.grower.lower_index import padded
from epitaxy.proposers.grower.lower_transpose import each


def _plain(node: Node) -> bool:
    """A convolution of float32; a transposed one where its phases fit."""
    if node.args[6] and not lower_transpose.expressible(node):
        return False
    return all(dtype_of(n) == "float32" for n in (node, *node.all_input_nodes))


def _hint(low: Lowering, node: Node) -> None:
    """Images stay images, output channels are the weight's rows."""
    if node.args[6]:
        lower_transpose.hint(low, node)
        return
    source, weight = node.args[0], node.args[1]
    own = low.dims(node)
    align([low.dims(source)[0]], [own[0]])
    align([low.dims(weight)[0]], [own[1]])
    bias = node.args[2]
    if isinstance(bias, Node):
        align([low.dims(bias)[0]], [own[1]])


@op("contract", "aten.convolution.default", ok=_plain, hint=_hint)
def lower_convolution(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """1-D to 3-D: strides, padding, dilation, groups, bias; transposed too."""
    source, weight, bias = node.args[:3]
    stride, pad, dilation = (list(node.args[k]) for k in (3, 4, 5))  # type: ignore[arg-type]
    groups: Any = node.args[8]
    if any(pure(ix) is None for ix in index if ix.axes):
        raise Inexpressible(node)  # it is computed once, in its own order
    if node.args[6]:
        total = lower_transpose.transposed(low, node, index)
        return _with_bias(low, total, bias, index)
    filters, per_group, *size = shape_of(weight)
    keys = low.dims((weight, "window"), (per_group, *size))
    (channel, *window), over = low.bind(keys, index, "k")
    group, _ = divmod_ix(index[1], filters // groups) if groups > 1 else (Ix(), index[1])
    place = [group.times(per_group).plus(channel)]
    for d, w in enumerate(window):
        step = each(stride, d)
        at = index[2 + d].times(step).shifted(-each(pad, d))
        place.append(at.plus(w.times(each(dilation, d))))
    x = padded(low, source, (index[0], *place), 0.0)  # type: ignore[arg-type]
    if not isinstance(x, Load) and source in low.lowered:
        raise Inexpressible(source)  # computed once, not once for each window
    factor = low.pull(weight, (index[1], channel, *window))
    total = low.build.reduce("sum", over, low.build.map("mul", factor, x), "float32")
    return _with_bias(low, total, bias, index)


def _with_bias(low: Lowering, total: Value, bias: Any, index: Index) -> Value:
    if isinstance(bias, Node):
        return low.build.map("add", total, low.pull(bias, index[1:2]))
    return total
