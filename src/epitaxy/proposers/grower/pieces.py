"""Element-wise results and pools that are put together along an axis, each piece by itself.

Concatenated operands are choices by place, `where(i < 64, a, b)`: written as they stand, every
element of the result works out both. Cut where the choices turn, each piece has one of them left,
its loads need no guards, and pieces of equal length share their loops and what they load: both
halves of a rotary embedding come from one reading of both halves.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Load,
    Map,
    Reduce,
    Region,
    Scan,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.rewrite import rebuild, substitute

MOST = 8
"""Pieces of one axis; each is a loop of its own."""
RUN = 16
"""Elements of the result in a row that a piece must have at least."""
WINDOW = 64
"""Elements of a pool's window, at most: longer reductions are kernels that should stay whole."""


def pieced(region: Region) -> Region:
    """`region` with its stores of single elements and pools cut where choices by place turn."""
    if region.whole:
        return region
    stores = tuple(piece for store in region.stores for piece in _pieces(store))
    return region if stores == region.stores else replace(region, stores=stores)


def _pieces(store: Store) -> list[Store]:
    values = walk((store.value,))
    reduces = [v for v in values if isinstance(v, Reduce)]
    if any(isinstance(v, Scan) for v in values) or not all(_window(v) for v in reduces):
        return [store]
    for axis in store.axes:
        if any(axis not in v.axes for v in reduces):
            continue  # every piece would reduce it again
        cuts = sorted({0, axis.size} | {c for v in values if (c := _turn(v, axis))})
        least = min(b - a for a, b in pairwise(cuts)) * _run(store, axis)
        if 2 < len(cuts) <= MOST + 1 and least >= RUN:
            made = [_piece(store, axis, a, b) for a, b in pairwise(cuts)]
            return [p for piece in made for p in _pieces(piece)]
    return [store]


def _window(reduce: Reduce) -> bool:
    """Whether it goes over a few elements of what is put together: a pool, and no product."""
    multiplies = any(isinstance(v, Map) and v.fn == "mul" for v in walk((reduce.arg,)))
    return math.prod(a.size for a in reduce.over) <= WINDOW and not multiplies


def _run(store: Store, axis: Axis) -> int:
    """Elements in a row of the result for each place along `axis`."""
    step = store.index.coefficient(axis)
    inner = [a for a in store.axes if store.index.coefficient(a) < step]
    return step if step == math.prod(a.size for a in inner) else 0


def _turn(value: Value, axis: Axis) -> int:
    """The place along `axis` where the comparison `value` turns from true to false; 0 for none."""
    if not (isinstance(value, Map) and value.fn == "lt"):
        return 0
    place, bound = value.args
    if not (isinstance(place, Index) and isinstance(bound, Const)):
        return 0
    if place.index.terms != ((axis, 1),):
        return 0
    at = int(bound.value) - place.index.offset
    return at if 0 < at < axis.size else 0


def _piece(store: Store, axis: Axis, low: int, high: int) -> Store:
    """The part of `store` from `low` to `high` along `axis`."""
    own = Axis(f"{axis.name}s{high - low}", high - low)
    place = Affine(low, ((own, 1),))
    value = substitute(store.value, axis, place)
    assert value is not None, "nothing here is bound to an axis"
    step = store.index.coefficient(axis)
    terms = tuple((own if a == axis else a, c) for a, c in store.index.terms)
    axes = tuple(own if a == axis else a for a in store.axes)
    index = Affine(store.index.offset + step * low, terms)
    return Store(store.buffer, index, axes, rebuild(value, _known, {}))


def _known(value: Value) -> Value | None:
    """What is left of `value` where the ranges of its axes decide; None where they do not."""
    if isinstance(value, Map) and value.fn == "where":
        chosen = _decided(value.args[0])
        return None if chosen is None else rebuild(value.args[1 if chosen else 2], _known, {})
    if isinstance(value, Load) and value.guards:
        kept = []
        for guard in value.guards:
            first, last = _range(guard.index)
            if last < 0 or first >= guard.size:
                return Const(value.fill, value.dtype)
            if first < 0 or last >= guard.size:
                kept.append(guard)
        return None if len(kept) == len(value.guards) else replace(value, guards=tuple(kept))
    return None


def _decided(condition: Value) -> bool | None:
    if not (isinstance(condition, Map) and condition.fn == "lt"):
        return None
    place, bound = condition.args
    if not (isinstance(place, Index) and isinstance(bound, Const)):
        return None
    first, last = _range(place.index)
    return last < bound.value if last < bound.value or first >= bound.value else None


def _range(f: Affine) -> tuple[int, int]:
    """The least and the largest value of an index."""
    spans = [c * (a.size - 1) for a, c in f.terms]
    least = f.offset + sum(s for s in spans if s < 0)
    return least, f.offset + sum(s for s in spans if s > 0)
