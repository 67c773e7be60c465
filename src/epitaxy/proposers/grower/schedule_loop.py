"""Which axes of a loop over time steps are independent of each other, and what a step does when.

An axis is parallel when every state is read at its own place along it and nothing is reduced over
it: then each place runs through all steps by itself. The other axes are gone through within each
step, in as many nests as reductions need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from epitaxy.proposers.grower.algebra import Axis, Load, Reduce, Scan, Store, Value, operands, walk
from epitaxy.proposers.grower.algebra_whole import Loop, State
from epitaxy.proposers.grower.emit_expr import Unsupported, kind

FEWEST_LANES = 4
STRIDED = 0.1
"""What an element is worth that does not lie beside the next one."""


@dataclass(frozen=True)
class Move:
    """A new state, or a value to store, as something that one nest of loops writes."""

    state: int | None
    store: Store | None
    value: Value
    axes: tuple[Axis, ...]


@dataclass
class Nest:
    """Loops over `inner` axes within a step: reductions that end after it, and what it writes."""

    number: int
    inner: tuple[Axis, ...]
    reduces: list[Reduce] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    @property
    def roots(self) -> list[Value]:
        """What the nest evaluates."""
        return [*(r.arg for r in self.reduces), *(m.value for m in self.moves)]


@dataclass(frozen=True)
class LoopPlan:
    """`outer` axes and `lane` are parallel; `nests` make one step; states of `twice` need the old
    and the new state at once."""

    outer: tuple[Axis, ...]
    lane: Axis
    nests: tuple[Nest, ...]
    twice: frozenset[int]


def plan_loop(loop: Loop, width: int) -> LoopPlan:
    """The plan. Raises Unsupported where nothing runs in parallel, or a step is too tangled."""
    values = walk(loop.roots)
    for v in values:
        kind(v.dtype)
        if isinstance(v, Scan) or (isinstance(v, Reduce) and v.kind in ("argmax", "argmin")):
            raise Unsupported(f"{v.kind} within a step of a loop")
    parallel = _parallel(loop, values)
    lane = _lane(loop, values, parallel, width)
    for v in values:
        if isinstance(v, Reduce) and not v.axes <= {*parallel, loop.time}:
            raise Unsupported("a sum within a step that is one for each place of the state")
    outer = tuple(a for a in parallel if a != lane)
    nests = _nests(loop, {*parallel, loop.time})
    return LoopPlan(outer, lane, nests, _twice(loop, nests))


def strides(axes: tuple[Axis, ...]) -> dict[Axis, int]:
    """Elements from one place to the next along each axis of a state."""
    return {a: math.prod(b.size for b in axes[k + 1 :]) for k, a in enumerate(axes)}


def state_of(value: Value) -> int | None:
    """The number of the state that `value` reads; None when it reads none."""
    return -1 - value.buffer if isinstance(value, Load) and value.buffer < 0 else None


def _parallel(loop: Loop, values: list[Value]) -> tuple[Axis, ...]:
    """The axes along which every place is independent, outermost first."""
    order: dict[Axis, None] = {}
    for axes in [s.axes for s in loop.states] + [s.axes for s in (*loop.each, *loop.last)]:
        order.update(dict.fromkeys(axes))
    bound: set[Axis] = {loop.time}
    for v in values:
        if isinstance(v, Reduce):
            bound.update(v.over)
        if (k := state_of(v)) is not None:
            bound |= _turned(loop.states[k], v)  # type: ignore[arg-type]
    return tuple(a for a in order if a not in bound)


def _turned(state: State, load: Load) -> set[Axis]:
    """Axes of a state that this read of it does not follow."""
    natural = {s: a for a, s in strides(state.axes).items()}
    odd: set[Axis] = set()
    seen: set[Axis] = set()
    for axis, stride in load.index.terms:
        if not stride:
            continue
        own = natural.get(stride)
        if own is None or own.size != axis.size:
            raise Unsupported("a state that is read in another order")
        seen.add(own)
        if own != axis:
            odd |= {own, axis}
    return odd | (set(state.axes) - seen)


def _lane(loop: Loop, values: list[Value], parallel: tuple[Axis, ...], width: int) -> Axis:
    """The axis to vectorise: parallel, long enough, and contiguous in what is read and written."""
    score: dict[Axis, float] = {}
    for a in parallel:
        weight = 0.0
        for state in loop.states:
            weight += math.prod(x.size for x in state.axes) if a in state.axes else 0
        for v in values:
            if isinstance(v, Load) and v.buffer >= 0 and a in v.axes and loop.time in v.axes:
                size = math.prod(x.size for x in v.axes)
                weight += size * (1.0 if abs(v.index.coefficient(a)) == 1 else STRIDED)
        for s in loop.each:
            if a in s.axes:
                size = math.prod(x.size for x in s.axes)
                weight += size * (1.0 if s.index.coefficient(a) == 1 else STRIDED)
        score[a] = weight * (1.0 if a.size >= width else 0.01 * a.size)
    best = max(score, key=lambda a: score[a], default=None)
    if best is None or best.size < FEWEST_LANES:
        raise Unsupported("a loop of which no axis runs by itself")
    return best


def _nests(loop: Loop, apart: set[Axis]) -> tuple[Nest, ...]:
    """What is computed together within a step, in order."""
    values = walk((*(s.next for s in loop.states), *(s.value for s in loop.each)))
    ready: dict[Value, int] = {}
    for v in values:
        below = max((ready[o] for o in operands(v)), default=0)
        ready[v] = below + 1 if isinstance(v, Reduce) else below
    order = [a for s in loop.states for a in s.axes]
    nests: dict[tuple[int, tuple[Axis, ...]], Nest] = {}

    def nest(number: int, axes: frozenset[Axis] | set[Axis]) -> Nest:
        rank = {a: order.index(a) if a in order else len(order) for a in axes}
        inner = tuple(sorted(axes - apart, key=lambda a: (rank[a], a.name)))
        return nests.setdefault((number, inner), Nest(number, inner))

    for v in values:
        if isinstance(v, Reduce) and loop.time in v.axes:
            nest(ready[v] - 1, v.arg.axes | set(v.over)).reduces.append(v)
        elif isinstance(v, Reduce):
            raise Unsupported("a sum that no step changes")
    for store in loop.each:
        move = Move(None, store, store.value, store.axes)
        nest(ready[store.value], set(store.axes)).moves.append(move)
    for k, state in enumerate(loop.states):
        nest(ready[state.next], set(state.axes)).moves.append(Move(k, None, state.next, state.axes))
    # Nests that write states come last among equals: others may still read the old ones.
    return tuple(
        sorted(nests.values(), key=lambda n: (n.number, any(m.state is not None for m in n.moves)))
    )


def _twice(loop: Loop, nests: tuple[Nest, ...]) -> frozenset[int]:
    """States of which something reads the old value after, or elsewhere than where, the new one is
    written."""
    found: set[int] = set()
    for k, state in enumerate(loop.states):
        natural = strides(state.axes)
        written = next(i for i, n in enumerate(nests) if any(m.state == k for m in n.moves))
        for i, nest in enumerate(nests):
            if i < written:
                continue
            for load in _reads(nest, k):
                plain = all(natural.get(a, 0) == c for a, c in load.index.terms if c)
                if i > written or not plain:
                    found.add(k)
    return frozenset(found)


def _reads(nest: Nest, k: int) -> list[Load]:
    """The loads of state k that a nest evaluates itself."""
    seen: set[Value] = set()
    stack = list(nest.roots)
    while stack:
        v = stack.pop()
        if v not in seen:
            seen.add(v)
            if not isinstance(v, Reduce):
                stack.extend(operands(v))
    return [v for v in seen if isinstance(v, Load) and v.buffer == -1 - k]
