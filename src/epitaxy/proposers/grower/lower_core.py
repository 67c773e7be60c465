"""Lower a connected piece of a framework graph to a Region, by asking for values at indices.

`pull(node, index)` is the value of one element of a node. Views only change the index, so they
leave no trace; equal questions have one answer. Dimension variables name the axes that outputs
and reductions run over; where a reshape needs a finer axis, the axis is split and the lowering
starts again. An index may run outside a tensor (padding, concatenation): the load guards itself
and whoever made the index discards the element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch.fx import Node

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Affine, Axis, Region, Store, Value
from epitaxy.proposers.grower.axes import (
    Dim,
    Inexpressible,
    Ix,
    NeedSplit,
    align,
    composite,
    guards_of,
    total,
)
from epitaxy.proposers.grower.lower_build import Builder

Index = tuple[Ix, ...]
HALVES = ("float16", "bfloat16")
_RESTARTS = 64
_LARGE_PRODUCT = 1 << 19
"""Multiply-adds: the product of the sizes of both operands and the result is their square."""


@dataclass(frozen=True)
class Op:
    """How one framework operator becomes algebra.

    `kind`: point (element-wise), view (index arithmetic only), move (copies elements around),
    make (from nothing), reduce, scan, window, contract. `lower(low, node, index, which)` gives the
    value of one element of result `which`; a view gives the operand's index through `index`
    instead. `ok(node)` tells whether this very call can be expressed; `hint(low, node)` joins the
    dimensions that run together where that is not simply all of equal size.
    """

    kind: str
    lower: Callable[[Lowering, Node, Index, int], Value] | None = None
    index: Callable[[Node, Index, int], Index] | None = None
    ok: Callable[[Node], bool] = lambda node: True
    hint: Callable[[Lowering, Node], None] | None = None


OPS: dict[str, Op] = {}


def op(
    kind: str,
    *names: str,
    ok: Callable[[Node], bool] | None = None,
    hint: Callable[[Lowering, Node], None] | None = None,
) -> Callable[[Any], Any]:
    """Register a lowering for operators such as "aten.cumsum" or "aten.max.dim"."""

    def add(function: Any) -> Any:
        given = {"index" if kind == "view" else "lower": function}
        made = Op(kind, ok=ok or (lambda node: True), hint=hint, **given)
        for name in names:
            OPS[name] = made
        return function

    return add


def op_of(node: Node) -> Op | None:
    """The lowering of a node: by overload, then by operator; getitem has its source's."""
    if is_getitem(node):
        source = node.args[0]
        return op_of(source) if isinstance(source, Node) else None
    if node.op != "call_function":
        return None
    name = str(node.target)
    return OPS.get(name) or OPS.get(name.rsplit(".", 1)[0])


def is_getitem(node: Node) -> bool:
    """Whether the node picks one result of a call with several."""
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of a node's tensor; a number's is ()."""
    if not isinstance(node, Node):
        return ()
    return tuple(int(n) for n in node.meta["val"].shape)


def dtype_of(node: Node) -> str:
    """The dtype of a node's tensor, without PyTorch's prefix."""
    return str(node.meta["val"].dtype).removeprefix("torch.")


def working(dtype: str) -> str:
    """The dtype to compute in: halves are computed in float32 and rounded when stored."""
    return "float32" if dtype in HALVES else dtype


def large(node: Node, share: Fraction = Fraction(1)) -> bool:
    """Whether the time of this share of a contraction hides what one more region costs."""
    given = [n for n in node.all_input_nodes if hasattr(n.meta.get("val"), "shape")]
    read = sorted(math.prod(shape_of(n)) for n in given)
    product = math.prod(read[-2:]) * math.prod(shape_of(node))
    return product * share**2 > _LARGE_PRODUCT**2


def spec_of(node: Node) -> TensorSpec:
    """The node's tensor as a record."""
    return TensorSpec(shape=shape_of(node), dtype=dtype_of(node))


