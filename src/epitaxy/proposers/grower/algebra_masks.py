"""Products with values that are zero but for a diagonal or a triangle: what is zero is left out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Map,
    Reduce,
    Region,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.rewrite import rebuild, replaced, substitute

DIAGONAL = "of a product with a diagonal matrix one term is left"
TRIANGLE = "what a triangle leaves out is not computed"
LEAST_ROWS = 96
MOST_PANELS = 8
LANES = 16


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


# -- triangles -------------------------------------------------------------------------------


def triangles(region: Region) -> Region | None:
    """The region with products of which a triangle is kept computed in panels of rows, each as
    wide as the triangle is there; None where there is none."""
    stores: list[Store] = []
    for store in region.stores:
        stores.extend(_panels(store) or (store,))
    if len(stores) == len(region.stores):
        return None
    return dataclasses.replace(region, stores=tuple(stores))


def _panels(store: Store) -> list[Store] | None:
    value = store.value
    if not (isinstance(value, Map) and value.fn == "where" and len(store.axes) >= 2):
        return None
    condition, yes, no = value.args
    inverted = isinstance(yes, Const) and yes.value == 0
    zero, kept = (yes, no) if inverted else (no, yes)
    heavy = [v for v in walk((kept,)) if isinstance(v, Reduce) and len(v.axes) >= 2]
    if not (isinstance(zero, Const) and zero.value == 0 and heavy):
        return None
    line = _line(condition, inverted)
    if line is None:
        return None
    (row, g), (column, h), bound = line
    if store.axes[-1] == row:
        (row, g), (column, h) = (column, h), (row, g)
    if not {row, column} <= set(store.axes) or row.size < 2 * LEAST_ROWS:
        return None
    made: list[Store] = []
    for first, count in _cuts(row.size):
        ends = (g * first, g * (first + count - 1))
        # g * row + h * column < bound for some row of the panel
        low, high = 0, column.size
        if h > 0:
            high = min(high, max(0, -(-(bound - min(ends)) // LANES) * LANES))
        else:
            low = min(high, max(0, (min(ends) - bound + 1) // LANES * LANES))
        rows = (row, first, count)
        made += _panel(store, value, rows, (column, low, high - low))
        for start, width in ((0, low), (high, column.size - high)):
            made += _panel(store, zero, rows, (column, start, width))
    return made


def _panel(
    store: Store, value: Value, rows: tuple[Axis, int, int], columns: tuple[Axis, int, int]
) -> Iterator[Store]:
    """The part of a store over some rows and columns: (axis, first, count) of each."""
    index, axes = store.index, store.axes
    new: Value | None = value
    for axis, first, count in (rows, columns):
        if count <= 0:
            return
        part = Axis(f"{axis.name}x{first}n{count}", count)
        place = Affine(first, ((part, 1),))
        index = replaced(index, axis, place)
        axes = tuple(part if a == axis else a for a in axes)
        new = substitute(new, axis, place) if new is not None else None
    if new is not None:
        yield Store(store.buffer, index, axes, new)


def _line(
    condition: Value, inverted: bool
) -> tuple[tuple[Axis, int], tuple[Axis, int], int] | None:
    """Two axes with coefficients of 1 or -1, and a bound, with the condition sum < bound."""
    if not (isinstance(condition, Map) and condition.fn in ("lt", "ge")):
        return None
    place, bound = _affine(condition.args[0]), condition.args[1]
    if place is None or not isinstance(bound, Const) or len(place.terms) != 2:
        return None
    (a, g), (b, h) = place.terms
    limit = int(bound.value) - place.offset
    if (condition.fn == "ge") != inverted:
        # not (s < limit) is -s < 1 - limit
        g, h, limit = -g, -h, 1 - limit
    return ((a, g), (b, h), limit) if abs(g) == abs(h) == 1 else None


def _cuts(size: int) -> list[tuple[int, int]]:
    """(first, count) of panels of about equal height."""
    panels = max(2, min(MOST_PANELS, size // LEAST_ROWS))
    step = -(-size // panels)
    return [(first, min(step, size - first)) for first in range(0, size, step)]


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


def products(region: Region) -> float:
    """Flops of the region's sums of products: two for each multiply-add."""
    total = 0.0
    for value in walk(region.roots):
        if isinstance(value, Reduce) and value.kind == "sum" and isinstance(value.arg, Map):
            over = set(value.over)
            if value.arg.fn == "mul" and all(over <= a.axes for a in value.arg.args):
                total += 2 * math.prod(a.size for a in value.arg.axes)
    return total
