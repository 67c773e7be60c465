"""Rebuilding expressions of the algebra: substitution, axis merging, split reductions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Guard,
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

Replace = Callable[[Value], "Value | None"]
Place = Callable[[Value], Value]


def rebuild(value: Value, replace: Replace, memo: dict[Value, Value]) -> Value:
    """`value` with every sub-value v for which `replace(v)` answers replaced, top down."""
    if value in memo:
        return memo[value]
    new = replace(value)
    if new is None:
        new = value
        if isinstance(value, Map):
            args = tuple(rebuild(a, replace, memo) for a in value.args)
            new = value if args == value.args else Map(value.fn, args, value.dtype)
        elif isinstance(value, Reduce | Scan):
            arg = rebuild(value.arg, replace, memo)
            new = value if arg is value.arg else dataclasses.replace(value, arg=arg)
        elif isinstance(value, Load) and value.indirect:
            indirect = tuple((rebuild(v, replace, memo), s) for v, s in value.indirect)
            new = dataclasses.replace(value, indirect=indirect)
    memo[value] = new
    return new


def moved(leaf: Index | Load, affine: Callable[[Affine], Affine], within: Place) -> Value:
    """`leaf` with every index passed through `affine`, and values that say where to read through
    `within`."""
    if isinstance(leaf, Index):
        return Index(affine(leaf.index), leaf.dtype)
    return dataclasses.replace(
        leaf,
        index=affine(leaf.index),
        guards=tuple(Guard(affine(g.index), g.size) for g in leaf.guards),
        indirect=tuple((within(v), size) for v, size in leaf.indirect),
    )


def _affines(region: Region) -> Iterable[Affine]:
    for store in region.stores:
        yield store.index
    for value in walk(region.roots):
        if isinstance(value, Load | Index):
            yield value.index
        if isinstance(value, Load):
            yield from (g.index for g in value.guards)


def _axis_lists(region: Region) -> Iterable[tuple[Axis, ...]]:
    for store in region.stores:
        yield store.axes
    for value in walk(region.roots):
        if isinstance(value, Reduce):
            yield value.over
        elif isinstance(value, Scan):
            yield value.along


def coalesce(region: Region) -> Region:
    """Merge neighbouring axes that every index treats as one: fewer, longer loops."""
    while (pair := _mergeable(region)) is not None:
        region = _merge(region, *pair)
    return region


def _mergeable(region: Region) -> tuple[Axis, Axis] | None:
    lists = list(dict.fromkeys(_axis_lists(region)))
    affines = list(dict.fromkeys(_affines(region)))
    pairs = dict.fromkeys(p for axes in lists for p in zip(axes, axes[1:], strict=False))
    for outer, inner in pairs:
        adjacent = all(
            (outer in axes) == (inner in axes)
            and (outer not in axes or axes.index(inner) == axes.index(outer) + 1)
            for axes in lists
        )
        if adjacent and all(
            f.coefficient(outer) == f.coefficient(inner) * inner.size for f in affines
        ):
            return outer, inner
    return None


def _merge(region: Region, outer: Axis, inner: Axis) -> Region:
    merged = Axis(f"{outer.name}{inner.name}", outer.size * inner.size)

    def affine(f: Affine) -> Affine:
        terms = tuple((merged if a == inner else a, c) for a, c in f.terms if a != outer)
        return Affine(f.offset, terms)

    def axes(of: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(merged if a == inner else a for a in of if a != outer)

    return map_axes(region, affine, axes)


def map_axes(
    region: Region,
    affine: Callable[[Affine], Affine],
    axes: Callable[[tuple[Axis, ...]], tuple[Axis, ...]],
) -> Region:
    """The region with every index and every axis list passed through the two functions."""
    memo: dict[Value, Value] = {}

    def leaf(value: Value) -> Value | None:
        if isinstance(value, Index | Load):
            return moved(value, affine, lambda v: rebuild(v, leaf, memo))
        if isinstance(value, Reduce):
            return dataclasses.replace(
                value, over=axes(value.over), arg=rebuild(value.arg, leaf, memo)
            )
        if isinstance(value, Scan):
            return dataclasses.replace(
                value, along=axes(value.along), arg=rebuild(value.arg, leaf, memo)
            )
        return None

    def along(stores: tuple[Store, ...]) -> tuple[Store, ...]:
        return tuple(
            Store(s.buffer, affine(s.index), axes(s.axes), rebuild(s.value, leaf, memo))
            for s in stores
        )

    return dataclasses.replace(region, stores=along(region.stores), checks=along(region.checks))


def split_axis(value: Value, axis: Axis, outer: Axis, inner: Axis) -> Value:
    """`value` with `axis` replaced by outer * inner.size + inner in every index beneath it;
    where that runs past the axis, nothing is read."""
    within = Guard(Affine(0, ((outer, inner.size), (inner, 1))), axis.size)
    ragged = outer.size * inner.size != axis.size

    def affine(f: Affine) -> Affine:
        c = f.coefficient(axis)
        if not c:
            return f
        kept = tuple((a, k) for a, k in f.terms if a != axis)
        return Affine(f.offset, (*kept, (outer, c * inner.size), (inner, c)))

    memo: dict[Value, Value] = {}

    def leaf(v: Value) -> Value | None:
        if axis not in v.axes and not (isinstance(v, Reduce) and axis in v.over):
            return v
        if not isinstance(v, Index | Load):
            return None
        new = moved(v, affine, lambda w: rebuild(w, leaf, memo))
        if ragged and isinstance(new, Load):
            new = dataclasses.replace(new, guards=(*new.guards, within))
        return new

    return rebuild(value, leaf, memo)


def substitute(value: Value, axis: Axis, place: Affine) -> Value | None:
    """`value` with `axis` replaced by `place` in every index beneath it; None where a reduction
    beneath it runs over an axis of `place`."""
    given = {a for a, _ in place.terms}
    memo: dict[Value, Value] = {}

    def affine(f: Affine) -> Affine:
        return replaced(f, axis, place)

    for v in walk((value,)):
        bound = v.over if isinstance(v, Reduce) else v.along if isinstance(v, Scan) else ()
        if axis in bound or (given & set(bound) and axis in v.axes):
            return None

    def leaf(v: Value) -> Value | None:
        if axis not in v.axes:
            return v
        if not isinstance(v, Index | Load):
            return None
        return moved(v, affine, lambda w: rebuild(w, leaf, memo))

    return rebuild(value, leaf, memo)


def replaced(f: Affine, axis: Axis, place: Affine) -> Affine:
    """The affine form with `axis` replaced by `place`, terms of larger coefficients first."""
    c = f.coefficient(axis)
    terms = {a: k for a, k in f.terms if a != axis}
    for a, k in place.terms if c else ():
        terms[a] = terms.get(a, 0) + c * k
    ordered = sorted(((a, k) for a, k in terms.items() if k), key=lambda t: (-abs(t[1]), t[0].name))
    return Affine(f.offset + c * place.offset, tuple(ordered))


class AtStep:
    """Values at one place of an axis, which they no longer vary along."""

    def __init__(self, axis: Axis, at: int) -> None:
        self.axis, self.at = axis, at
        self._memo: dict[Value, Value] = {}

    def __call__(self, value: Value) -> Value:
        """`value` there."""
        return rebuild(value, self._leaf, self._memo)

    def affine(self, f: Affine) -> Affine:
        """The index there."""
        offset = f.offset + f.coefficient(self.axis) * self.at
        return Affine(offset, tuple((a, c) for a, c in f.terms if a != self.axis))

    def _leaf(self, value: Value) -> Value | None:
        if self.axis not in value.axes:
            return value
        return moved(value, self.affine, self) if isinstance(value, Index | Load) else None
