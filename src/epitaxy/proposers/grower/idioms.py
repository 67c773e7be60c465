"""Combinations for which something does less work: a function of simd_math.h, or one pass less.

Each gives what the combination gives, special values included, or more digits of it. Only the C++
writer knows these: rewrites, costs and interpreters see what the module says.
"""

from __future__ import annotations

import dataclasses
import math

from epitaxy.proposers.grower.algebra import (
    Axis,
    Const,
    Map,
    Reduce,
    Region,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.rewrite import rebuild

LINEAR = 17.0
"""From here on softplus(x) is x in single precision."""


def with_idioms(region: Region) -> Region:
    """`region` with its combinations replaced."""
    if not any(_begins(v) for v in walk(region.roots)):
        return region
    memo: dict[Value, Value] = {}

    def changed(store: Store) -> Store:
        return dataclasses.replace(store, value=rebuild(store.value, _idiom, memo))

    return dataclasses.replace(region, stores=tuple(map(changed, region.stores)))


def _begins(value: Value) -> bool:
    """Whether one of the combinations may be made of it."""
    if isinstance(value, Reduce):
        return value.kind == "sum"
    return isinstance(value, Map) and value.fn in ("exp", "expm1", "log")


def _idiom(value: Value) -> Value | None:
    if value.dtype != "float32":
        return None
    if isinstance(value, Reduce):
        return _squares(value)
    if not isinstance(value, Map):
        return None
    found = _softplus(value) or _divergence(value) or _below_zero(value)
    return rebuild(found, _idiom, {}) if found is not None else None


def _squares(value: Reduce) -> Value | None:
    """sum((d - mean(d))^2) as sum(d^2) - sum(d) mean(d), one pass over the data less: where d is
    x - mean(x), so that its own mean is what rounding left and nothing cancels. Of equal numbers
    rounding may leave less than nothing."""
    match value:
        case Reduce("sum", over, Map("mul", (Map("sub", (d, mean)) as one, other))) if one == other:
            pass
        case _:
            return None
    total = _sum_in(mean, d, over)
    match d:
        case Map("sub", (x, middle)) if total is not None and _sum_in(middle, x, over) is not None:
            squares = Reduce("sum", over, Map("mul", (d, d), d.dtype), value.dtype)
            less = Map("sub", (squares, Map("mul", (total, mean), d.dtype)), d.dtype)
            return Map("maximum", (less, Const(0.0, d.dtype)), d.dtype)
    return None


def _sum_in(mean: Value, of: Value, over: tuple[Axis, ...]) -> Value | None:
    """The sum of `of` over these axes where `mean` is that sum by the number of their elements."""
    count = math.prod(a.size for a in over)
    match mean:
        case Map("mul", (Reduce("sum", along, arg) as total, Const(c))) if math.isclose(
            c * count, 1.0
        ):
            pass
        case Map("div", (Reduce("sum", along, arg) as total, Const(c))) if c == count:
            pass
        case _:
            return None
    return total if arg == of and set(along) == set(over) else None


def _softplus(value: Map) -> Value | None:
    """log1p(exp(x)), and `x > limit ? x : log1p(exp(x))`."""
    match value:
        case Map("where", (Map("gt", (x, Const(limit))), like, Map("log1p", (Map("exp", (y,)),)))):
            return Map("softplus", (x,), x.dtype) if x == like == y and limit >= LINEAR else None
        case Map("log1p", (Map("exp", (x,)),)):
            return Map("softplus", (x,), x.dtype)
    return None


def _divergence(value: Map) -> Value | None:
    """xlogy(t, t) - t log(x): a term of the Kullback-Leibler divergence."""
    match value:
        case Map("sub", (own, Map("mul", (t, Map("log", (x,)))))) if _is_x_log_x(own, t):
            return Map("kl_term", (t, x), t.dtype)
    return None


def _is_x_log_x(own: Value, t: Value) -> bool:
    """Whether it is xlogy(t, t) as PyTorch writes it: NaN where t is, zero where t is, t log(t)."""
    match own:
        case Map("where", (Map("isnan", (a,)), Const(nan), Map("where", (zero, Const(0), whole)))):
            known = Map("eq", (t, Const(0.0, t.dtype)), "bool")
            product = Map("mul", (t, Map("log", (t,), t.dtype)), t.dtype)
            return a == t and nan != nan and zero == known and whole == product
    return False


def _below_zero(value: Map) -> Value | None:
    """`x > 0 ? a : b` where b has expm1 of x, or of x times a positive number: no overflow."""
    match value:
        case Map("where", (Map("gt", (x, Const(limit))), above, below)) if limit <= 0:
            pass
        case _:
            return None

    def low(v: Value) -> Value | None:
        match v:
            case Map("expm1", (y,)) if _same_sign(y, x):
                return Map("expm1_low", v.args, v.dtype)
        return None

    new = rebuild(below, low, {})
    return None if new == below else dataclasses.replace(value, args=(value.args[0], above, new))


def _same_sign(y: Value, x: Value) -> bool:
    match y:
        case Map("mul" | "div", (a, Const(factor))) if factor > 0:
            return a == x
        case _:
            return y == x
