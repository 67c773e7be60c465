"""A loop over time steps as one region: what a step computes, as algebra, with its states as loads.

What the steps read may be computed within them: element-wise work that nobody else wants is taken
in, before the loop and on what it collected, so that what varies along all axes at once is never
written to memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.fx import Node

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Affine, Axis, Load, Region, Store, Value
from epitaxy.proposers.grower.algebra_whole import Loop, State
from epitaxy.proposers.grower.axes import Dim, Inexpressible, Ix, NeedSplit, align, guards_of, total
from epitaxy.proposers.grower.loops import Unrolled
from epitaxy.proposers.grower.lower_core import (
    Index,
    Lowering,
    dtype_of,
    is_getitem,
    op_of,
    shape_of,
    spec_of,
)
from epitaxy.proposers.grower.lower_partition import lowerable

_RESTARTS = 32


@dataclass(frozen=True)
class Result:
    """One thing that is wanted of a loop: `value` (of the second step) of every step, collected
    along dimension `dim` from `start` on by `stride`, or of the last step only (`dim` None).
    `root` is the node that stands for it in the graph; None: every node of step j has its own."""

    value: Node
    root: Node | None
    dim: int | None = None
    start: int = 0
    stride: int = 1
    tail: tuple[Node, ...] = ()
    """Element-wise work on what is collected; the last one is stored instead."""

    @property
    def made(self) -> Node | None:
        """The node whose tensor is stored."""
        return self.tail[-1] if self.tail else self.root


class LoopLowering(Lowering):
    """One loop in the making."""

    def __init__(
        self,
        loop: Unrolled,
        results: Sequence[Result],
        absorbed: Sequence[Node],
        scalars: dict[Node, float],
    ) -> None:
        tails = [n for r in results for n in r.tail]
        super().__init__([*absorbed, *loop.template, *tails], (), scalars)
        self.loop, self.results = loop, results
        self.order = list(loop.states)
        self.before = {loop.steps[0][j]: k for k, j in enumerate(self.order)}
        self.roots = {r.root: r for r in results if r.root is not None and r.dim is not None}
        self.lowered |= set(self.roots) | set(self.before) | set(loop.moving)
        self.time = Dim(len(loop.steps))

    def step_axis(self) -> Axis:
        """The axis of the steps; Inexpressible when a reshape cuts it."""
        axes = self.axes(self.time, (), "i")
        if len(axes) != 1:
            raise Inexpressible(self.loop.template[0])
        return axes[0]

    # -- values ----------------------------------------------------------------------------

    def _pull(self, node: Node, index: Index, shape: tuple[int, ...]) -> Value:
        if node in self.before:
            return self._state(node, index, shape)
        if (moving := self.loop.moving.get(node)) is not None and moving.stride:
            if moving.base in self.loop.nodes or "scatter" in str(node.target):
                raise Inexpressible(node)
            at = Ix(0, ((self.step_axis(), moving.stride),)).shifted(moving.start)
            if moving.picks:
                return self.pull(moving.base, (*index[: moving.dim], at, *index[moving.dim :]))
            inner = list(index)
            inner[moving.dim] = index[moving.dim].plus(at)
            return self.pull(moving.base, tuple(inner))
        if node in self.roots:
            return self._collected(self.roots[node], index)
        return super()._pull(node, index, shape)

    def _state(self, node: Node, index: Index, shape: tuple[int, ...]) -> Value:
        """One element of a state before the step: it varies with the step, wherever it lies."""
        flat = total(ix.times(s) for ix, s in zip(index, _strides(shape), strict=True))
        if guards_of(index, shape) or flat.gathers or flat.offset:
            raise Inexpressible(node)
        place = Affine(0, (*flat.terms, (self.step_axis(), 0)))
        return self.build.keep(Load(-1 - self.before[node], place, "float32"))

    def _collected(self, result: Result, index: Index) -> Value:
        """What a step adds to what is collected; only that of the step itself can be had."""
        assert result.dim is not None
        assert result.root is not None
        here = index[result.dim]
        if here != Ix(0, ((self.step_axis(), 1),)) or (result.start, result.stride) != (0, 1):
            raise Inexpressible(result.root)
        rest = (*index[: result.dim], *index[result.dim + 1 :])
        if len(shape_of(result.value)) == len(index):
            rest = (*index[: result.dim], Ix(), *index[result.dim + 1 :])
        return self.pull(result.value, rest)

    # -- the region ------------------------------------------------------------------------

    def loop_region(self, name: str) -> Region:
        """The region of the loop. Raises Inexpressible."""
        self._hint()
        self._hint_states()
        for _ in range(_RESTARTS):
            self._reset()
            self._forget_names()
            try:
                made = self._loop()
            except NeedSplit as need:
                self._owners[need.axis].split(need.inner)
                continue
            if self.build.outside:
                raise Inexpressible(self.loop.template[0])
            outputs = tuple(self._spec(r) for r in self.results)
            inputs = tuple(spec_of(n) for n in self.inputs)
            source = tuple(str(n.target) for n in self.inside if not is_getitem(n))
            return Region(name, inputs, outputs, (), source, loop=made)
        raise Inexpressible(self.loop.template[0])

    def _hint_states(self) -> None:
        for j, first in self.loop.states.items():
            for other in (self.loop.steps[0][j], first):
                if shape_of(other) != shape_of(self.loop.template[j]):
                    raise Inexpressible(first)
                align(self.dims(self.loop.template[j]), self.dims(other))
        for result in self.results:
            if result.root is None or result.dim is None:
                continue
            outer = list(self.dims(result.root))
            along = outer.pop(result.dim)
            if (result.start, result.stride) == (0, 1):
                align([along], [self.time])
            inner = list(self.dims(result.value))
            if len(inner) > len(outer):
                inner.pop(result.dim)
            align(outer, inner)

    def _loop(self) -> Loop:
        names = [r.made or r.value for r in self.results]
        for node in (*names, *(self.loop.template[j] for j in self.order)):
            self.bind(self.dims(node), (), "i")
        step = self.step_axis()
        states = []
        for j in self.order:
            index, axes = self.bind(self.dims(self.loop.template[j]), (), "i")
            first = self.as_dtype(self.loop.states[j], index, "float32")
            states.append(
                State(axes, first, self.as_dtype(self.loop.template[j], index, "float32"))
            )
        each, last = [], []
        for k, result in enumerate(self.results):
            if result.dim is None:
                last.append(self._last(k, result))
            else:
                each.append(self._each(k, result, step))
        return Loop(step, tuple(states), tuple(each), tuple(last))

    def _last(self, k: int, result: Result) -> Store:
        """A final state."""
        node = self.loop.steps[0][self.loop.template.index(result.value)]
        index, axes = self.bind(self.dims(result.value), (), "i")
        flat = total(i.times(s) for i, s in zip(index, _strides(shape_of(node)), strict=True))
        value = self.build.cast(self.pull(node, index), dtype_of(result.value))
        return Store(k, flat.affine(), axes, value)

    def _each(self, k: int, result: Result, step: Axis) -> Store:
        """What is stored in every step."""
        spec = self._spec(result)
        plain = result.made is not None and (result.start, result.stride) == (0, 1)
        if plain:
            assert result.made is not None
            index, axes = self.bind(self.dims(result.made), (), "i")
            value = self.pull(result.made, index)
        else:
            index, axes = self.bind(self.dims(result.value), (), "i")
            value = self.pull(result.value, index)
            at = Ix(result.start, ((step, result.stride),))
            kept = index[result.dim :] if len(spec.shape) > len(index) else index[result.dim + 1 :]  # type: ignore[operator]
            index, axes = (*index[: result.dim], at, *kept), (step, *axes)
        if step not in axes:
            raise Inexpressible(result.root)
        flat = total(i.times(s) for i, s in zip(index, _strides(spec.shape), strict=True))
        return Store(k, flat.affine(), axes, self.build.cast(value, spec.dtype))

    def _spec(self, result: Result) -> TensorSpec:
        if result.made is not None:
            return spec_of(result.made)
        shape = (len(self.loop.steps), *shape_of(result.value))
        return TensorSpec(shape=shape, dtype=dtype_of(result.value))


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


# -- what a loop takes in ----------------------------------------------------------------------


def results_of(loop: Unrolled) -> list[Result] | None:
    """What is wanted of the loop outside; states that are only written to become results. None
    where that cannot be told."""
    found: list[Result] = []
    inside, count = loop.nodes, len(loop.steps)
    for j, node in enumerate(loop.template):
        if (written := _written(loop, j)) is not None:
            found.append(written)
            del loop.states[j]
            continue
        column = [step[j] for step in loop.steps]
        users = [[u for u in n.users if u not in inside] for n in column]
        roots = {r.root: r for us in users for u in us if (r := _gathers(u, column, node))}
        others = [any(u not in roots for u in us) for us in users]
        found += roots.values()
        if any(others[: count - 1]) or (others[-1] and j not in loop.states):
            found.append(Result(node, None, 0))
        elif others[-1]:
            found.append(Result(node, column[-1]))
    return found if loop.states else None


def _gathers(user: Node, column: list[Node], value: Node) -> Result | None:
    """`user` as the place where all steps' nodes are collected, in order or backwards."""
    name = str(user.target)
    if name not in ("aten.stack.default", "aten.cat.default"):
        return None
    listed: list[Any] = list(user.args[0])  # type: ignore[arg-type]
    dim = int(user.args[1]) if len(user.args) > 1 else 0  # type: ignore[arg-type]
    dim %= len(shape_of(user))
    if name == "aten.cat.default" and shape_of(value)[dim] != 1:
        return None
    if listed == column:
        return Result(value, user, dim)
    if listed == column[::-1]:
        return Result(value, user, dim, len(column) - 1, -1)
    return None


