"""Contractions in a schedule: each becomes a kernel that also does the element-wise work on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Load,
    Map,
    Reduce,
    Region,
    Scan,
    Store,
    Value,
    frontier,
    operands,
    walk,
)
from epitaxy.proposers.grower.attention import covered
from epitaxy.proposers.grower.contract import (
    NARROW,
    Contraction,
    memory,
    plain,
    reaches,
    recognise,
    size_of,
    windowed,
)
from epitaxy.proposers.grower.image import sides_of
from epitaxy.proposers.grower.rewrite import coalesce, rebuild

SHARED = 8
"""Uses of a value that make it worth while to compute it once, into a table."""
MOST_PHASES = 8
"""Phases of one direction at most: more are taken for filters."""
COSTLY = ("div", "sqrt", "rsqrt", "reciprocal", "pow", "exp", "log", "tanh", "sigmoid", "erf")


class Scheduler(Protocol):
    """What is used of the scheduler."""

    stored: dict[Value, Load]
    thin: set[Value]
    """Products of a matrix with a vector that are worth kernels of their own."""

    def store(self, value: Value, split: bool = True, axes: tuple[Axis, ...] | None = None) -> Load:
        """Compute `value` into a temporary; the load that reads it."""


def contractions(roots: Sequence[Value]) -> list[Reduce]:
    """The contractions that `roots` are computed from, operands before users."""
    found = []
    for value in walk(tuple(roots)):
        if isinstance(value, Reduce) and value.kind == "sum":
            axes = sorted(value.axes, key=lambda a: a.name)
            # Either operand may give the columns; which one is decided when the order is known.
            orders = [(*axes[:k], *axes[k + 1 :], a) for k, a in enumerate(axes)]
            if any(recognise(value, order) for order in orders):
                found.append(value)
    return found


def _alone(total: Reduce, roots: Sequence[Value]) -> bool:
    """Whether no other value reads what `total` multiplies: then nothing is read twice for it."""
    assert isinstance(total.arg, Map)
    others = [v for v in walk(tuple(roots)) if v != total.arg]
    return not any(a in operands(v) for v in others for a in total.arg.args)


def store_shared(scheduler: Scheduler, stores: Sequence[Store], attend: bool) -> None:
    """Give every contraction but those that end a region a kernel and a temporary of its own.

    With `attend` the scores of attention are left to the kernel that weighs by them. What is stored
    is the largest element-wise value that only this contraction leads to.
    """
    roots = [s.value for s in stores]
    everything = contractions(roots)
    hidden = covered(roots) if attend else set()
    everything = [t for t in everything if t not in hidden]
    thin = [t for t in everything if _thin(t)]
    scheduler.thin.update(t for t in thin if _alone(t, roots))
    everything = [t for t in everything if t not in thin or t in scheduler.thin]
    left = set(everything)
    for total in everything:
        value = _reach(total, roots, left)
        left.remove(total)
        ends = [s for s in stores if s.value == value and set(s.axes) == value.axes]
        inside = any(root != value and reaches(root, value) for root in roots)
        if len(ends) != 1 or inside:
            scheduler.store(value, axes=_layout(value, stores) or _grouped(value, total))


def _thin(total: Reduce) -> bool:
    assert isinstance(total.arg, Map)
    axes = [arg.axes - set(total.over) for arg in total.arg.args]
    return axes[0] <= axes[1] or axes[1] <= axes[0]


def _reach(total: Reduce, roots: Sequence[Value], others: set[Reduce]) -> Value:
    """The topmost element-wise value over the axes of `total` that all its users go through."""
    for value in reversed(walk(tuple(roots))):
        if not isinstance(value, Map) or value.axes != total.axes or value.dtype == "bool":
            continue
        if not reaches(value, total) or any(reaches(r, total, value) for r in roots):
            continue
        below = [v for v in walk((value,)) if isinstance(v, Reduce | Scan) and v != total]
        if any(v in others or reaches(v, total) for v in below):
            continue
        return value
    return total


def _layout(value: Value, stores: Sequence[Store]) -> tuple[Axis, ...] | None:
    """The order in which an output lists the axes of `value`; None when none has them all."""
    for store in stores:
        if value.axes <= set(store.axes):
            return tuple(a for a in store.axes if a in value.axes)
    return None


def _grouped(value: Value, total: Reduce) -> tuple[Axis, ...]:
    """The axes of `value`, with the columns of the contraction `total` together: its results are
    finished and written as they come. Pixels of an image need not be."""
    axes = ordered(value)
    what = recognise(total, axes)
    return axes if what is None or windowed(what) else what.result


def ordered(value: Value) -> tuple[Axis, ...]:
    """The axes of `value`, outermost first: by the largest stride any load gives them."""
    strides: dict[Axis, int] = dict.fromkeys(value.axes, 0)
    for v in walk((value,)):
        if isinstance(v, Load):
            for axis, stride in v.index.terms:
                if axis in strides:
                    strides[axis] = max(strides[axis], abs(stride))
    return tuple(sorted(strides, key=lambda a: (-strides[a], a.name)))


def contracted(
    scheduler: Scheduler, value: Value, index: Affine, axes: tuple[Axis, ...], width: int
) -> tuple[Store, Contraction] | Value:
    """buffer[index] = value over `axes` as one contraction of plain memory, ready to be written.

    Operands that are computed are stored first. Where the value is no contraction, or cannot be
    stored in vectors of `width` lanes, the value to schedule otherwise comes back.
    """
    phases = _phases(value, index, axes)
    axes = _before(axes, phases)
    found = [c for v in frontier(value) if (c := recognise(v, axes)) is not None]
    found = [c for c in found if c.rows or c.total in scheduler.thin]
    main = max(found, key=lambda c: c.work, default=None)
    if main is None or any(v != main.total and reaches(v, main.total) for v in frontier(value)):
        return value
    left = _memory(scheduler, main.left, (main.batch, main.rows, main.inner))
    fetched = left is not None and windowed(replace(main, left=left))
    right: Value | None = main.right
    if not fetched:
        right = _memory(scheduler, main.right, (main.batch, main.inner, main.columns))
    if left is None or right is None:
        return value
    dtype = main.total.dtype
    total = Reduce("sum", main.inner, Map("mul", (left, right), dtype), dtype)
    columns, rows = frozenset(main.columns), frozenset((*main.batch, *main.rows))
    many = size_of(main.result)

    def shared(v: Value) -> bool:
        few = not v.axes & rows and size_of(v.axes) * SHARED <= many
        return bool(v.axes) and (few or not v.axes & columns) and _costly(v)

    def foreign(v: Value) -> Value | None:
        if isinstance(v, Reduce | Scan) or shared(v):
            return scheduler.store(v)
        return scheduler.stored.get(v)

    whole = rebuild(value, foreign, {main.total: total, total: total})
    (store,) = coalesce(Region("", (), (), (Store(0, index, axes, whole),))).stores
    final = next(c for v in frontier(store.value) if (c := recognise(v, store.axes)) is not None)
    if fetched:
        return store, _with_batches(replace(final, fetched=True), phases, store.index)
    if len(final.columns) == 1 or final.columns[-1].size % width == 0:
        return store, final
    raw = scheduler.store(main.total, axes=main.result)
    return rebuild(value, lambda v: raw if v == main.total else None, {})


def _phases(value: Value, index: Affine, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axes of a convolution's filters that are phases of a stride: results of different ones
    lie between each other, each as if it were a batch of its own."""
    near = [p for p in axes if _between(p, axes, index)]
    first = _rows_between(value, index, _before(axes, near)) if near else ()
    # They are found where all that may be phases come first, and hold where only they do.
    again = _rows_between(value, index, _before(axes, first)) if first else ()
    return first if set(first) == set(again) else ()


