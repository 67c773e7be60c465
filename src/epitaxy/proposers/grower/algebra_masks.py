"""Products with diagonal matrices, and how much of a masked product is looked at."""

from __future__ import annotations

import dataclasses
import math

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Map,
    Reduce,
    Region,
    Value,
    walk,
)
from epitaxy.proposers.grower.attention import looked_at, weighted
from epitaxy.proposers.grower.rewrite import rebuild, substitute

DIAGONAL = "of a product with a diagonal matrix one term is left"
TRIANGLE = "what a triangle leaves out is not computed"


# -- diagonals -------------------------------------------------------------------------------


def diagonals(region: Region, finite: bool) -> Region | None:
    """The region with every product with a diagonal matrix as a scaling; None without one.

    0 * NaN is NaN: unless `finite`, zero times the sum of the other factor is added, in which
    only a NaN or an infinity shows.
    """
    found: dict[Value, Value] = {}
    for value in walk(region.roots):
        if isinstance(value, Reduce) and value.kind == "sum" and value.dtype == "float32":
            scaled = _scaled(value, finite)
            if scaled is not None:
                found[value] = scaled
    if not found:
        return None
    memo: dict[Value, Value] = {}
    stores = tuple(
        dataclasses.replace(s, value=rebuild(s.value, found.get, memo)) for s in region.stores
    )
    return dataclasses.replace(region, stores=stores)


def _scaled(total: Reduce, finite: bool) -> Value | None:
    """sum over k of where(k == f, v, 0) * w as v * w at k = f."""
    product = total.arg
    if not isinstance(product, Map) or product.fn != "mul":
        return None
    for mask, other in (product.args, product.args[::-1]):
        picked = _picked(mask, total.over)
        if picked is None:
            continue
        axis, place, kept = picked
        parts = (substitute(kept, axis, place), substitute(other, axis, place))
        if parts[0] is None or parts[1] is None:
            continue
        rest = tuple(a for a in total.over if a != axis)
        value: Value = Map("mul", (parts[0], parts[1]), "float32")
        if rest:
            value = Reduce("sum", rest, value, "float32")
        if finite:
            return value
        over = tuple(a for a in total.over if a in other.axes)
        if axis not in over or other.axes >= total.arg.axes:
            return None
        nothing = Map("mul", (other, Const(0.0, "float32")), "float32")
        return Map("add", (value, Reduce("sum", over, nothing, "float32")), "float32")
    return None


def _picked(mask: Value, over: tuple[Axis, ...]) -> tuple[Axis, Affine, Value] | None:
    """(axis, its one place, the value there) of where(axis == place, value, 0)."""
    if not (isinstance(mask, Map) and mask.fn == "where"):
        return None
    condition, kept, zero = mask.args
    if not (isinstance(zero, Const) and zero.value == 0):
        return None
    if not (isinstance(condition, Map) and condition.fn == "eq"):
        return None
    sides = [_affine(v) for v in condition.args]
    if sides[0] is None or sides[1] is None:
        return None
    gap = _difference(sides[0], sides[1])
    for axis in over:
        c = gap.coefficient(axis)
        if c not in (1, -1):
            continue
        # c * axis + rest = 0
        rest = tuple((a, -c * k) for a, k in gap.terms if a != axis)
        place = Affine(-c * gap.offset, rest)
        low, high = _range(place)
        if low >= 0 and high < axis.size:
            return axis, place, kept
    return None


# -- affine forms ----------------------------------------------------------------------------


def _affine(value: Value) -> Affine | None:
    if isinstance(value, Map) and value.fn == "cast":
        return _affine(value.args[0]) if value.dtype in ("int64", "int32") else None
    if isinstance(value, Index):
        return value.index
    return Affine(int(value.value)) if isinstance(value, Const) else None


def _difference(a: Affine, b: Affine) -> Affine:
    axes = dict.fromkeys([x for x, _ in (*a.terms, *b.terms)])
    terms = tuple((x, a.coefficient(x) - b.coefficient(x)) for x in axes)
    return Affine(a.offset - b.offset, tuple((x, c) for x, c in terms if c))


def _range(f: Affine) -> tuple[int, int]:
    spans = [c * (a.size - 1) for a, c in f.terms]
    return f.offset + sum(min(s, 0) for s in spans), f.offset + sum(max(s, 0) for s in spans)


def products(region: Region, used: bool = False) -> float:
    """Flops of the region's sums of products: two for each multiply-add.

    `used`: only of sums that are looked at, where a triangle or band of a result is masked away.
    """
    share: dict[Value, float] = {}
    for store in region.stores:
        kept = _share(store.value)
        for value in walk((store.value,)):
            share[value] = max(share.get(value, 0.0), kept)
    for value in walk(region.roots):
        if (what := weighted(value)) is not None:
            share[what.total] = share[what.product] = looked_at(what)
    total = 0.0
    for value in walk(region.roots):
        if isinstance(value, Reduce) and value.kind == "sum" and isinstance(value.arg, Map):
            over = set(value.over)
            if value.arg.fn == "mul" and all(over <= a.axes for a in value.arg.args):
                each = share.get(value, 1.0) if used else 1.0
                total += 2 * math.prod(a.size for a in value.arg.axes) * each
    return total


def _share(value: Value) -> float:
    """Which share of its elements a masked value keeps: 1 where nothing is known."""
    if not (isinstance(value, Map) and value.fn == "where"):
        return 1.0
    condition, yes, no = value.args
    if not (isinstance(condition, Map) and condition.fn in ("lt", "ge")):
        return 1.0
    place, bound = _affine(condition.args[0]), condition.args[1]
    if place is None or not isinstance(bound, Const) or len(place.terms) != 2:
        return 1.0
    (a, g), (b, h) = place.terms
    limit = int(bound.value) - place.offset
    if abs(g) != 1 or abs(h) != 1:
        return 1.0
    low = sum(_below(limit - g * i, h, b.size) for i in range(a.size)) / (a.size * b.size)
    truth = low if condition.fn == "lt" else 1 - low
    if isinstance(no, Const):
        return truth
    return 1 - truth if isinstance(yes, Const) else 1.0


def _below(limit: int, sign: int, size: int) -> int:
    """How many j in [0, size) have sign * j < limit."""
    count = limit if sign > 0 else size - max(0, 1 - limit)
    return max(0, min(size, count))