def _written(loop: Unrolled, j: int) -> Result | None:
    """A state into which every step writes its own slice, and that nobody else reads, as a
    result."""
    node = loop.template[j]
    if j not in loop.states or str(node.target) != "aten.select_scatter.default":
        return None
    before = loop.steps[0][j]
    moving = loop.moving.get(node)
    part: Any = node.args[1]
    if node.args[0] is not before or moving is None or part not in loop.template:
        return None
    if abs(moving.stride) != 1 or shape_of(node)[moving.dim] != len(loop.steps):
        return None
    inside = loop.nodes
    if any(u not in inside for step in loop.steps[:-1] for u in step[j].users):
        return None
    for user in before.users:
        shape_only = all(
            str(u.target) == "aten.copy.default" and u.args[1] is not user for u in user.users
        )
        if user is not node and not (str(user.target) == "aten.select.int" and shape_only):
            return None
    return Result(part, loop.steps[-1][j], moving.dim, moving.start, moving.stride)


def with_tails(loop: Unrolled, results: Sequence[Result]) -> list[Result]:
    """Results with the element-wise work on them that reads nothing else of the loop."""
    inside = loop.nodes
    reached = depending_on(inside)
    made = []
    for result in results:
        tail: list[Node] = []
        node = result.root
        while node is not None and result.dim is not None and len(node.users) == 1:
            (node,) = node.users
            found = op_of(node)
            if found is None or found.kind not in ("point", "view") or not lowerable(node):
                break
            before = tail[-1] if tail else result.root
            if is_getitem(node) or any(
                n in reached and n is not before for n in node.all_input_nodes
            ):
                break
            tail.append(node)
        while tail and op_of(tail[-1]).kind == "view":  # type: ignore[union-attr]
            tail.pop()
        made.append(replace(result, tail=tuple(tail)))
    return made


