"""Experts as one region: which rows go to which, what each makes of them, and where it is added.

Two forms are known. *Gathered*: `nonzero` of an expert's mask picks its rows, `index_put` adds what
the expert made of them. *Masked*: every expert works on all rows, and what it makes is multiplied
by a gate, or chosen by one, that is zero or false for most; zero times a finite row is zero, so
that only the others are computed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Load,
    Map,
    Reduce,
    Region,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.algebra_whole import Product, Routed
from epitaxy.proposers.grower.axes import Inexpressible, Ix, NeedSplit, pure, total
from epitaxy.proposers.grower.contract import memory
from epitaxy.proposers.grower.experts import chosen
from epitaxy.proposers.grower.loops import Unrolled
from epitaxy.proposers.grower.lower_build import Builder
from epitaxy.proposers.grower.lower_core import (
    HALVES,
    Lowering,
    dtype_of,
    is_getitem,
    shape_of,
    spec_of,
    working,
)
from epitaxy.proposers.grower.lower_core import (
    Index as Place,
)
from epitaxy.proposers.grower.rewrite import AtStep, rebuild

ZERO_ROWS = "what an expert makes of a row is only computed where its gate is not zero"
_RESTARTS = 16
_PRODUCTS = ("aten.linear.default", "aten.mm.default", "aten.matmul.default", "aten.addmm.default")


class RoutedLowering(Lowering):
    """One sum over experts in the making."""

    def __init__(
        self, loop: Unrolled, absorbed: list[Node], scalars: dict[Node, float], adds: Node
    ) -> None:
        super().__init__([*absorbed, *loop.template], (), scalars)
        self.loop, self.adds = loop, adds
        (self.total,) = (loop.template[j] for j in loop.states)
        (self.first,) = loop.states.values()
        self.mask = next(
            (n for n in loop.template if str(n.target) == "aten.nonzero.default"), None
        )
        self.lowered |= {*loop.moving, *loop.families, *loop.counted}
        self.expert = Axis("expert", len(loop.steps))
        self._begin()

    def _begin(self) -> None:
        self.row: Place = ()
        self.coordinates: tuple[Ix, ...] = ()
        self.products: dict[tuple[Node, Axis], int] = {}
        self.made: list[Product] = []
        self.operands: list[tuple[Value, Axis]] = []
        self.of: dict[Node, int] = {}
        self.families: dict[Node, int] = {}

    # -- values ----------------------------------------------------------------------------

    def _pull(self, node: Node, index: Place, shape: tuple[int, ...]) -> Value:
        loop = self.loop
        if node in loop.steps[0]:
            raise Inexpressible(node)
        if node in loop.families:
            return self._own(node, index, shape)
        if (moving := loop.moving.get(node)) is not None and moving.stride:
            at = Ix(moving.start, ((self.expert, moving.stride),))
            if moving.picks:
                return self.pull(moving.base, (*index[: moving.dim], at, *index[moving.dim :]))
            inner = list(index)
            inner[moving.dim] = index[moving.dim].plus(at)
            return self.pull(moving.base, tuple(inner))
        if node in loop.counted:
            start, stride = loop.counted[node]
            number = self.build.index(Ix(start, ((self.expert, stride),)))
            return self.build.map("eq", self.as_dtype(node.args[0], index, "int64"), number)
        if node in loop.template and (place := self._coordinate(node)) is not None:
            if index != self.row:
                raise Inexpressible(node)
            return self.build.index(self.coordinates[place])
        if node in loop.template and str(node.target) in _PRODUCTS:
            return self._product(node, index)
        return super()._pull(node, index, shape)

    def _coordinate(self, node: Node) -> int | None:
        """Which coordinate of a routed row `node` is: a part of what `nonzero` found."""
        if not is_getitem(node):
            return None
        source = node.args[0]
        if not isinstance(source, Node) or str(source.target) != "aten.unbind.int":
            return None
        last = len(source.args) > 1 and source.args[1] in (1, -1)
        return int(node.args[1]) if source.args[0] is self.mask and last else None  # type: ignore[arg-type]

    def _own(self, node: Node, index: Place, shape: tuple[int, ...]) -> Value:
        """One element of an expert's own parameter."""
        if node not in self.families:
            self.families[node] = len(self.inputs)
            self.inputs += self.loop.families[node]
        flat = total(
            ix.times(math.prod(shape[k + 1 :])) for k, ix in enumerate(index)
        )  # never outside: parameters are read whole
        place = Affine(flat.offset, (*flat.terms, (self.expert, 0)))
        dtype = dtype_of(node)
        own = self.build.keep(Load(self.families[node], place, dtype))
        return self.build.cast(own, working(dtype))

    def _product(self, node: Node, index: Place) -> Value:
        """The sum of a product with an expert's weights, as something read."""
        width = pure(index[-1])
        if index[:-1] != self.row or width is None or len(width) != 1:
            raise Inexpressible(node)
        key = (node, width[0])
        if key not in self.products:
            number = self.products[key] = self._new_product(node, index, width[0])
        number = self.products[key]
        terms = tuple((a, 0) for a in (self.expert, *self._row_axes()))
        value: Value = self.build.keep(
            Load(-1 - number, Affine(0, ((width[0], 1), *terms)), "float32")
        )
        bias: Any = None
        if str(node.target) == "aten.linear.default":
            bias = node.args[2] if len(node.args) > 2 else None
        elif str(node.target) == "aten.addmm.default":
            bias = node.args[0]
        if bias is None:
            return value
        own = shape_of(bias)
        place = tuple(Ix() if n == 1 else ix for n, ix in zip(own, index[-len(own) :], strict=True))
        return self.build.map("add", value, self.as_dtype(bias, place, "float32"))

    def _new_product(self, node: Node, index: Place, width: Axis) -> int:
        first = int(str(node.target) == "aten.addmm.default")
        left, right = node.args[first], node.args[first + 1]
        if node.kwargs or not isinstance(left, Node) or not isinstance(right, Node):
            raise Inexpressible(node)
        if len(shape_of(right)) != 2 or len(shape_of(left)) != len(index):
            raise Inexpressible(node)
        if left not in self.of:
            (depth,), bound = self.bind([self.dims(left)[-1]], index, "k")
            if len(bound) != 1:
                raise Inexpressible(node)
            value = self.as_dtype(left, (*self.row, depth), "float32")
            self.of[left] = len(self.operands)
            self.operands.append((value, bound[0]))
        operand = self.of[left]
        axis = self.operands[operand][1]
        k, j = Ix(0, ((axis, 1),)), Ix(0, ((width, 1),))
        turned = str(node.target) == "aten.linear.default"
        weight = memory(self.pull(right, (j, k) if turned else (k, j)))
        if weight is None or weight.dtype not in ("float32", *HALVES):
            raise Inexpressible(node)
        if not weight.axes <= {axis, width, self.expert}:
            raise Inexpressible(node)
        self.made.append(Product(operand, weight, axis, width))
        return len(self.made) - 1

    def _row_axes(self) -> tuple[Axis, ...]:
        return tuple(a for ix in self.coordinates for a, _ in ix.terms)

    # -- the region ------------------------------------------------------------------------

    def routed_region(self, name: str) -> Region:
        """The region of the sum. Raises Inexpressible."""
        self._hint()
        for _ in range(_RESTARTS):
            self._reset()
            self._forget_names()
            self._begin()
            try:
                made = self._gathered() if self.mask is not None else self._masked()
            except NeedSplit as need:
                if need.axis not in self._owners:
                    raise Inexpressible(self.total) from None
                self._owners[need.axis].split(need.inner)
                continue
            steps = {n for step in self.loop.steps for n in step}
            if self.build.outside or not self.made or any(n in steps for n in self.inputs):
                raise Inexpressible(self.total)
            inputs = tuple(spec_of(n) for n in self.inputs)
            source = tuple(str(n.target) for n in self.inside if not is_getitem(n))
            rules = (ZERO_ROWS,) if made.active else ()
            return Region(
                name, inputs, (spec_of(self.total),), (), source, routed=made, algebra=rules
            )
        raise Inexpressible(self.total)

    def _gathered(self) -> Routed:
        """Rows picked by nonzero, and added by index_put."""
        mask = self.mask
        assert mask is not None
        source: Any = mask.args[0]
        self.coordinates, axes = self.bind(self.dims(source), (), "i")
        if any(len(ix.terms) > 1 for ix in self.coordinates):
            raise Inexpressible(mask)
        (row,), _ = self.bind([self.dims(self.adds)[0]], self.coordinates, "p")
        self.row = (row,)
        route = self._truth(source, self.coordinates)
        target: Any = self.total.args[1]
        place = self._coordinate(target[0])
        if place is None or len(shape_of(self.total)) != 2:
            raise Inexpressible(self.total)
        return self._routed(axes, route, (self.coordinates[place],), None)

    def _truth(self, node: Node, index: Place) -> Value:
        value = self.pull(node, index)
        if value.dtype != "bool":
            value = self.build.map("ne", value, self.build.const(0, value.dtype))
        return written_out(value, self.build)

    def _masked(self) -> Routed:
        """All rows, of which a gate leaves few."""
        self.row, axes = self.bind(self.dims(self.adds)[:-1], (), "i")
        self.coordinates = self.row
        found = self._routed(axes, self.build.const(True, "bool"), self.row, None)
        value, column = found.operands[-1]
        gates, strange = self._gates(value, column)
        if not gates:
            raise Inexpressible(self.total)
        route = gates[0]
        for gate in gates[1:]:
            route = self.build.map("and", route, gate)
        route = written_out(route, self.build)
        active = chosen([self.inputs[v.buffer] for v in walk((route,)) if isinstance(v, Load)])
        if active is None or active >= self.expert.size:
            raise Inexpressible(self.total)
        return replace(found, route=route, strange=strange, active=active)

    def _gates(self, value: Value, column: Axis) -> tuple[list[Value], bool]:
        """Truths without which `value` is zero, and whether only because zero times it is."""

        def flat(v: Value) -> bool:
            return column not in v.axes and not any(
                isinstance(w, Load) and w.buffer < 0 for w in walk((v,))
            )

        if isinstance(value, Map) and value.fn == "mul":
            for gate, rest in (value.args, value.args[::-1]):
                if flat(gate) and not isinstance(gate, Const):
                    found, _ = self._gates(rest, column)
                    zero = self.build.const(0.0, gate.dtype)
                    return [self.build.map("ne", gate, zero), *found], True
        if isinstance(value, Map) and value.fn == "where" and flat(value.args[0]):
            condition, yes, no = value.args
            if isinstance(no, Const) and no.value == 0.0:
                found, _ = self._gates(yes, column)
                return [condition], False
            if isinstance(yes, Const) and yes.value == 0.0:
                return [self.build.map("not", condition)], False
        return [], False

    def _routed(
        self, axes: tuple[Axis, ...], route: Value, place: Place, active: int | None
    ) -> Routed:
        (column,), bound = self.bind(
            [self.dims(self.adds)[-1]], (*self.row, *self.coordinates), "j"
        )
        if len(bound) != 1:
            raise Inexpressible(self.adds)
        value = self.as_dtype(self.adds, (*self.row, column), "float32")
        operands = tuple(
            (written_out(v, self.build), a) for v, a in (*self.operands, (value, bound[0]))
        )
        for v, a in operands:
            if not v.axes <= {self.expert, *axes, a}:
                raise Inexpressible(self.adds)
        shape = shape_of(self.total)
        flat = total(ix.times(math.prod(shape[k + 1 :])) for k, ix in enumerate((*place, column)))
        first = self.as_dtype(self.first, (*place, column), "float32")
        own = tuple(a for ix in place for a, _ in ix.terms)
        store = Store(0, flat.affine(), (*own, bound[0]), first)
        families = tuple(self.families.values())
        return Routed(
            self.expert, axes, route, False, tuple(self.made), operands, own, first, store,
            families, active,
        )  # fmt: skip


_JOINS = {
    "any": "or",
    "all": "and",
    "sum": "add",
    "prod": "mul",
    "max": "maximum",
    "min": "minimum",
}
_FEW = 16


def written_out(value: Value, build: Builder) -> Value:
    """`value` with sums over few places written out, place by place."""
    memo: dict[Value, Value] = {}

    def leaf(v: Value) -> Value | None:
        if not isinstance(v, Reduce) or v.kind not in _JOINS or v.arg.dtype != v.dtype:
            return None
        if math.prod(a.size for a in v.over) > _FEW:
            return None
        parts = [rebuild(v.arg, leaf, memo)]
        for axis in v.over:
            parts = [AtStep(axis, k)(p) for p in parts for k in range(axis.size)]
        total = parts[0]
        for part in parts[1:]:
            total = build.map(_JOINS[v.kind], total, part)
        return total

    return rebuild(value, leaf, memo)
