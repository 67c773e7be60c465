"""One node of the captured graph as a call of the framework's own operator."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from epitaxy.proposers.grower.lower_core import is_getitem
from epitaxy.proposers.grower.program import FrameworkCall, Ref


def framework_call(node: Node) -> FrameworkCall:
    """The call that computes `node`; the parts of several results are named as they are picked."""
    args = torch.fx.node.map_aggregate(node.args, _argument)
    kwargs = torch.fx.node.map_aggregate(node.kwargs, _argument)
    results: tuple[str, ...] = (node.name,)
    value = node.meta.get("val")  # an assertion has none
    if isinstance(value, list | tuple):
        picked = {u.args[1]: u.name for u in node.users if is_getitem(u)}
        count = len(value)
        results = tuple(picked.get(k, f"{node.name}_unused{k}") for k in range(count))
    pairs = tuple(sorted(kwargs.items()))
    # A grown region hands on contiguous tensors where the module had other strides.
    target = "aten.reshape.default" if str(node.target) == "aten.view.default" else node.target
    return FrameworkCall(f"torch.ops.{target}", _plain(args), pairs, results)


def _argument(value: Any) -> Any:
    if isinstance(value, Node):
        return Ref(value.name)
    return str(value) if isinstance(value, torch.device) else value


def _plain(tree: Any) -> Any:
    if isinstance(tree, tuple):
        return tuple(_plain(t) for t in tree)
    return [_plain(t) for t in tree] if isinstance(tree, list) else tree
