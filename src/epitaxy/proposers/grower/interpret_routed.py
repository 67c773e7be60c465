"""What sums over experts mean: every expert on every place, and of that what is routed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch

from epitaxy.proposers.grower.algebra import Affine, Axis, Load, Value
from epitaxy.proposers.grower.algebra_whole import Routed, Sums
from epitaxy.proposers.grower.rewrite import AtStep, rebuild

Evaluate = Callable[[Value, Sequence[Axis], list[torch.Tensor]], torch.Tensor]
"""A value as a tensor over axes, with further buffers after the region's inputs."""


def routed(what: Routed, evaluate: Evaluate) -> torch.Tensor:
    """The result over `what.place` and the last operand's axis."""
    column = what.operands[-1][1]
    total = evaluate(what.first, (*what.place, column), []).clone()
    total = total.reshape(-1, column.size)
    place = _places(what)
    for e in range(what.expert.size):
        turn = _turn(what, e)
        route = evaluate(turn(what.route), what.rows, [])
        sums: list[torch.Tensor] = []
        operands: list[torch.Tensor] = []
        ready = iter(what.products)
        for value, axis in what.operands:
            while (needed := _most(value)) >= len(sums):
                p = next(ready)
                left = operands[p.operand].reshape(-1, p.depth.size)
                weight = evaluate(turn(p.weight), (p.depth, p.width), [])
                sums.append((left @ weight.to(left.dtype)).reshape(-1))
                if needed < len(sums):
                    break
            operands.append(evaluate(turn(_read(what, value)), (*what.rows, axis), sums))
        if what.strange:
            odd = [o for o, (v, _) in zip(operands, what.operands, strict=True) if _most(v) < 0]
            for o in odd:
                route = route | ~torch.isfinite(o).all(-1)
        made = operands[-1].reshape(-1, column.size)
        keep = route.reshape(-1).nonzero()[:, 0]
        for p_ in keep.tolist():
            total[place[p_]] += made[p_]
    return total


def summed(what: Sums, evaluate: Evaluate) -> torch.Tensor:
    """The result over place and column. Raises ValueError where a row has no place."""
    for truth in what.outside:
        if bool(evaluate(truth, (what.row,), []).any()):
            raise ValueError("an index lies outside its tensor")
    total = evaluate(what.first, (what.place, what.column), []).clone()
    value = evaluate(what.value, (what.row, what.column), [])
    if what.to is not None:
        places = evaluate(what.to, (what.row,), []).tolist()
    else:
        assert what.starts is not None
        starts = evaluate(what.starts, (what.place,), [])
        places = (torch.bucketize(torch.arange(what.row.size), starts, right=True) - 1).tolist()
    for row, place in enumerate(places):
        total[place] += value[row]
    if what.mean:
        counts = torch.bincount(torch.tensor(places), minlength=what.place.size).clamp(min=1)
        total = total / counts[:, None]
    return total


def _places(what: Routed) -> list[int]:
    """The place to which each row is added."""
    found = torch.zeros([a.size for a in what.rows], dtype=torch.int64)
    for k, axis in enumerate(what.place):
        stride = math.prod(a.size for a in what.place[k + 1 :])
        shape = [axis.size if a == axis else 1 for a in what.rows]
        found = found + (torch.arange(axis.size) * stride).reshape(shape)
    return [int(n) for n in found.reshape(-1)]


def _most(value: Value) -> int:
    """The last product that a value reads; -1 when it reads none."""
    from epitaxy.proposers.grower.algebra import walk

    found = (-1 - v.buffer for v in walk((value,)) if isinstance(v, Load) and v.buffer < 0)
    return max(found, default=-1)


def _turn(what: Routed, e: int) -> Callable[[Value], Value]:
    """Values of expert `e`, with its own parameters."""
    at = AtStep(what.expert, e)

    def own(value: Value) -> Value | None:
        if isinstance(value, Load) and value.buffer in what.families:
            return at(dataclasses.replace(value, buffer=value.buffer + e))
        return None

    memo: dict[Value, Value] = {}
    return lambda value: at(rebuild(value, own, memo))


def _read(what: Routed, value: Value) -> Value:
    """`value` with products read from buffers over all rows, counted from the end: product k is the
    buffer -1 - k, and the first product the last buffer but k."""
    strides = {a: math.prod(b.size for b in what.rows[k + 1 :]) for k, a in enumerate(what.rows)}
    count = _most(value) + 1

    def place(v: Value) -> Value | None:
        if not isinstance(v, Load) or v.buffer >= 0:
            return None
        product = what.products[-1 - v.buffer]
        width = product.width.size
        terms = [(a, c) for a, c in v.index.terms if c]
        terms += [(a, strides[a] * width) for a in what.rows]
        return dataclasses.replace(
            v, buffer=-count + (-1 - v.buffer), index=Affine(0, tuple(terms))
        )

    return rebuild(value, place, {})
