"""Recurrent layers of PyTorch (LSTM, GRU, plain) as one region: what they are, and who writes them.

A step feeds the next through a nonlinear function, which the algebra has no value for. The whole
operator is one region of its own kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.fx import Node

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Recurrence, Region
from epitaxy.proposers.grower.framework import framework_call
from epitaxy.proposers.grower.lower_core import is_getitem, spec_of
from epitaxy.proposers.grower.program import RegionCall

KINDS = {
    "aten.lstm.input": "lstm",
    "aten.gru.input": "gru",
    "aten.rnn_tanh.input": "tanh",
    "aten.rnn_relu.input": "relu",
}
GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}


def step(node: Node, accept: Callable[[Region], bool]) -> RegionCall | None:
    """The call as a region of its own; None when it is none that can be written."""
    found = captured(node, f"layer_{node.name}")
    if found is None or not accept(found.region):
        return None
    same = framework_call(node)
    fits = set(found.results) <= set(same.results)
    return replace(found, framework=(same,)) if fits else found


def captured(node: Node, name: str) -> RegionCall | None:
    """The call as a region called `name`; None when it is none that can be written."""
    kind = KINDS.get(str(node.target))
    if kind is None:
        return None
    call: list[Any] = list(node.args)
    states = call[1] if kind == "lstm" else [call[1]]
    biases, layers, dropout, train, both, batch_first = call[3:9]
    tensors = [call[0], *states, *call[2]]
    if train or any(not isinstance(x, Node) for x in tensors):
        return None
    specs = tuple(spec_of(x) for x in tensors)
    ways = 2 if both else 1
    what = _sizes(kind, specs, len(states), (layers, ways, bool(biases), bool(batch_first)))
    if what is None or any(s.dtype != "float32" for s in specs):
        return None
    results = tuple(node.meta["val"])
    picked = {u.args[1]: u.name for u in node.users if is_getitem(u)}
    names = tuple(str(picked.get(k, f"{node.name}_unused{k}")) for k in range(len(results)))
    outputs = tuple(
        TensorSpec(shape=tuple(int(n) for n in r.shape), dtype="float32") for r in results
    )
    region = Region(name, specs, outputs, (), (str(node.target),), recurrence=what)
    return RegionCall(region, tuple(x.name for x in tensors), names)


def _sizes(
    kind: str, specs: tuple[TensorSpec, ...], states: int, form: tuple[int, int, bool, bool]
) -> Recurrence | None:
    """The layer's sizes; None where its weights are not those of a plain layer."""
    layers, ways, bias, batch_first = form
    x, hidden, weights = specs[0].shape, specs[1].shape, specs[1 + states :]
    if len(x) != 3 or 0 in x or len(hidden) != 3:
        return None
    batch, steps = (x[0], x[1]) if batch_first else (x[1], x[0])
    width, units = x[2], hidden[2]
    each = 4 if bias else 2
    if len(weights) != layers * ways * each:
        return None
    for k in range(layers * ways):
        wide = width if k < ways else units * ways
        if weights[k * each].shape != (GATES[kind] * units, wide):
            return None
        if weights[k * each + 1].shape != (GATES[kind] * units, units):
            return None  # an LSTM with projections
    return Recurrence(kind, layers, ways, bias, batch_first, batch, steps, width, units)


def flops(what: Recurrence) -> float:
    """Multiplications and additions of all products."""
    total = 0
    for layer in range(what.layers):
        wide = what.width if layer == 0 else what.units * what.ways
        total += what.ways * GATES[what.kind] * what.units * (wide + what.units)
    return 2.0 * total * what.batch * what.steps
