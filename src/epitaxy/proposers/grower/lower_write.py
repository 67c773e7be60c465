"""Writes into a part of a tensor, as the exporter leaves them: the rest stays what it was."""

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


@op("point", "aten.copy.default")
def lower_copy(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """copy(to, from): `from`, as wide as `to`."""
    source: Any = node.args[1]
    own = shape_of(source)
    tail = index[len(index) - len(own) :]
    place = tuple(Ix() if n == 1 else ix for n, ix in zip(own, tail, strict=True))
    return low.as_dtype(source, place, working(dtype_of(node)))


@op("move", "aten.select_scatter.default")
def lower_select_scatter(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """`to` with one slice along a dimension replaced."""
    whole, part = node.args[0], node.args[1]
    dim = int(node.args[2]) % len(index)  # type: ignore[arg-type]
    size = shape_of(node)[dim]
    at = int(node.args[3]) % size  # type: ignore[arg-type]
    build = low.build
    here = build.inside(index[dim].shifted(-at), 1)
    dtype = working(dtype_of(node))
    written = low.as_dtype(part, (*index[:dim], *index[dim + 1 :]), dtype)
    return build.map("where", here, written, low.as_dtype(whole, index, dtype))


# -- writes to where data says -----------------------------------------------------------------

_FEW = 16


def _few(node: Node) -> bool:
    """Few enough places along the dimension to look at each of them."""
    own, at = shape_of(node.args[0]), shape_of(node.args[2])
    if not own or len(own) != len(at):
        return False
    dim = int(node.args[1]) % len(own)  # type: ignore[arg-type]
    rest = all(n == m for k, (n, m) in enumerate(zip(own, at, strict=True)) if k != dim)
    return rest and 0 < at[dim] <= _FEW and dtype_of(node.args[2]) == "int64"  # type: ignore[arg-type]


@op("gather", "aten.scatter.src", "aten.scatter.value", "aten.scatter_add.default", ok=_few)
def lower_scatter(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """scatter and scatter_add of few values into each row: later ones replace earlier ones, or are
    added to them, in order."""
    build, dtype = low.build, working(dtype_of(node))
    whole, at, source = node.args[0], node.args[2], node.args[3]
    dim = int(node.args[1]) % len(index)  # type: ignore[arg-type]
    size = shape_of(node)[dim]
    value = low.as_dtype(whole, index, dtype)
    here = build.index(index[dim])
    for k in range(shape_of(at)[dim]):
        place = (*index[:dim], Ix(k), *index[dim + 1 :])
        to = build.cast(low.pull(at, place), "int64")
        build.as_ix(to, size)  # must lie inside
        inner = place if isinstance(source, Node) else ()
        new = low.as_dtype(source, inner, dtype)
        if "scatter_add" in str(node.target):
            new = build.map("add", value, new)
        value = build.map("where", build.map("eq", to, here), new, value)
    return value
