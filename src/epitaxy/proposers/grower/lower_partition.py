"""Cut a framework graph into regions that can be grown and calls that stay.

A node's level counts the framework calls and contractions on the longest path to it. Nodes of one
level are never joined through a framework call, so every connected piece of one level is convex.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Graph, Node

from epitaxy.problem import ITEM_BYTES
from epitaxy.proposers.grower import (
    lower_attention,
    lower_contract,
    lower_conv,
    lower_gather,
    lower_index,
    lower_pointwise,
    lower_reduce,
    lower_write,
)
from epitaxy.proposers.grower.lower_chain import reorders
from epitaxy.proposers.grower.lower_core import is_getitem, large, op_of

# Importing them fills the table of lowerings.
_LOWERINGS = (
    lower_attention, lower_contract, lower_conv, lower_gather, lower_index, lower_pointwise,
    lower_reduce, lower_write,
)  # fmt: skip
_COPIES = (
    "aten.clone.default",
    "aten.alias.default",
    "aten.detach.default",
    "aten.lift_fresh_copy.default",
)
_TINY = 64


@dataclass
class Choices:
    """What was learned while lowering: nodes to store, and nodes to leave to the framework."""

    stored: set[Node] = field(default_factory=set)
    left: set[Node] = field(default_factory=set)


@dataclass
class Unit:
    """One step: a piece to grow, or one framework call."""

    nodes: list[Node]
    grown: bool


def tensors(node: Node) -> list[Any]:
    """The tensors that a node stands for."""
    value = node.meta.get("val")
    listed = value if isinstance(value, list | tuple) else [value]
    return [v for v in listed if hasattr(v, "dtype")]


def usable(value: Any) -> bool:
    """Whether the algebra knows tensors of this shape and dtype."""
    known = str(value.dtype).removeprefix("torch.") in ITEM_BYTES
    return known and all(isinstance(n, int) and n > 0 for n in value.shape)


def lowerable(node: Node) -> bool:
    """Whether this call has a lowering and its tensors are of known kinds."""
    found = op_of(node)
    if found is None:
        return False
    call = node.args[0] if is_getitem(node) else node
    assert isinstance(call, Node)
    if not found.ok(call):
        return False
    nodes = [node, *(call.all_input_nodes)]
    if found.kind == "gather" and not is_getitem(node):
        nodes = [node, *call.all_input_nodes]
    used = [v for n in nodes if not (n is call and len(tensors(n)) > 1) for v in tensors(n)]
    return all(usable(v) for v in used)


class Partition:
    """The regions and framework calls of one graph under given choices."""

    def __init__(self, graph: Graph, choices: Choices) -> None:
        self.order = {n: k for k, n in enumerate(graph.nodes)}
        self.calls = [n for n in graph.nodes if n.op == "call_function"]
        self.choices = choices
        self.grown = {n for n in self.calls if n not in choices.left and lowerable(n)}
        for node in self.calls:
            if is_getitem(node) and node.args[0] not in self.grown:
                self.grown.discard(node)
        self.free = self._free()
        self.pieces = self._trivial_out(self._components(self._levels()))

    # -- which nodes cost nothing -------------------------------------------------------------

    def _free(self) -> set[Node]:
        """Views of stored values and constants: whoever wants them works them out again."""
        free: set[Node] = set()
        constant: set[Node] = set()
        for node in self.calls:
            if node not in self.grown:
                continue
            sources = node.all_input_nodes
            kind = op_of(node).kind  # type: ignore[union-attr]
            if all(s in constant for s in sources) and kind in ("make", "point", "view", "move"):
                constant.add(node)
            elif kind != "view" or not all(s in free or self._stored(s) for s in sources):
                continue
            free.add(node)
        return free

    def _stored(self, node: Node) -> bool:
        return node not in self.grown or node in self.choices.stored

    # -- levels -------------------------------------------------------------------------------

    def _levels(self) -> dict[Node, int]:
        level: dict[Node, int] = {}
        ready: dict[Node, int] = {}
        for node in self.order:
            if node.op in ("placeholder", "get_attr"):
                level[node] = ready[node] = 0
            elif node.op == "call_function":
                sources = node.all_input_nodes
                if node in self.free:
                    ready[node] = max((ready[s] for s in sources), default=0)
                    level[node] = max((level[s] for s in sources), default=0)
                elif node in self.grown:
                    # A large contraction begins a level: it has a genome of its own.
                    begins = op_of(node).kind == "contract" and large(node)  # type: ignore[union-attr]
                    begins = begins and not reorders(node)
                    begins = begins and not lower_attention.closes(node)
                    level[node] = max((ready[s] for s in sources), default=0) + begins
                    ready[node] = level[node] + (node in self.choices.stored)
                else:
                    level[node] = max((level[s] for s in sources), default=0)
                    ready[node] = level[node] + 1
        self._sink(level)
        return level

    def _sink(self, level: dict[Node, int]) -> None:
        """Move element-wise nodes down to the only level that uses them, but for those that work
        on a contraction's result, which costs least before it is written, or for a contraction,
        which reads plain memory."""
        fed: set[Node] = set()
        for node in self.calls:
            above = any(s in fed and level[s] == level[node] for s in node.all_input_nodes)
            if node in self.grown and (above or op_of(node).kind == "contract"):  # type: ignore[union-attr]
                fed.add(node)
        for node in reversed(self.calls):
            movable = node in self.grown and node not in self.free and not is_getitem(node)
            movable = movable and node not in fed
            if not movable or len(tensors(node)) != 1:
                continue
            if op_of(node).kind not in ("point", "view"):  # type: ignore[union-attr]
                continue
            if any(u not in self.grown or u in self.free for u in node.users):
                continue
            feeds = any(op_of(u).kind == "contract" for u in node.users)  # type: ignore[union-attr]
            if feeds and not (self._mask(node) or _widened(node)):
                continue
            held = sum(not self._stored(s) and s not in self.free for s in node.all_input_nodes)
            lowest = min(level[u] for u in node.users)
            lowest -= node in self.choices.stored
            if lowest > level[node] and held <= 1:
                level[node] = lowest

    def _mask(self, node: Node) -> bool:
        """Whether the node is zero but where positions are equal: a product need not read it."""
        if not str(node.target).startswith("aten.where."):
            return False
        truth = node.args[0]
        while isinstance(truth, Node) and truth in self.free and op_of(truth).kind == "view":  # type: ignore[union-attr]
            truth = truth.args[0]
        return isinstance(truth, Node) and str(truth.target).startswith("aten.eq.")

    # -- pieces -------------------------------------------------------------------------------

    def _components(self, level: dict[Node, int]) -> list[list[Node]]:
        parent: dict[Any, Any] = {}

        def find(key: Any) -> Any:
            while parent.setdefault(key, key) != key:
                parent[key] = parent[parent[key]]
                key = parent[key]
            return key

        members = [n for n in self.calls if n in self.grown and n not in self.free]
        for node in members:
            find(node)
            for source in self._bases(node):
                if source in self.grown and source not in self.choices.stored:
                    if level[source] == level[node]:
                        parent[find(node)] = find(source)
                elif any(math.prod(t.shape) > 1 for t in tensors(source)):
                    # Readers of one big tensor go together, unless it is a parameter.
                    if not source.name.startswith(("p_", "b_", "c_")):
                        parent[find(node)] = find((level[node], source))
        groups: dict[Any, list[Node]] = {}
        for node in members:
            groups.setdefault(find(node), []).append(node)
        return list(groups.values())

    def _bases(self, node: Node) -> set[Node]:
        """What the node reads, looking through free views."""
        found: set[Node] = set()
        stack = list(node.all_input_nodes)
        while stack:
            source = stack.pop()
            if source in self.free:
                stack.extend(source.all_input_nodes)
            else:
                found.add(source)
        return found

    def _trivial_out(self, pieces: list[list[Node]]) -> list[list[Node]]:
        """Leave copies to the framework, and tiny pieces where it runs anyway."""
        others = any(n not in self.grown for n in self.calls)
        kept = []
        for piece in pieces:
            sizes = [math.prod(t.shape) for n in (*piece, *self._read(piece)) for t in tensors(n)]
            tiny = others and max(sizes) <= _TINY
            if tiny or all(self._moves_nothing(n) for n in piece):
                self.grown -= set(piece)
            else:
                kept.append(piece)
        return kept

    def _read(self, piece: Iterable[Node]) -> set[Node]:
        return set().union(*(self._bases(n) for n in piece)) - set(piece)

    def _moves_nothing(self, node: Node) -> bool:
        return op_of(node).kind in ("view", "make") or str(node.target) in _COPIES  # type: ignore[union-attr]

    # -- order --------------------------------------------------------------------------------

    def roots(self, piece: Sequence[Node]) -> list[Node]:
        """The nodes of a piece that others read, in graph order."""
        inside = set(piece)
        return [n for n in piece if shape_like(n) and any(u not in inside for u in n.users)]

    def units(self, graph: Graph) -> list[Unit]:
        """Every step in an order that respects what reads what."""
        home: dict[Node, int] = {}
        units = [Unit(piece, True) for piece in self.pieces]
        run = self._run_by_framework(graph)
        units += [Unit([n], False) for n in self.calls if n in run]
        for k, unit in enumerate(units):
            home.update(dict.fromkeys(unit.nodes, k))
        needs: list[set[int]] = []
        for k, unit in enumerate(units):
            read = self._read(unit.nodes) if unit.grown else set(unit.nodes[0].all_input_nodes)
            needs.append({home[self.producer(n)] for n in read if self.producer(n) in home} - {k})
        return _sorted(units, needs, self.order)

    def producer(self, node: Node) -> Node:
        """The call that makes `node` when it is not part of a piece: getitem's own call."""
        source = node.args[0] if is_getitem(node) else node
        apart = node not in self.grown or node in self.free
        return source if isinstance(source, Node) and apart else node

    def _run_by_framework(self, graph: Graph) -> set[Node]:
        run = {n for n in self.calls if n not in self.grown and not is_getitem(n)}
        stack = [s for n in (*run, *graph.find_nodes(op="output")) for s in n.all_input_nodes]
        while stack:
            node = self.producer(stack.pop())
            if node in self.free and node not in run:
                run.add(node)
                stack.extend(node.all_input_nodes)
        return run


