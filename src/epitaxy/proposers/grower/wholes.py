"""Pieces of a captured graph that become one region each, before it is partitioned: loops over time
steps, sums over experts.

The nodes of such a piece are replaced by one call, of which the program knows the region.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.fx import Graph, Node

from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.axes import Inexpressible
from epitaxy.proposers.grower.experts import (
    accumulator,
    settle,
    with_start,
    without_assertions,
)
from epitaxy.proposers.grower.framework import framework_call
from epitaxy.proposers.grower.loops import Unrolled, unrolled
from epitaxy.proposers.grower.lower_core import is_getitem, op_of
from epitaxy.proposers.grower.lower_loop import (
    LoopLowering,
    Result,
    absorbed,
    depending_on,
    results_of,
    taken_in,
    taken_with,
    with_tails,
)
from epitaxy.proposers.grower.lower_partition import lowerable
from epitaxy.proposers.grower.lower_routed import RoutedLowering
from epitaxy.proposers.grower.lower_sums import SumsLowering, result_of
from epitaxy.proposers.grower.program import FrameworkCall, Ref, RegionCall, reads

Accept = Callable[[Region], bool]
_RETRIES = 12
_ALIAS = "torch.ops.aten.alias.default"


def whole_region(*tensors: object) -> None:
    """Stands in the graph for a region that is known already; never called."""
    raise AssertionError("a placeholder was called")


def take(graph: Graph, accept: Accept, scalars: dict[Node, float]) -> dict[Node, RegionCall]:
    """Replace what is one region by a call each; the calls and their regions."""
    calls: dict[Node, RegionCall] = {}
    without_assertions(graph)
    with_start(graph)
    while (made := _next_sum(graph, accept, scalars, f"experts{len(calls)}")) is not None:
        calls.update([made])
    while (made := _next_loop(graph, accept, scalars, f"loop{len(calls)}")) is not None:
        calls.update([made])
    for node in list(graph.nodes):
        if (made := _summed(graph, node, accept, scalars, f"sums{len(calls)}")) is not None:
            calls.update([made])
    return calls


def _summed(
    graph: Graph, node: Node, accept: Accept, scalars: dict[Node, float], name: str
) -> tuple[Node, RegionCall] | None:
    """The region of a call that adds rows where data says, in place of it."""
    root = result_of(node) if node.op == "call_function" and node.users else None
    if root is None:
        return None
    inside = {node, root}
    left: set[Node] = set()
    for _ in range(_RETRIES):
        taken = taken_with(inside, [], left, reads=True)
        lowering = SumsLowering(node, taken, scalars)
        try:
            region = lowering.sums_region(name)
        except Inexpressible as reason:
            gathers = {n for n in taken if getattr(op_of(n), "kind", "") == "gather"}
            odd = {reason.node} if reason.node in taken else gathers
            if not odd:
                return None
            left.update(n for n in odd if isinstance(n, Node))
            continue
        if not accept(region):
            return None
        call = RegionCall(region, tuple(n.name for n in lowering.inputs), ())
        alone = Unrolled([[node] if root is node else [node, root]])
        return _replaced(graph, alone, (Result(root, root),), call, list(lowering.inputs), taken)
    return None


def _next_loop(
    graph: Graph, accept: Accept, scalars: dict[Node, float], name: str
) -> tuple[Node, RegionCall] | None:
    for loop in unrolled(graph):
        results = results_of(loop)
        if results is None:
            continue
        for form in dict.fromkeys((tuple(with_tails(loop, results)), tuple(results))):
            found = _lowered(loop, form, scalars, name)
            if found is not None and accept(found[0].region):
                return _replaced(graph, loop, form, *found)
    return None


def _next_sum(
    graph: Graph, accept: Accept, scalars: dict[Node, float], name: str
) -> tuple[Node, RegionCall] | None:
    """The next sum over experts."""
    for loop in unrolled(graph, own=True):
        if not loop.families and not loop.moving:
            continue
        had = settle(loop)
        try:
            found = _routed(loop, scalars, name)
            if found is None or not accept(found[1].region):
                continue
        finally:
            for node, value in had.items():
                node.meta["val"] = value
        result, call, inputs, taken = found
        made = _replaced(graph, loop, (result,), call, inputs, taken)
        if made is not None:
            return made
    return None


def _routed(
    loop: Unrolled, scalars: dict[Node, float], name: str
) -> tuple[Result, RegionCall, list[Node], list[Node]] | None:
    """The sum as a region: its result, its call, the nodes it reads, and those it took in."""
    summed = accumulator(loop)
    if summed is None:
        return None
    j, adds = summed
    result = Result(loop.template[j], loop.steps[-1][j])
    taken = absorbed(loop, (result,), set())
    lowering = RoutedLowering(loop, taken, scalars, adds)
    try:
        region = lowering.routed_region(name)
    except Inexpressible:
        return None
    args = tuple(n.name for n in lowering.inputs)
    return result, RegionCall(region, args, ()), list(lowering.inputs), taken


def _lowered(
    loop: Unrolled, results: Sequence[Result], scalars: dict[Node, float], name: str
) -> tuple[RegionCall, list[Node], list[Node]] | None:
    """The region's call, the nodes that it reads, and those that it took in."""
    fixed = {*loop.moving, *loop.template}
    if any(n not in loop.moving and not lowerable(n) for n in loop.template):
        return None
    left: set[Node] = set()
    for _ in range(_RETRIES):
        taken = absorbed(loop, results, left)
        lowering = LoopLowering(loop, results, taken, scalars)
        try:
            region = lowering.loop_region(name)
        except Inexpressible as reason:
            if not isinstance(reason.node, Node) or reason.node in fixed | left:
                return None
            if reason.node not in taken:
                return None
            left.add(reason.node)
            continue
        args = tuple(n.name for n in lowering.inputs)
        return RegionCall(region, args, ()), list(lowering.inputs), taken
    return None


