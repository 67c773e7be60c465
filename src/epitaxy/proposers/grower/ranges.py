"""Which integers fit the 32-bit lanes that kernels work with: ranges, worked out beforehand.

Integer inputs of 64 bits are looked through at each call and are at most 2^30 in size, or the
reference takes the call; what is computed from them must stay within 32 bits whatever they hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from epitaxy.proposers.grower.algebra import Const, Index, Load, Map, Reduce, Scan, Value
from epitaxy.proposers.grower.emit_expr import INTS, Unsupported

Span = tuple[float, float]
INPUT = (-(2.0**30), 2.0**30)
LANE = (-(2.0**31), 2.0**31 - 1)
BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 31}


def require_lanes(values: Iterable[Value]) -> None:
    """Raise Unsupported when an integer among `values` (operands first) may leave its lanes."""
    spans: dict[Value, Span] = {}
    for value in values:
        if value.dtype == "bool":
            spans[value] = (0, 1)
        elif value.dtype in INTS:
            found = _span(value, spans)
            limit = _limit(value.dtype)
            if value.dtype == "int32":  # wraps around, as PyTorch does
                found = LANE if found[0] < limit[0] or found[1] > limit[1] else found
            elif found[0] < limit[0] or found[1] > limit[1]:
                raise Unsupported(f"{_name(value)} may leave the 32 bits of a lane")
            spans[value] = found
        elif isinstance(value, Map) and value.fn in ("maximum", "minimum"):  # clamped floats
            spans[value] = _mapped(value, [_bounds(a, spans) for a in value.args])


def _bounds(value: Value, spans: dict[Value, Span]) -> Span:
    """What is known of a float."""
    if isinstance(value, Const):
        return value.value, value.value
    return spans.get(value, (-math.inf, math.inf))


def _limit(dtype: str) -> Span:
    return (0, 255) if dtype == "uint8" else (-(2.0 ** BITS[dtype]), 2.0 ** BITS[dtype] - 1)


def _name(value: Value) -> str:
    return value.fn if isinstance(value, Map) else getattr(value, "kind", "an integer")


def _span(value: Value, spans: dict[Value, Span]) -> Span:
    if isinstance(value, Const):
        return value.value, value.value
    if isinstance(value, Load):
        return INPUT if value.dtype == "int64" else _limit(value.dtype)
    if isinstance(value, Index):
        ends = [c * (a.size - 1) for a, c in value.index.terms]
        low = value.index.offset + sum(min(e, 0) for e in ends)
        return low, value.index.offset + sum(max(e, 0) for e in ends)
    if isinstance(value, Reduce | Scan):
        return _collected(value, spans)
    return _mapped(value, [spans.get(a, LANE) for a in value.args])


def _collected(value: Reduce | Scan, spans: dict[Value, Span]) -> Span:
    axes = value.over if isinstance(value, Reduce) else value.along
    count = math.prod(a.size for a in axes)
    if value.kind in ("argmax", "argmin"):
        return 0, count - 1
    low, high = spans.get(value.arg, LANE)
    if value.kind == "sum":
        return min(low, low * count), max(high, high * count)
    if value.kind == "prod":
        most = max(abs(low), abs(high))
        return (low, high) if most <= 1 else (-math.inf, math.inf)
    return low, high


def _mapped(value: Map, args: list[Span]) -> Span:
    (low, high), fn = args[0], value.fn
    if fn in ("cast", "sign", "abs", "neg", "not"):
        most = max(abs(low), abs(high))
        return {"cast": (low, high), "sign": (-1, 1), "abs": (0, most)}.get(fn, (-high, -low))
    if fn == "where":
        return min(args[1][0], args[2][0]), max(args[1][1], args[2][1])
    low2, high2 = args[1] if len(args) > 1 else (0, 0)
    if fn == "add":
        return low + low2, high + high2
    if fn == "sub":
        return low - high2, high - low2
    if fn == "mul":
        corners = [a * b for a in (low, high) for b in (low2, high2)]
        return min(corners), max(corners)
    if fn in ("maximum", "minimum"):
        pick = max if fn == "maximum" else min
        return pick(low, low2), pick(high, high2)
    return LANE
