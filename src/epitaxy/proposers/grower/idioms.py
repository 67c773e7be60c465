"""Combinations of functions for which simd_math.h has one function that does less work.

Each gives what the combination gives, special values included, or more digits of it. Only the C++
writer knows these functions: rewrites, costs and interpreters see what the module says.
"""

from __future__ import annotations

import dataclasses

from epitaxy.proposers.grower.algebra import Const, Map, Region, Store, Value, walk
from epitaxy.proposers.grower.rewrite import rebuild

LINEAR = 17.0
"""From here on softplus(x) is x in single precision."""


def with_idioms(region: Region) -> Region:
    """`region` with its combinations replaced."""
    if not any(isinstance(v, Map) and v.fn in ("exp", "expm1", "log") for v in walk(region.roots)):
        return region
    memo: dict[Value, Value] = {}

    def changed(store: Store) -> Store:
        return dataclasses.replace(store, value=rebuild(store.value, _idiom, memo))

    return dataclasses.replace(region, stores=tuple(map(changed, region.stores)))


def _idiom(value: Value) -> Value | None:
    if not isinstance(value, Map) or value.dtype != "float32":
        return None
    found = _softplus(value) or _divergence(value) or _below_zero(value)
    return rebuild(found, _idiom, {}) if found is not None else None


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
