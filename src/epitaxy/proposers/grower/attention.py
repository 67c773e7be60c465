"""Which sums of values weighted by a softmax of products are attention, and how they fit the loops
of attention.h."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Load,
    Map,
    Reduce,
    Scan,
    Value,
    frontier,
    walk,
)
from epitaxy.proposers.grower.contract import plain, reaches, size_of

FEW_ROWS = 16
"""Rows of queries below which those of several heads are worked on together."""


@dataclass(frozen=True)
class Weighted:
    """sum over `keys` of softmax(`scores`) * `value`; `product` is what the scores are made of."""

    total: Reduce
    scores: Value
    product: Reduce
    query: Value
    key: Value
    value: Value
    safe: bool
    """Rows whose scores are all minus infinity weigh nothing, instead of being NaN."""

    @property
    def keys(self) -> tuple[Axis, ...]:
        """The axes that the softmax runs over."""
        return self.total.over

    @property
    def depth(self) -> tuple[Axis, ...]:
        """The axes that queries and keys are multiplied along."""
        return self.product.over


@dataclass(frozen=True)
class Attention:
    """A weighted sum in plain memory, its result's axes in groups that count as one dimension."""

    weighted: Weighted
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]

    @property
    def result(self) -> tuple[Axis, ...]:
        """Axes of the result: batch, rows, columns."""
        return (*self.batch, *self.rows, *self.columns)

    @property
    def shared(self) -> tuple[Axis, ...]:
        """The batch axes along which keys or values differ."""
        own = self.weighted.key.axes | self.weighted.value.axes
        return tuple(a for a in self.batch if a in own)

    @property
    def work(self) -> int:
        """Multiplications and additions of both products."""
        what = self.weighted
        inner = size_of(what.keys) * (size_of(what.depth) + size_of(self.columns))
        return 2 * size_of((*self.batch, *self.rows)) * inner


def weighted(total: Value) -> Weighted | None:
    """`total` as a weighted sum of values; None when it is none."""
    if not isinstance(total, Reduce) or total.kind != "sum" or total.dtype != "float32":
        return None
    if not isinstance(total.arg, Map) or total.arg.fn != "mul":
        return None
    for weights, value in (total.arg.args, total.arg.args[::-1]):
        over = set(total.over)
        if not over <= value.axes or _reduces(value):
            continue
        found = _softmax(weights, over)
        if found is None:
            continue
        scores, safe = found
        product = _product(scores, over)
        if product is None or not isinstance(product.arg, Map):
            continue
        query, key = product.arg.args
        if over & query.axes:
            query, key = key, query
        return Weighted(total, scores, product, query, key, value, safe)
    return None


def _reduces(value: Value) -> bool:
    """Whether `value` is computed by another product, which has a kernel of its own."""
    return isinstance(value, Reduce | Scan)


def _softmax(weights: Value, over: set[Axis]) -> tuple[Value, bool] | None:
    """(scores, safe) where `weights` are exp(scores - their maximum) over the sum of these."""
    safe = False
    if isinstance(weights, Map) and weights.fn == "where":
        condition, yes, no = weights.args
        empty = (
            isinstance(condition, Map)
            and condition.fn == "eq"
            and _is(condition.args[1], -math.inf)
        )
        if not (empty and _is(yes, 0.0)):
            return None
        weights, safe, lowest = no, True, condition.args[0]  # type: ignore[union-attr]
    if not (isinstance(weights, Map) and weights.fn == "div"):
        return None
    top, bottom = weights.args
    if not (isinstance(bottom, Reduce) and bottom.kind == "sum" and bottom.arg == top):
        return None
    if not (isinstance(top, Map) and top.fn == "exp" and set(bottom.over) == over):
        return None
    shifted = top.args[0]
    if not (isinstance(shifted, Map) and shifted.fn == "sub"):
        return None
    scores, most = shifted.args
    if not (isinstance(most, Reduce) and most.kind == "max" and most.arg == scores):
        return None
    if set(most.over) != over or (safe and most != lowest):
        return None
    return scores, safe