def _with_batches(what: Contraction, phases: Sequence[Axis], index: Affine) -> Contraction:
    """`what` with the rows in `phases` as batches, those that lie closest last."""
    if not phases:
        return what
    batch = (*(a for a in what.rows if a in phases), *what.batch)
    batch = tuple(sorted(batch, key=lambda a: -index.coefficient(a)))
    return replace(what, batch=batch, rows=tuple(a for a in what.rows if a not in phases))


def _before(axes: tuple[Axis, ...], first: Sequence[Axis]) -> tuple[Axis, ...]:
    return (*first, *(a for a in axes if a not in first))


def _between(p: Axis, pixels: Iterable[Axis], index: Affine) -> bool:
    apart = p.size * index.coefficient(p)
    return p.size <= MOST_PHASES and any(index.coefficient(q) == apart != 0 for q in pixels)


def _rows_between(value: Value, index: Affine, order: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The rows of the only contraction in `value`, a convolution with other rows besides, that lie
    between its pixels."""
    found = [c for v in frontier(value) if (c := recognise(v, order)) is not None]
    if len(found) != 1 or (isinstance(found[0].left, Map) and found[0].left.fn == "cast"):
        return ()
    what = replace(found[0], left=Load(0, Affine(0), found[0].left.dtype))
    if not windowed(what):
        return ()
    moved = {a for s in sides_of(what, what.columns[-1]) or () for a, _ in s.terms}
    rows = tuple(p for p in what.rows if _between(p, moved & set(what.columns), index))
    return rows if len(rows) < len(what.rows) else ()


def _costly(value: Value) -> bool:
    """Whether `value` is worth computing once for each row or column instead of for each vector."""
    return any(isinstance(v, Map) and v.fn in COSTLY for v in walk((value,)))


def _memory(
    scheduler: Scheduler, operand: Value, groups: tuple[tuple[Axis, ...], ...]
) -> Value | None:
    """The operand as memory with one stride for each group of axes but the batch (the first)."""
    if plain(operand, groups[1:]):
        return operand
    axes = tuple(a for axes in groups for a in axes)
    narrow = operand.args[0] if isinstance(operand, Map) and operand.fn == "cast" else None
    if narrow is not None and narrow.dtype in NARROW[operand.dtype]:
        load: Value = Map("cast", (scheduler.store(narrow, axes=axes),), operand.dtype)
    else:
        load = scheduler.store(operand, axes=axes)
    return load if plain(load, groups[1:]) else None


def without_scales(region: Region) -> Region:
    """sum(x * (w * s)) as sum(x * w) * s where w is made of small integers and s does not vary
    along the sum: the integers stay as they are in memory."""
    memo: dict[Value, Value] = {}

    def taken_out(value: Value) -> Value | None:
        if not isinstance(value, Reduce) or value.kind != "sum":
            return None
        product = value.arg
        if not isinstance(product, Map) or product.fn != "mul":
            return None
        factors, scales = [], []
        for arg in product.args:
            found = _scaled(arg, frozenset(value.over))
            factors.append(found[0] if found else arg)
            scales += [found[1]] if found else []
        if not scales:
            return None
        total: Value = replace(value, arg=Map("mul", (factors[0], factors[1]), value.dtype))
        for scale in scales:
            total = Map("mul", (total, rebuild(scale, taken_out, memo)), value.dtype)
        return total

    stores = tuple(replace(s, value=rebuild(s.value, taken_out, memo)) for s in region.stores)
    return replace(region, stores=stores)


def _scaled(value: Value, over: frozenset[Axis]) -> tuple[Value, Value] | None:
    """(integers, scale) of their product, when the scale does not vary along `over`."""
    if not isinstance(value, Map) or value.fn != "mul":
        return None
    for number, scale in (value.args, value.args[::-1]):
        load = memory(number)
        if load is not None and load.dtype in ("int8", "uint8") and not scale.axes & over:
            return number, scale
    return None
