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