def _is(value: Value, number: float) -> bool:
    return isinstance(value, Const) and value.value == number


def _product(scores: Value, over: set[Axis]) -> Reduce | None:
    """The product of queries and keys that `scores` are element-wise work on."""
    found = []
    for v in frontier(scores):
        if isinstance(v, Reduce) and v.kind == "sum" and over <= v.axes and v.dtype == "float32":
            if not isinstance(v.arg, Map) or v.arg.fn != "mul":
                continue
            sides = [bool(over & a.axes) for a in v.arg.args]
            if sides.count(True) == 1 and all(set(v.over) <= a.axes for a in v.arg.args):
                found.append(v)
    return max(found, key=lambda v: size_of(v.over), default=None)


def covered(roots: Sequence[Value]) -> set[Reduce]:
    """Products that only one weighted sum needs: it computes them itself."""
    found = set()
    for total in walk(tuple(roots)):
        what = weighted(total)
        if what is not None and not any(reaches(r, what.product, total) for r in roots):
            found.add(what.product)
    return found


def grouped(what: Weighted, order: Sequence[Axis]) -> Attention | None:
    """The axes of the result, listed outermost first, in groups; None when it has no columns or
    other axes than a softmax has."""
    queries = what.query.axes - set(what.depth)
    inside = queries | (what.key.axes - set(what.depth)) | what.scores.axes
    columns = tuple(a for a in order if a not in inside)
    if not columns or set(order) != set(what.total.axes) or not set(columns) <= what.value.axes:
        return None
    free = [a for a in order if a in queries and a not in what.key.axes | what.value.axes]
    rows: tuple[Axis, ...] = ()
    for axis in reversed(free):
        wider = (axis, *rows)
        if rows and (size_of(rows) >= FEW_ROWS or not plain(what.query, (wider,))):
            break
        rows = wider
    batch = tuple(a for a in order if a not in rows and a not in columns)
    return Attention(what, batch, rows, columns)


@dataclass(frozen=True)
class Condition:
    """index < bound (`least`) or index >= bound."""

    index: Affine
    least: bool
    bound: int


def conditions(what: Attention, certain: bool = False) -> list[Condition]:
    """What must be true of row and key for a score not to be minus infinity, as far as it can be
    told from their positions; with `certain`, whatever is added to it (NaN may be)."""
    known = set(what.rows) | set(what.weighted.keys)
    if len(what.rows) > 1 or len(what.weighted.keys) > 1:
        return []
    found = _needs(what.weighted.scores, certain)
    return [c for c in found if {a for a, _ in c.index.terms} <= known]


@dataclass(frozen=True)
class Limit:
    """Keys below offset + rise * row (`upper`), or from there on."""

    offset: int
    rise: int
    upper: bool


def limits(what: Attention, certain: bool = False) -> list[Limit]:
    """Those of `conditions` that bound the keys that a row looks at."""
    found = []
    for c in conditions(what, certain):
        across = c.index.coefficient(what.weighted.keys[0])
        if abs(across) != 1:
            continue
        slope = c.index.coefficient(what.rows[0]) if what.rows else 0
        at = c.bound - c.index.offset
        upper = c.least == (across > 0)
        # Upper: key < limit or key < 1 - limit; lower: key >= 1 - limit or key >= limit,
        # where limit = at - slope * row.
        plain = c.least if upper else not c.least
        found.append(Limit(at, -slope, upper) if plain else Limit(1 - at, slope, upper))
    return found


