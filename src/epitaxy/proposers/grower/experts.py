"""Experts in a captured graph: sums to which each step adds by parameters of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Graph, Node

from epitaxy.proposers.grower.loops import Unrolled
from epitaxy.proposers.grower.lower_core import dtype_of, is_getitem, op_of, shape_of

_ADDS = ("aten.add.Tensor", "aten.index_put.default")
_CHOICES = {"aten.topk.default": 1, "aten.argmax.default": None}
_ANCESTORS = 60


def accumulator(loop: Unrolled) -> tuple[int, Node] | None:
    """The one state of a loop over experts, and what each adds to it; None where it is no sum."""
    if len(loop.states) != 1:
        return None
    (j,) = loop.states
    node, before = loop.template[j], loop.steps[0][j]
    if str(node.target) not in _ADDS or node.kwargs:
        return None
    inside = loop.nodes
    if any(u not in inside for s, step in enumerate(loop.steps) for n in step
           for u in n.users if n is not loop.steps[-1][j]):  # fmt: skip
        return None
    if any(u is not node for u in before.users):
        return None
    if str(node.target) == "aten.index_put.default":
        adds = len(node.args) == 4 and node.args[3] is True
        listed: Any = node.args[1]
        return (j, node.args[2]) if adds and len(listed) == 1 else None  # type: ignore[return-value]
    left, right = node.args[:2]
    other = right if left is before else left
    if not isinstance(other, Node) or other not in inside:
        return None
    return (j, other) if shape_of(other) == shape_of(node) else None


def settle(loop: Unrolled) -> dict[Node, Any]:
    """Give the second step's nodes static shapes: as many rows as there can be. What they had."""
    had: dict[Node, Any] = {}
    rows = next(
        (
            math.prod(shape_of(n.args[0]))
            for n in loop.template
            if str(n.target) == "aten.nonzero.default"
        ),
        0,
    )

    def fixed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(fixed(v) for v in value)
        if not hasattr(value, "shape") or all(isinstance(n, int) for n in value.shape):
            return value
        shape = [n if isinstance(n, int) else rows for n in value.shape]
        return torch.empty(shape, dtype=value.dtype, device="meta")

    for node in loop.template:
        value = node.meta.get("val")
        made = fixed(value)
        if made is not value:
            had[node] = value
            node.meta["val"] = made
    return had


def chosen(nodes: list[Node]) -> int | None:
    """How many experts a row goes to, by the operator that chose them: the number of the nearest
    top-k or argmax above `nodes`."""
    seen: dict[Node, None] = dict.fromkeys(nodes)
    for node in (queue := list(seen)):
        name = str(node.target) if node.op == "call_function" else ""
        if name in _CHOICES:
            position = _CHOICES[name]
            return 1 if position is None else int(node.args[position])  # type: ignore[arg-type]
        if len(seen) < _ANCESTORS:
            fresh = [n for n in node.all_input_nodes if n not in seen]
            seen.update(dict.fromkeys(fresh))
            queue += fresh
    return None


def with_start(graph: Graph) -> None:
    """Write `x + 0`, with which a sum in Python begins, as a sum like the others: zeros + x."""
    calls = [n for n in graph.nodes if n.op == "call_function"]
    for node in calls:
        if str(node.target) != "aten.add.Tensor" or len(node.args) != 2 or node.kwargs:
            continue
        value, number = node.args
        if isinstance(number, Node) or number != 0 or not isinstance(value, Node):
            continue
        if dtype_of(value) != dtype_of(node) or not op_of(value) or dtype_of(node) != "float32":
            continue
        with graph.inserting_before(calls[0]):
            zeros = graph.call_function(
                torch.ops.aten.full.default,
                (list(shape_of(node)), 0.0),
                {"dtype": torch.float32, "device": torch.device("cpu"), "pin_memory": False},
            )
        zeros.meta["val"] = node.meta["val"]
        node.args = (zeros, value)


def without_assertions(graph: Graph) -> None:
    """Leave out `one_hot`'s assertions about what cannot be otherwise: positions that a top-k or an
    argmax found are within what it looked at."""
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten._assert_async.msg):
        truth: Any = node.args[0]
        compared = truth.args[0] if str(truth.target) == "aten.all.default" else None
        if not isinstance(compared, Node) or not isinstance(compared.args[0], Node):
            continue
        most = _positions(compared.args[0])
        name, bound = str(compared.target), compared.args[1] if len(compared.args) > 1 else None
        if most is None or not isinstance(bound, int):
            continue
        if (name == "aten.ge.Scalar" and bound <= 0) or (
            name == "aten.lt.Scalar" and bound >= most
        ):
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _positions(node: Node) -> int | None:
    """The size of what positions were found in; None where `node` holds none."""
    while node.op == "call_function" and getattr(op_of(node), "kind", "") == "view":
        node = node.args[0]  # type: ignore[assignment]
    found = node.args[0] if is_getitem(node) and node.args[1] == 1 else node
    if not isinstance(found, Node) or str(found.target) not in _CHOICES:
        return None
    position = 1 if str(found.target) == "aten.argmax.default" else 2
    dim = found.args[position] if len(found.args) > position else -1
    return shape_of(found.args[0])[dim] if isinstance(dim, int) else None