def depending_on(nodes: set[Node]) -> set[Node]:
    """Everything that depends on `nodes`, and they."""
    found, stack = set(nodes), list(nodes)
    while stack:
        for user in stack.pop().users:
            if user not in found:
                found.add(user)
                stack.append(user)
    return found


def taken_in(loop: Unrolled, results: Sequence[Result]) -> set[Node]:
    """The nodes that a region of the loop stands for."""
    return loop.nodes | {n for r in results for n in (r.root, *r.tail) if n is not None}


def absorbed(loop: Unrolled, results: Sequence[Result], left: set[Node]) -> list[Node]:
    """What is worked out within the steps: views and constants, and element-wise work that only
    the loop reads. In graph order; nothing of `left`."""
    return taken_with(taken_in(loop, results), [m.base for m in loop.moving.values()], left)


def taken_with(
    inside: set[Node], more: list[Node], left: set[Node], reads: bool = False
) -> list[Node]:
    """Views and constants that `inside` and `more` are made of, and element-wise work (with `reads`
    also gathers) that nobody else reads. In graph order; nothing of `left`."""
    found: dict[Node, None] = {}
    stack = [s for n in inside for s in n.all_input_nodes] + more
    while stack:
        node = stack.pop()
        if node in inside or node in found or node in left or node.op != "call_function":
            continue
        kind = getattr(op_of(node), "kind", "")
        alone = all(u in inside or u in found for u in node.users)
        work = kind == "point" or (reads and kind == "gather" and not is_getitem(node))
        if kind in ("view", "make") or (work and alone):
            if lowerable(node):
                found[node] = None
                stack += node.all_input_nodes
    order = {n: k for k, n in enumerate(next(iter(inside)).graph.nodes)}
    return sorted(found, key=order.__getitem__)