def _replaced(
    graph: Graph, loop: Unrolled, results: Sequence[Result],
    call: RegionCall, inputs: list[Node], taken: list[Node],
) -> tuple[Node, RegionCall] | None:  # fmt: skip
    """Put one call in place of the loop; None where what it reads depends on it."""
    inside = taken_in(loop, results)
    if not depending_on(inside).isdisjoint(inputs):
        return None
    same = _framework([*taken, *(n for n in graph.nodes if n in inside)])
    with graph.inserting_before(loop.steps[0][0]):
        whole = graph.call_function(whole_region, tuple(inputs))
    made, values, aliases = [], [], []
    for k, result in enumerate(results):
        old = result.made
        with graph.inserting_after(whole):
            item = graph.call_function(operator.getitem, (whole, k))
        if old is not None:
            item.meta["val"] = old.meta["val"]
            old.replace_all_uses_with(item, delete_user_cb=lambda u: u not in inside)
            aliases.append(FrameworkCall(_ALIAS, (Ref(old.name),), (), (item.name,)))
        else:
            aliases.append(_split(graph, loop, result, item, inside))
        made.append(item.name)
        values.append(item.meta["val"])
    whole.meta["val"] = tuple(values)
    _sort(graph)
    graph.eliminate_dead_code()
    calls = (*same, *aliases)
    known, fits = set(call.args), True
    for step in calls:
        fits = fits and reads(step) <= known
        known.update(step.results)
    return whole, replace(call, results=tuple(made), framework=calls if fits else ())


def _split(
    graph: Graph, loop: Unrolled, result: Result, item: Node, inside: set[Node]
) -> FrameworkCall:
    """Give each step's own node, where it is read, from what all steps made."""
    j = loop.template.index(result.value)
    column = [step[j] for step in loop.steps]
    value = result.value.meta["val"]
    item.meta["val"] = value.new_empty((len(column), *value.shape))
    for s, node in enumerate(column):
        if all(u in inside for u in node.users):
            continue
        with graph.inserting_after(item):
            part = graph.call_function(torch.ops.aten.select.int, (item, 0, s))
        part.meta["val"] = value
        node.replace_all_uses_with(part, delete_user_cb=lambda u: u not in inside)
    names = [Ref(n.name) for n in column]
    return FrameworkCall("torch.ops.aten.stack.default", (names, 0), (), (item.name,))


def _framework(nodes: Sequence[Node]) -> list[FrameworkCall]:
    return [framework_call(n) for n in nodes if not is_getitem(n)]


def _sort(graph: Graph) -> None:
    """Bring the nodes into an order in which they can run, near to the one they had."""
    nodes = list(graph.nodes)
    place = {n: k for k, n in enumerate(nodes)}
    waiting = {n: len(set(n.all_input_nodes)) for n in nodes}
    ready = [place[n] for n in nodes if not waiting[n] and n.op != "output"]
    heapq.heapify(ready)
    (end,) = graph.find_nodes(op="output")
    while ready:
        node = nodes[heapq.heappop(ready)]
        end.prepend(node)
        for user in node.users:
            waiting[user] -= 1
            if not waiting[user] and user.op != "output":
                heapq.heappush(ready, place[user])
