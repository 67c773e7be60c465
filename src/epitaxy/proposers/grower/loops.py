"""Loops over time steps that the exporter wrote out: find them again in a captured graph.

The nodes of a loop stand in the order in which Python ran them, so that the steps are a run of
equal calls, `period` of them in each. A run is a loop when every argument is one of: the same in
all steps; an element of a tensor that moves on by a fixed stride with the step; a node of the same
step; or a node of the step before, the *state*, which for the first step comes from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Graph, Node

from epitaxy.proposers.grower.lower_core import is_getitem, shape_of

FEWEST = 3
"""Steps of a loop worth finding."""
LONGEST = 400
"""Calls of one step."""
PHASES = 64
"""Places at which a step may be taken to begin."""
_TRIED = 24
_MOVING = {
    "aten.select.int": (2,),
    "aten.slice.Tensor": (2, 3),
    "aten.select_scatter.default": (3,),
}
"""Arguments that may move on with the step."""
_COUNTING = ("aten.eq.Scalar",)
_PARTS = ("aten.unbind.int",)


@dataclass(frozen=True)
class Moving:
    """A part of `base` that moves along `dim`: at step s it begins at `start` + s * `stride`.
    `picks`: one slice, without the dimension."""

    base: Node
    dim: int
    start: int
    stride: int
    picks: bool


@dataclass
class Unrolled:
    """A loop: `steps[s][j]` is node j of step s."""

    steps: list[list[Node]]
    states: dict[int, Node] = field(default_factory=dict)
    """Nodes of a step that the next one reads, each with what the first step reads instead."""
    moving: dict[Node, Moving] = field(default_factory=dict)
    """What moves with the step, by its node in the second step (or outside, as that reads it)."""
    families: dict[Node, tuple[Node, ...]] = field(default_factory=dict)
    """Parameters of which each step has its own, by that of the second step."""
    counted: dict[Node, tuple[int, int]] = field(default_factory=dict)
    """Comparisons with a number that moves: with start + step * stride."""

    @property
    def template(self) -> list[Node]:
        """The second step: the first one that reads states of a step before."""
        return self.steps[1]

    @property
    def nodes(self) -> set[Node]:
        """Every node of every step."""
        return {n for step in self.steps for n in step}


def unrolled(graph: Graph, own: bool = False) -> Iterator[Unrolled]:
    """The loops of a graph, those with most nodes first. Loops may overlap. `own`: steps may have
    parameters of their own and look for their own number, as experts do."""
    calls = [n for n in graph.nodes if n.op == "call_function"]
    if len(calls) < 2 * FEWEST:
        return
    known: dict[Any, int] = {}
    marks = [known.setdefault(_signature(n), len(known)) for n in calls]
    for start, period, length in _runs(marks)[:_TRIED]:
        best: Unrolled | None = None
        for phase in range(min(period, PHASES)):
            count = (length - phase) // period
            if count < FEWEST or (best is not None and count < len(best.steps)):
                continue
            first = start + phase
            steps = [calls[first + s * period : first + (s + 1) * period] for s in range(count)]
            found = _loop(steps, own)
            if found is not None and (best is None or len(found.states) < len(best.states)):
                best = found
        if best is not None:
            yield best


def _signature(node: Node) -> Any:
    """What two calls share when they are the same but for tensors and moving positions."""
    name = str(node.target)
    moving = _MOVING.get(name, (1,) if name in _COUNTING else ())
    args = tuple("moves" if k in moving else _plain(a) for k, a in enumerate(node.args))
    if is_getitem(node):
        args = args[:1]
    value: Any = node.meta.get("val")
    if isinstance(value, list | tuple):
        made: Any = tuple(_sizes(v) for v in value)
    else:
        made = _sizes(value)
    return name, args, _plain(tuple(sorted(node.kwargs.items()))), repr(made)


def _sizes(value: Any) -> Any:
    """Shape and dtype; sizes that data decides are all alike."""
    if not hasattr(value, "shape"):
        return repr(type(value))
    known = tuple(n if isinstance(n, int) else "data" for n in value.shape)
    return known, value.dtype


def _plain(value: Any) -> Any:
    if isinstance(value, Node):
        return "node"
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    return repr(value)


def _runs(listed: list[int]) -> list[tuple[int, int, int]]:
    """(start, period, length) of runs that repeat, the longest first, the shortest period first."""
    import numpy as np

    marks = np.array(listed)
    found: dict[tuple[int, int], tuple[int, int, int]] = {}
    for period in range(1, min(LONGEST, len(marks) // FEWEST) + 1):
        same = np.concatenate(([False], marks[:-period] == marks[period:], [False]))
        edges = np.flatnonzero(same[1:] != same[:-1])
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            length = end - start + period
            if length >= FEWEST * period:
                found.setdefault((start, end + period), (start, period, length))
    return sorted(found.values(), key=lambda run: (-run[2], run[1]))


def _loop(steps: list[list[Node]], own: bool) -> Unrolled | None:
    """The steps as a loop; None when they are none."""
    loop = Unrolled(steps)
    places = {n: (s, j) for s, step in enumerate(steps) for j, n in enumerate(step)}
    for j, node in enumerate(loop.template):
        ways = [_arguments(step[j]) for step in steps]
        if len({len(w) for w in ways}) != 1:
            return None
        for column in zip(*ways, strict=True):
            if not _argument(loop, places, column) and not (own and _family(loop, column)):
                return None
        if str(node.target) in _COUNTING and not _counts(loop, j, own):
            return None
        if str(node.target) in _MOVING and not _moves(loop, j):
            return None
        if is_getitem(node) and len({s[j].args[1] for s in steps}) != 1:
            return None
    return loop if loop.states else None


def _arguments(node: Node) -> list[Node]:
    """The tensors that a node reads, in order, as often as they stand there."""
    found: list[Node] = []
    stack: list[Any] = [node.kwargs, node.args]
    while stack:
        tree = stack.pop()
        if isinstance(tree, Node):
            found.append(tree)
        elif isinstance(tree, dict):
            stack.extend(reversed(list(tree.values())))
        elif isinstance(tree, list | tuple):
            stack.extend(reversed(tree))
    return found


def _argument(
    loop: Unrolled, places: dict[Node, tuple[int, int]], column: tuple[Node, ...]
) -> bool:
    """Note what one argument is, as all steps read it; False when it is nothing known."""
    at = [places.get(n) for n in column]
    if all(a is None for a in at):
        return len(set(column)) == 1 or _taken_apart(loop, column)
    if all(a is not None and a[0] == s and a[1] == at[0][1] for s, a in enumerate(at)):  # type: ignore[index]
        return True
    if at[0] is not None or at[1] is None:
        return False
    j = at[1][1]
    if any(a != (s, j) for s, a in enumerate(at[1:])):
        return False
    return loop.states.setdefault(j, column[0]) is column[0]


def _family(loop: Unrolled, column: tuple[Node, ...]) -> bool:
    """Parameters of equal shape, one for each step."""
    same = len({(shape_of(n), n.meta["val"].dtype) for n in column if n.op == "placeholder"}) == 1
    if not same or len(set(column)) != len(column) or any(n.op != "placeholder" for n in column):
        return False
    return loop.families.setdefault(column[1], column) == column


def _counts(loop: Unrolled, j: int, own: bool) -> bool:
    """Note the number that a comparison is with; False when it does not move evenly."""
    numbers = [step[j].args[1] for step in loop.steps]
    if len(set(numbers)) == 1:
        return True
    if not own or not all(isinstance(n, int) for n in numbers):
        return False
    start, stride = int(numbers[0]), int(numbers[1]) - int(numbers[0])  # type: ignore[arg-type]
    loop.counted[loop.template[j]] = (start, stride)
    return all(n == start + s * stride for s, n in enumerate(numbers))


def _taken_apart(loop: Unrolled, column: tuple[Node, ...]) -> bool:
    """Parts of one tensor that were taken before the loop, each step the next."""
    parts = [_part(n) for n in column]
    if any(p is None for p in parts):
        return False
    (base, dim, first), (other, same, second) = parts[0], parts[1]  # type: ignore[misc]
    step = second - first
    if (base, dim) != (other, same) or not step:
        return False
    if any(p != (base, dim, first + s * step) for s, p in enumerate(parts)):
        return False
    loop.moving[column[1]] = Moving(base, dim, first, step, True)
    return True


def _part(node: Node) -> tuple[Node, int, int] | None:
    """(tensor, dimension, position) of a slice of it."""
    if is_getitem(node):
        source = node.args[0]
        if isinstance(source, Node) and str(source.target) in _PARTS:
            base: Any = source.args[0]
            dim = source.args[1] if len(source.args) > 1 else source.kwargs.get("dim", 0)
            return base, _positive(dim, base), int(node.args[1])  # type: ignore[arg-type]
    elif str(node.target) == "aten.select.int":
        base = node.args[0]
        dim = _positive(node.args[1], base)
        return base, dim, _positive(node.args[2], shape_of(base)[dim])
    return None


def _positive(value: Any, of: Any) -> int:
    size = of if isinstance(of, int) else len(shape_of(of))
    return int(value) % max(size, 1)


def _moves(loop: Unrolled, j: int) -> bool:
    """Note how far a slice moves with each step; False when it does not move evenly."""
    node = loop.template[j]
    name = str(node.target)
    base: Any = node.args[0]
    dim = _positive(node.args[2] if "scatter" in name else _at(node, 1, 0), base)
    size = shape_of(base)[dim]
    position = _MOVING[name][0]
    starts = [_start(_at(step[j], position, 0), size) for step in loop.steps]
    stride = starts[1] - starts[0]
    if any(at != starts[0] + s * stride for s, at in enumerate(starts)):
        return False
    if name == "aten.slice.Tensor" and _at(node, 4, 1) != 1:
        return stride == 0
    loop.moving[node] = Moving(base, dim, starts[0], stride, name != "aten.slice.Tensor")
    return True


def _at(node: Node, position: int, default: int) -> Any:
    value = node.args[position] if len(node.args) > position else None
    return default if value is None else value


def _start(value: Any, size: int) -> int:
    return min(int(value) + size, size) if value < 0 else min(int(value), size)