def looked_at(what: Weighted) -> float:
    """Which share of its scores attention does not mask away, as far as positions tell; at most
    1."""
    found = _needs(what.scores)
    axes = sorted({a for c in found for a, _ in c.index.terms}, key=lambda a: a.name)
    if len(axes) != 2 or any(abs(c.index.coefficient(axes[1])) != 1 for c in found):
        return 1.0
    first, second = axes
    kept = 0
    for i in range(first.size):
        low, high = 0, second.size
        for c in found:
            limit = c.bound - c.index.offset - c.index.coefficient(first) * i
            forward = c.index.coefficient(second) > 0
            if c.least == forward:
                high = min(high, limit if c.least else 1 - limit)
            else:
                low = max(low, 1 - limit if c.least else limit)
        kept += max(0, high - low)
    return kept / (first.size * second.size)


def _needs(value: Value, certain: bool = False) -> list[Condition]:
    if not isinstance(value, Map):
        return []
    if value.fn == "where":
        condition, yes, no = value.args
        if _is(no, -math.inf):
            return _true(condition) + _needs(yes, certain)
        if _is(yes, -math.inf):
            return _false(condition) + _needs(no, certain)
    if value.fn == "add" and not certain:
        return [c for a in value.args for c in _needs(a)]
    scaled = value.fn == "mul" and any(isinstance(a, Const) and a.value > 0 for a in value.args)
    if scaled and not certain:
        return [c for a in value.args for c in _needs(a)]
    return []


def _true(condition: Value) -> list[Condition]:
    if not isinstance(condition, Map):
        return []
    if condition.fn == "not":
        return _false(condition.args[0])
    if condition.fn == "and":
        return [c for a in condition.args for c in _true(a)]
    return _compared(condition, condition.fn)


def _false(condition: Value) -> list[Condition]:
    if not isinstance(condition, Map):
        return []
    if condition.fn == "not":
        return _true(condition.args[0])
    if condition.fn == "or":
        return [c for a in condition.args for c in _false(a)]
    opposite = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
    return _compared(condition, opposite.get(condition.fn, ""))


def exactly(condition: Value) -> list[Condition] | None:
    """What `condition` says, all of it, as conditions on positions; None where it says more."""
    if not isinstance(condition, Map):
        return None
    if condition.fn == "and":
        sides = [exactly(a) for a in condition.args]
        return None if None in sides else [c for side in sides for c in side or ()]
    if condition.fn == "not":
        inside = condition.args[0]
        if isinstance(inside, Map) and inside.fn == "not":
            return exactly(inside.args[0])
        return (isinstance(inside, Map) and inside.fn != "or" and _false(inside)) or None
    return _compared(condition, condition.fn) or None


def _compared(condition: Map, fn: str) -> list[Condition]:
    """`a fn b` of two positions as a condition on their difference."""
    bounds = {"lt": (True, 0), "le": (True, 1), "ge": (False, 0), "gt": (False, 1)}
    if fn not in bounds:
        return []
    a, b = (_position(v) for v in condition.args)
    if a is None or b is None:
        return []
    terms = dict(a.terms)
    for axis, c in b.terms:
        terms[axis] = terms.get(axis, 0) - c
    index = Affine(a.offset - b.offset, tuple((axis, c) for axis, c in terms.items() if c))
    return [Condition(index, *bounds[fn])]


def _position(value: Value) -> Affine | None:
    if isinstance(value, Index):
        return value.index
    if isinstance(value, Const) and value.dtype in ("int64", "int32"):
        return Affine(int(value.value))
    return None


def fits(what: Attention, width: int) -> bool:
    """Whether all operands are plain memory along their groups, and vectors of `width` lanes run
    along keys and columns."""
    inner = what.weighted
    straight = all(len(g) == 1 or g[-1].size % width == 0 for g in (inner.keys, what.columns))
    # Vectors of C++ are loaded as they lie; other languages convert blocks.
    wide = width == 1 or all(isinstance(x, Load) for x in (inner.query, inner.key, inner.value))
    return (
        straight
        and wide
        and plain(inner.query, (what.rows, inner.depth))
        and plain(inner.key, (inner.keys, inner.depth))
        and plain(inner.value, (inner.keys, what.columns))
    )


def memory(value: Value) -> Load:
    """`value`, which is known to be a load."""
    assert isinstance(value, Load)
    return value
