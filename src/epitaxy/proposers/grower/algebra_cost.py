"""What forms cost, in flops and bytes from the sizes of their axes, and the cheapest of them.

Every value is counted once, over its own axes. A byte that crosses memory counts as BYTE flops;
sums of products, which run near the peak, count PRODUCT of an ordinary flop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epitaxy.problem import ITEM_BYTES
from epitaxy.proposers.grower.algebra import Axis, Load, Value
from epitaxy.proposers.grower.algebra_terms import Terms
from epitaxy.proposers.grower.lower_build import Builder
from epitaxy.proposers.grower.saturate import Forms, Node

BYTE = 2.0
PRODUCT = 0.25
COSTLY = {
    "div": 4, "reciprocal": 4, "sqrt": 4, "rsqrt": 6, "exp": 10, "exp2": 8, "expm1": 14,
    "log": 12, "log2": 12, "log10": 12, "log1p": 14, "sin": 14, "cos": 14, "tan": 20, "tanh": 14,
    "sigmoid": 14, "erf": 16, "atan": 16, "sinh": 16, "cosh": 14, "pow": 30, "remainder": 6,
    "fmod": 6,
}  # fmt: skip
PASSES = 12


@dataclass(frozen=True)
class Cheapest:
    """The cheapest values of some classes and their cost."""

    values: tuple[Value, ...]
    cost: float


def cheapest(forms: Forms, terms: Terms, numels: Sequence[int]) -> Cheapest:
    """The cheapest form of every root of `forms`, values shared between them counted once.

    `numels` holds the elements of each input buffer. A class takes the form whose own cost and
    that of everything beneath it, each class once, is least (greedy: the choice below is not
    revised for what others share).
    """
    search = _Search(forms, terms, numels)
    search.run()
    total: dict[str, float] = {}
    for root in forms.roots:
        total |= search.below[root]
    builder = Builder()
    memo: dict[str, Value] = {}
    values = tuple(search.build(root, builder, memo) for root in forms.roots)
    return Cheapest(values, sum(total.values()))


def forms_of(forms: Forms, terms: Terms, numels: Sequence[int]) -> list[list[Value]]:
    """The values of every class, one for each of its forms: what the rules say is equal."""
    search = _Search(forms, terms, numels)
    search.run()
    builder = Builder()
    memo: dict[str, Value] = {}
    found = []
    for nodes in forms.classes.values():
        made = []
        for node in nodes:
            args = [search.build(a, builder, memo) for a in node.args]
            made.append(terms.value(node.op, node.payload, args, builder))
        found.append(list(dict.fromkeys(made)))
    return found


class _Search:
    def __init__(self, forms: Forms, terms: Terms, numels: Sequence[int]) -> None:
        self.forms, self.terms, self.numels = forms, terms, numels
        self.best: dict[str, Node] = {}
        self.axes: dict[str, frozenset[Axis]] = {}
        self.below: dict[str, dict[str, float]] = {}

    def run(self) -> None:
        """Choose a node for every class, until no choice changes or PASSES have revised them."""
        revised = 0
        while revised < PASSES:
            changed = False
            # A first choice takes as many passes as a value is deep.
            revised += all(name in self.below for name in self.forms.classes)
            for name, nodes in self.forms.classes.items():
                for node in nodes:
                    changed |= self._try(name, node)
            if not changed:
                return

    def _try(self, name: str, node: Node) -> bool:
        if any(a not in self.below for a in node.args):
            return False
        axes = self._axes_of(node)
        costs: dict[str, float] = {}
        for a in node.args:
            costs |= self.below[a]
        if name in costs:
            return False
        costs[name] = self._own(node, axes)
        known = self.below.get(name)
        if known is not None and sum(costs.values()) >= sum(known.values()) * (1 - 1e-9):
            return False
        self.below[name], self.best[name] = costs, node
        self.axes[name] = axes
        return True

    def _axes_of(self, node: Node) -> frozenset[Axis]:
        if node.op == "Leaf":
            return self.terms.leaves[int(node.payload[0])].axes
        inside = frozenset[Axis]().union(*(self.axes[a] for a in node.args))
        if node.op == "Red":
            kind = self.terms.kinds[int(node.payload[0])]
            return kind.axes
        return inside - self.terms.over(node.op, node.payload)

    def _own(self, node: Node, axes: frozenset[Axis]) -> float:
        """Flops of one node over its axes, with the memory that it must have."""
        size = _size(axes)
        if node.op == "Leaf":
            value = self.terms.leaves[int(node.payload[0])]
            if not isinstance(value, Load):
                return 0.0
            known = self.numels[value.buffer] if value.buffer < len(self.numels) else size
            return BYTE * ITEM_BYTES.get(value.dtype, 4) * min(size, known)
        if node.op == "Num":
            return 0.0
        if node.op in ("Sum", "Max", "Red"):
            whole = self.axes[node.args[0]] | self.terms.over(node.op, node.payload)
            weight = 2 * PRODUCT if self._product(node) else 1.0
            return weight * _size(whole) + BYTE * 8 * size
        if node.op == "Neg":
            return 0.0  # becomes a subtraction
        if node.op == "Mul" and self._multiplied(node, axes):
            return 0.0  # counted by the sum of products around it
        fn = node.payload[0].split(":")[0] if node.payload else ""
        return size * COSTLY.get(fn, 4 if node.op == "Div" else 1)

    def _product(self, node: Node) -> bool:
        below = self.best[node.args[0]]
        return node.op == "Sum" and below.op == "Mul" and self._multiplied(below, None)

    def _multiplied(self, node: Node, axes: frozenset[Axis] | None) -> bool:
        """Whether a product spreads over more than either factor: it is never stored."""
        a, b = (self.axes[x] for x in node.args)
        return not (a <= b or b <= a)

    def build(self, name: str, to: Builder, memo: dict[str, Value]) -> Value:
        """The chosen value of a class."""
        if name not in memo:
            node = self.best[name]
            args = [self.build(a, to, memo) for a in node.args]
            memo[name] = self.terms.value(node.op, node.payload, args, to)
        return memo[name]


def _size(axes: frozenset[Axis]) -> int:
    return math.prod(a.size for a in axes)
