"""Rows that are added where data says: index_add, scatter_add along the first dimension, and bags
of embeddings, each a region of its own with what the rows are made of."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Region, Store, Value, walk
from epitaxy.proposers.grower.algebra_whole import Sums
from epitaxy.proposers.grower.axes import Inexpressible, Ix, NeedSplit, total
from epitaxy.proposers.grower.lower_core import Lowering, dtype_of, shape_of, spec_of

ADDING = ("aten.index_put.default", "aten.scatter_add.default")
BAGS = ("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")
_RESTARTS = 8


def result_of(node: Node) -> Node | None:
    """The node whose tensor the region of `node` makes; None where it is no such call."""
    name = str(node.target)
    if name in ADDING:
        return node if _adds(node) else None
    if name not in BAGS or node.kwargs:
        return None
    settings = [*node.args[3:], *(False, 0, False, None, False, -1)[len(node.args) - 3 :]]
    _, mode, _, weights, with_end, padding = settings
    users = [u for u in node.users if u.users]
    fits = mode in (0, 1) and not with_end and padding == -1 and (mode == 0 or weights is None)
    if not fits or len(users) != 1 or users[0].args[1] != 0:
        return None
    kinds = [dtype_of(n) for n in node.args[1:3]]  # type: ignore[arg-type]
    return users[0] if kinds == ["int64", "int64"] and len(shape_of(node.args[1])) == 1 else None


def _adds(node: Node) -> bool:
    """Whether whole rows of a matrix are added to rows of another."""
    own = shape_of(node)
    if len(own) != 2 or dtype_of(node) != "float32" or node.kwargs:
        return False
    if str(node.target) == "aten.scatter_add.default":
        at, source = shape_of(node.args[2]), shape_of(node.args[3])
        same = node.args[1] == 0 and at == source and source[1:] == own[1:]
        return bool(same) and dtype_of(node.args[2]) == "int64"  # type: ignore[arg-type]
    listed: Any = node.args[1]
    if len(node.args) < 4 or node.args[3] is not True or len(listed) != 1 or listed[0] is None:
        return False
    at, source = shape_of(listed[0]), shape_of(node.args[2])
    return len(at) == 1 and source == (at[0], own[1]) and dtype_of(listed[0]) == "int64"


class SumsLowering(Lowering):
    """One such call in the making."""

    def __init__(self, node: Node, absorbed: list[Node], scalars: dict[Node, float]) -> None:
        super().__init__(absorbed, (), scalars)
        self.node = node

    def sums_region(self, name: str) -> Region:
        """The region. Raises Inexpressible."""
        self._hint()
        for _ in range(_RESTARTS):
            self._reset()
            self._forget_names()
            try:
                made = self._bag() if str(self.node.target) in BAGS else self._added()
            except NeedSplit as need:
                self._owners[need.axis].split(need.inner)
                continue
            for value in walk(made.roots):
                if value in made.outside and not value.axes <= {made.row}:
                    raise Inexpressible(self.node)
            ins = tuple(spec_of(n) for n in self.inputs)
            result = result_of(self.node)
            assert result is not None
            source = tuple(str(n.target) for n in (*self.inside, self.node))
            return Region(name, ins, (spec_of(result),), (), source, sums=made)
        raise Inexpressible(self.node)

    def _axes_of(self, rows: int, shape: tuple[int, ...]) -> tuple[Ix, Ix, Ix]:
        """Places along the added rows, the result's rows, and its columns."""
        dims = self.dims("sums", (rows, *shape))
        index, axes = self.bind(dims, (), "i")
        if len(axes) != 3:
            raise Inexpressible(self.node)
        return index[0], index[1], index[2]

    def _made(self, at: tuple[Ix, Ix, Ix], value: Value, first: Value, **more: Any) -> Sums:
        row, place, column = at
        flat = total((place.times(column.terms[0][0].size), column))
        axes = (place.terms[0][0], column.terms[0][0])
        store = Store(0, flat.affine(), axes, first)
        if not value.axes <= {row.terms[0][0], axes[1]}:
            raise Inexpressible(self.node)
        outside = tuple(self.build.outside)
        return Sums(
            row.terms[0][0], *axes, value, first, store=store, outside=outside,
            **{"to": None, "starts": None, "mean": False, **more},
        )  # fmt: skip

    def _added(self) -> Sums:
        """index_add (negative places count from the end) and scatter_add."""
        node = self.node
        scatters = str(node.target) == "aten.scatter_add.default"
        given: Any = node.args[2] if scatters else node.args[1][0]  # type: ignore[index]
        source: Any = node.args[3] if scatters else node.args[2]
        size = shape_of(node)[0]
        at = self._axes_of(shape_of(source)[0], shape_of(node))
        row, place, column = at
        to = self.build.cast(self.pull(given, (row, column) if scatters else (row,)), "int64")
        if not scatters:
            below = self.build.map("lt", to, self.build.const(0, "int64"))
            turned = self.build.map("add", to, self.build.const(size, "int64"))
            to = self.build.map("where", below, turned, to)
        self.build.as_ix(to, size)
        value = self.as_dtype(source, (row, column), "float32")
        first = self.as_dtype(node.args[0], (place, column), "float32")
        return self._made(at, value, first, to=to)

    def _bag(self) -> Sums:
        """Sums or means of a table's rows, bag by bag."""
        node = self.node
        table, given, starts = node.args[:3]
        settings = [*node.args[3:], *(False, 0, False, None)[len(node.args) - 3 :]]
        weights: Any = settings[3]
        shape = (shape_of(starts)[0], shape_of(table)[1])
        at = self._axes_of(shape_of(given)[0], shape)
        row, place, column = at
        index = self.build.cast(self.pull(given, (row,)), "int64")
        here = self.build.as_ix(index, shape_of(table)[0])
        value = self.as_dtype(table, (here, column), "float32")
        if weights is not None:
            value = self.build.map("mul", value, self.as_dtype(weights, (row,), "float32"))
        first = self.build.const(0.0, "float32")
        begins = self.build.cast(self.pull(starts, (place,)), "int64")
        return self._made(at, value, first, starts=begins, mean=settings[1] == 1)