def _widened(node: Any) -> bool:
    """Whether a tensor is a narrow one, converted and perhaps scaled: contractions read what is
    narrow, and convert as they go."""
    if not isinstance(node, Node) or node.op != "call_function" or not shape_like(node):
        return False
    name = str(node.target)
    if name == "aten._to_copy.default":
        return bool(tensors(node.all_input_nodes[0])[0].itemsize < node.meta["val"].itemsize)
    if name == "aten.mul.Tensor":
        large = max(node.all_input_nodes, key=lambda n: math.prod(n.meta["val"].shape))
        return _widened(large) and large.meta["val"].shape == node.meta["val"].shape
    found = op_of(node)
    return found is not None and found.kind == "view" and _widened(node.args[0])


def shape_like(node: Node) -> bool:
    """Whether the node is one tensor."""
    return hasattr(node.meta.get("val"), "shape")


def _sorted(units: list[Unit], needs: list[set[int]], order: dict[Node, int]) -> list[Unit]:
    users: list[list[int]] = [[] for _ in units]
    waiting = [len(n) for n in needs]
    for k, wanted in enumerate(needs):
        for j in wanted:
            users[j].append(k)
    rank = [max(order[n] for n in u.nodes) for u in units]
    heap = [(rank[k], k) for k in range(len(units)) if not waiting[k]]
    heapq.heapify(heap)
    result = []
    while heap:
        _, k = heapq.heappop(heap)
        result.append(units[k])
        for user in users[k]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(heap, (rank[user], user))
    assert len(result) == len(units)
    return result
