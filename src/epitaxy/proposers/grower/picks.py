"""Top-k along rows as a region of its own: its order among equals is PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.fx import Node

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.algebra_whole import Picks
from epitaxy.proposers.grower.framework import framework_call
from epitaxy.proposers.grower.lower_core import is_getitem, spec_of
from epitaxy.proposers.grower.program import RegionCall

MOST = 128
"""The longest list that values are inserted into one after the other."""


def step(node: Node, accept: Callable[[Region], bool]) -> RegionCall | None:
    """The call as a region of its own; None when it is none that can be written."""
    if str(node.target) != "aten.topk.default":
        return None
    source: Any = node.args[0]
    spec = spec_of(source)
    given: tuple[Any, ...] = (*node.args[1:], *(-1, True, True)[len(node.args) - 2 :])
    k, dim, largest, in_order = given
    rank = len(spec.shape)
    if not rank or dim not in (-1, rank - 1) or node.kwargs or spec.dtype != "float32":
        return None
    size = spec.shape[-1]
    if not isinstance(k, int) or not 0 < k <= min(size, MOST):
        return None
    what = Picks(math.prod(spec.shape[:-1]), size, k, bool(largest), bool(in_order))
    shape = (*spec.shape[:-1], k)
    outputs = tuple(TensorSpec(shape=shape, dtype=t) for t in ("float32", "int64"))
    name = f"picks_{node.name}"
    region = Region(name, (spec,), outputs, (), (str(node.target),), picks=what)
    if not accept(region):
        return None
    same = framework_call(node)
    picked = {u.args[1]: u.name for u in node.users if is_getitem(u)}
    names = tuple(str(picked.get(n, f"{node.name}_unused{n}")) for n in range(2))
    return replace(RegionCall(region, (source.name,), names), framework=(same,))
