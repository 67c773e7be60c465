"""Attention in a schedule: scores, softmax and both products as one kernel."""

from __future__ import annotations

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Map,
    Reduce,
    Region,
    Scan,
    Store,
    Value,
    frontier,
)
from epitaxy.proposers.grower.attention import Attention, Weighted, fits, grouped, weighted
from epitaxy.proposers.grower.contract import plain, reaches, size_of
from epitaxy.proposers.grower.rewrite import coalesce, rebuild
from epitaxy.proposers.grower.schedule_contract import Scheduler


def attended(
    scheduler: Scheduler, value: Value, index: Affine, axes: tuple[Axis, ...], width: int
) -> tuple[Store, Attention] | None:
    """buffer[index] = value over `axes` as one attention on plain memory; None when it is none.

    Operands that are computed are stored first; what else the scores need comes from temporaries.
    """
    found = [w for v in frontier(value) if (w := weighted(v)) is not None]
    main = max(found, key=lambda w: size_of(w.total.arg.axes), default=None)
    if main is None or any(v != main.total and reaches(v, main.total) for v in frontier(value)):
        return None
    first = grouped(main, axes)
    if first is None:
        return None
    total = _in_memory(scheduler, first)
    if total is None:
        return None

    def foreign(v: Value) -> Value | None:
        return scheduler.store(v) if isinstance(v, Reduce | Scan) else scheduler.stored.get(v)

    whole = rebuild(value, foreign, {main.total: total, total: total})
    (store,) = coalesce(Region("", (), (), (Store(0, index, axes, whole),))).stores
    final = next(w for v in frontier(store.value) if (w := weighted(v)) is not None)
    what = grouped(final, store.axes)
    return (store, what) if what is not None and fits(what, width) else None


def _in_memory(scheduler: Scheduler, first: Attention) -> Reduce | None:
    """The weighted sum with plain memory for its operands, its scores' other parts stored."""
    what = first.weighted
    query, by = _scaled(what.query)
    key, also = _scaled(what.key)
    q = _load(scheduler, query, (first.batch, first.rows, what.depth))
    k = _load(scheduler, key, (first.batch, what.keys, what.depth))
    v = _load(scheduler, what.value, (first.batch, what.keys, first.columns))
    if q is None or k is None or v is None:
        return None
    product: Value = Reduce("sum", what.depth, Map("mul", (q, k), "float32"), "float32")
    done = product
    if by * also != 1.0:
        product = Map("mul", (product, Const(by * also, "float32")), "float32")

    def inside(u: Value) -> Value | None:
        return scheduler.store(u) if isinstance(u, Reduce | Scan) else scheduler.stored.get(u)

    scores = rebuild(what.scores, inside, {what.product: product, done: done})
    return _again(what, scores, v)


def _again(what: Weighted, scores: Value, value: Value) -> Reduce:
    """The weighted sum of `value` by the softmax of `scores`."""
    most = Reduce("max", what.keys, scores, "float32")
    top = Map("exp", (Map("sub", (scores, most), "float32"),), "float32")
    weights = Map("div", (top, Reduce("sum", what.keys, top, "float32")), "float32")
    if what.safe:
        empty = Map("eq", (most, Const(float("-inf"), "float32")), "bool")
        weights = Map("where", (empty, Const(0.0, "float32"), weights), "float32")
    return Reduce("sum", what.keys, Map("mul", (weights, value), "float32"), "float32")


def _scaled(value: Value) -> tuple[Value, float]:
    """(x, c) where `value` is x times a number c."""
    if isinstance(value, Map) and value.fn in ("mul", "div"):
        x, c = value.args
        if value.fn == "mul" and isinstance(x, Const):
            x, c = c, x
        if isinstance(c, Const) and c.value:
            return x, c.value if value.fn == "mul" else 1 / c.value
    return value, 1.0


def _load(
    scheduler: Scheduler, operand: Value, groups: tuple[tuple[Axis, ...], ...]
) -> Value | None:
    """The operand as memory with one stride for each group of axes but the batch (the first)."""
    if plain(operand, groups[1:]):
        return operand
    axes = tuple(a for group in groups for a in group if a in operand.axes)
    load = scheduler.store(operand, axes=axes)
    return load if plain(load, groups[1:]) else None