class Lowering:
    """One region in the making: `inside` are its nodes in order; `scalars` known 0-dim values."""

    def __init__(
        self, inside: Sequence[Node], transparent: Iterable[Node], scalars: dict[Node, float]
    ) -> None:
        self.inside = list(inside)
        self.lowered = {*inside, *transparent}
        self.scalars = scalars
        self.build = Builder()
        self._dims: dict[Any, tuple[Dim, ...]] = {}
        self._reset()

    def _reset(self) -> None:
        self.inputs: list[Node] = []
        self._memo: dict[tuple[Node, Index], Value] = {}
        self._asked: dict[Node, int] = {}
        self._owners: dict[Axis, Dim] = {}
        self._names: dict[str, int] = {}
        self._flat: dict[str, Value] = {}
        self.build.outside.clear()

    # -- dimensions and axes ---------------------------------------------------------------

    def dims(self, key: Any, shape: Sequence[int] | None = None) -> tuple[Dim, ...]:
        """The dimension variables of a node (or of any key, of `shape`)."""
        if key not in self._dims:
            self._dims[key] = tuple(Dim(n) for n in (shape_of(key) if shape is None else shape))
        return self._dims[key]

    def axes(self, dim: Dim, taken: Iterable[Axis], letter: str) -> tuple[Axis, ...]:
        """The atomic axes of a dimension, none of them in `taken`."""
        used = set(taken)
        result = []
        for leaf in dim.leaves():
            if not leaf.name:
                number = self._names.get(letter, 0)
                self._names[letter] = number + 1
                leaf.name = f"{letter}{number}"
            axis, again = Axis(leaf.name, leaf.size), 0
            while axis in used:
                again += 1
                axis = Axis(f"{leaf.name}_{again}", leaf.size)
            self._owners[axis] = leaf
            used.add(axis)
            result.append(axis)
        return tuple(result)

    def bind(
        self, dims: Sequence[Dim], free: Iterable[Ix], letter: str = "r"
    ) -> tuple[tuple[Ix, ...], tuple[Axis, ...]]:
        """Indices and axes to run over `dims`, apart from every axis of `free`."""
        taken = {a for ix in free for a in ix.axes}
        indices: list[Ix] = []
        bound: list[Axis] = []
        for dim in dims:
            own = self.axes(dim, {*taken, *bound}, letter)
            indices.append(composite(own))
            bound.extend(own)
        return tuple(indices), tuple(bound)

    # -- values ----------------------------------------------------------------------------

    def pull(self, node: Any, index: Index) -> Value:
        """The value of `node` at `index`, in its working dtype. `node` may be a number."""
        if not isinstance(node, Node):
            dtype = (
                "bool"
                if isinstance(node, bool)
                else "int64"
                if isinstance(node, int)
                else "float32"
            )
            return self.build.const(node, dtype)
        shape = shape_of(node)
        index = tuple(Ix() if n == 1 else ix for n, ix in zip(shape, index, strict=True))
        key = (node, index)
        if key not in self._memo:
            self._memo[key] = self._pull(node, index, shape)
        return self._memo[key]

    def _pull(self, node: Node, index: Index, shape: tuple[int, ...]) -> Value:
        if node in self.scalars:
            return self.build.const(self.scalars[node], working(dtype_of(node)))
        found = op_of(node) if node in self.lowered else None
        if found is None:
            return self._load(node, index, shape)
        call, which = (node.args[0], node.args[1]) if is_getitem(node) else (node, 0)
        assert isinstance(call, Node)
        assert isinstance(which, int)
        if found.index is None:
            assert found.lower is not None
            if found.kind == "contract":
                self._once(call, index)
            return found.lower(self, call, index, which)
        return self._view(found.index, call, index, which)

    def _once(self, node: Node, index: Index) -> None:
        """Refuse a contraction of which more elements are asked for than it has. Readers that go
        over it by different axes (an image and the windows of it, rows next to one another) would
        each compute it; those of parts that together are no more than the whole compute it once."""
        axes = frozenset[Axis]().union(*(ix.axes for ix in index))
        asked = self._asked.get(node, 0) + math.prod(a.size for a in axes)
        points = math.prod(shape_of(node))
        if asked > points and large(node, Fraction(asked - points, points)):
            raise Inexpressible(node)
        self._asked[node] = asked

    def _view(self, function: Any, node: Node, index: Index, which: int) -> Value:
        source = node.args[0]
        assert isinstance(source, Node)
        reshapes = "view" in str(node.target) or "reshape" in str(node.target)
        if reshapes and source not in self.lowered:
            return self._load(source, index, shape_of(node))
        try:
            return self.pull(source, function(node, index, which))
        except Inexpressible as reason:
            raise Inexpressible(
                reason.node or (source if source in self.lowered else node)
            ) from None

    def _load(self, node: Node, index: Index, shape: tuple[int, ...]) -> Value:
        """One element of an input, which may be read under another contiguous shape."""
        if node not in self.inputs:
            self.inputs.append(node)
        flat, stride = [], 1
        for ix, size in zip(reversed(index), reversed(shape), strict=True):
            flat.append(ix.times(stride))
            stride *= size
        try:
            guards = guards_of(index, shape)
        except Inexpressible:
            raise Inexpressible(node) from None
        dtype = dtype_of(node)
        value = self.build.load(self.inputs.index(node), total(flat), dtype, guards)
        return self.build.cast(value, working(dtype))

    def as_dtype(self, node: Any, index: Index, dtype: str) -> Value:
        """`pull`, converted; a number is taken at full precision."""
        if not isinstance(node, Node):
            return self.build.const(node, dtype)
        return self.build.cast(self.pull(node, index), dtype)

    # -- regions ---------------------------------------------------------------------------

    def region(self, name: str, roots: Sequence[Node]) -> Region:
        """The region that stores `roots`. Raises Inexpressible with the node to store first."""
        self._hint()
        self._reset()
        self._forget_names()
        for _ in range(_RESTARTS):
            try:
                # All outputs name their axes first: they get the plain names.
                bound = [self.bind(self.dims(root), (), "i") for root in roots]
                stores = tuple(
                    self._store(k, root, *place)
                    for k, (root, place) in enumerate(zip(roots, bound, strict=True))
                )
            except NeedSplit as need:
                self._owners[need.axis].split(need.inner)
                self._reset()
                self._forget_names()
                continue
            source = tuple(str(n.target) for n in self.inside if not is_getitem(n))
            ins = tuple(spec_of(n) for n in self.inputs)
            outs = tuple(spec_of(r) for r in roots)
            return Region(name, ins, outs, stores, source, self._checks(len(roots)))
        raise Inexpressible(roots[0])

    def _checks(self, first: int) -> tuple[Store, ...]:
        """One truth for each thing that must not be: whether it is anywhere."""
        made: list[Store] = []
        for bad in self.build.outside:
            axes = tuple(sorted(bad.axes, key=lambda a: a.name))
            value = self.build.reduce("any", axes, bad, "bool")
            made.append(Store(first + len(made), Affine(0), (), value))
        return tuple(made)

    def _forget_names(self) -> None:
        for dims in self._dims.values():
            for dim in dims:
                for leaf in dim.leaves():
                    leaf.name = ""

    def _store(self, buffer: int, root: Node, index: Index, axes: tuple[Axis, ...]) -> Store:
        shape = shape_of(root)
        strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
        flat = total(ix.times(s) for ix, s in zip(index, strides, strict=True))
        value = self.build.cast(self.pull(root, index), dtype_of(root))
        return Store(buffer, flat.affine(), axes, value)

    def _hint(self) -> None:
        """Join the dimensions that should run together, so that equal things get equal names."""
        for node in self.inside:
            found = op_of(node)
            if found is None or not hasattr(node.meta.get("val"), "shape"):
                continue
            call = node.args[0] if is_getitem(node) else node
            assert isinstance(call, Node)
            if found.hint is not None:
                found.hint(self, node)
            elif found.kind == "view":
                self._hint_view(found, node, call)
            elif found.kind == "reduce":
                self._hint_reduce(node, call)
            else:
                for source in call.all_input_nodes:
                    self._hint_equal(node, source)

    def _hint_equal(self, node: Node, source: Node) -> None:
        own, other = self.dims(node), self.dims(source)
        same_rank = len(own) == len(other)
        for a, b in zip(reversed(own), reversed(other), strict=False):
            if a.size == b.size and (same_rank or a.size > 1):
                align([a], [b])

    def _hint_reduce(self, node: Node, call: Node) -> None:
        source = call.args[0]
        assert isinstance(source, Node)
        own, other = list(self.dims(node)), list(self.dims(source))
        if len(own) != len(other):
            reduced = reduced_dims(call)
            other = [d for k, d in enumerate(other) if k not in reduced]
        for a, b in zip(own, other, strict=True):
            if a.size == b.size:
                align([a], [b])

    def _hint_view(self, found: Op, node: Node, call: Node) -> None:
        source = call.args[0]
        assert isinstance(source, Node)
        assert found.index is not None
        which = node.args[1] if is_getitem(node) else 0
        for _ in range(_RESTARTS):
            index, axes = self.bind(self.dims(node), ())
            try:
                inner = found.index(call, index, which)  # type: ignore[arg-type]
            except NeedSplit as need:
                self._owners[need.axis].split(need.inner)
                continue
            except Inexpressible:
                return
            break
        else:
            return
        for dim, ix in zip(self.dims(source), inner, strict=True):
            parts = [self._owners[a] for a, _ in ix.terms]
            if math.prod(p.size for p in parts) == dim.size and ix.range() == (0, dim.size - 1):
                ordered = sorted(ix.terms, key=lambda t: -abs(t[1]))
                align([dim], [self._owners[a] for a, _ in ordered])


def normal_dims(dims: Any, rank: int) -> tuple[int, ...]:
    """Dimension numbers as non-negative ones in order; None and () mean all."""
    if dims is None or dims in ((), []):
        return tuple(range(rank))
    listed = dims if isinstance(dims, list | tuple) else [dims]
    return tuple(sorted({d % rank if rank else 0 for d in listed})) if rank else ()


def reduced_dims(node: Node) -> tuple[int, ...]:
    """Which dimensions of its operand a reducing call reduces."""
    rank = len(shape_of(node.args[0]))
    name = "ord" if "vector_norm" in str(node.target) else None
    dims = node.kwargs.get("dim")
    position = 2 if name else 1
    if dims is None and len(node.args) > position:
        dims = node.args[position]
    return normal_dims(dims, rank)
