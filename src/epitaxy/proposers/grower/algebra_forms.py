"""The algebraically cheapest form of a region, and the rules by which it is equal to the first.

Diagonal factors first, then equality saturation. A region with nothing to rewrite is told by its
shape, before anything is imported.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from epitaxy.proposers.grower import algebra_masks as masks
from epitaxy.proposers.grower.algebra import Map, Reduce, Region, Value, operands, walk
from epitaxy.proposers.grower.algebra_terms import BOUNDS, INCREASING, REAL, Terms

if TYPE_CHECKING:
    from epitaxy.proposers.grower.saturate import Rule

LINEAR = ("add", "sub", "neg", "mul", "div")
WORTH = 0.996
"""A form is taken when its cost is at most this share of the first one's."""
PROOF_S = 2.0
"""Seconds for finding out which rules a form needs; after that the list may hold idle ones."""


@dataclass(frozen=True)
class Rewriting:
    """A region's cheapest form. `rules` are enough to derive it; `rounding` names those of them
    that change how results are rounded; `flops` are those of its sums of products, before and
    after; `cut` says why not every form was looked at."""

    region: Region
    rules: tuple[str, ...]
    rounding: tuple[str, ...]
    flops: tuple[float, float]
    cut: str = ""

    def __str__(self) -> str:
        before, after = self.flops
        saved = f"{before:.3g} to {after:.3g} flops" if after < before else "the same flops"
        cut = f"; not every form was looked at: ended {self.cut}" if self.cut else ""
        return f"{self.region.name}: {saved}, by: {', '.join(self.rules)}{cut}"


@lru_cache(maxsize=256)
def rewriting(region: Region, finite: bool = False) -> Rewriting | None:
    """The cheapest form of `region`; None when that is the form it has.

    `finite`: no value is NaN or infinite. Raises BadEnvironment when egglog is missing and a form
    might be found.
    """
    form, cut = region, ""
    names: list[str] = []
    rounding: list[str] = []
    plain = masks.diagonals(region, finite)
    if plain is not None:
        form = plain
        names.append(masks.DIAGONAL)
    if promising(form):
        found = _saturated(form, finite)
        if found is not None:
            form, used, cut = found
            names += [r.name for r in used]
            rounding += [r.name for r in used if r.rounding != "exact"]
    if not names:
        return None
    flops = (masks.products(region, used=True), masks.products(form, used=True))
    form = dataclasses.replace(form, algebra=tuple(names))
    return Rewriting(form, tuple(names), tuple(rounding), flops, cut)


def promising(region: Region) -> bool:
    """Whether the shape of `region` lets the rules find anything; takes microseconds."""
    values = walk(region.roots)
    products = {v for v in values if _is_product(v)}
    for value in values:
        if isinstance(value, Reduce) and value.dtype == REAL:
            arg = value.arg
            if value.kind == "max" and isinstance(arg, Map):
                if arg.fn in (*INCREASING, *BOUNDS, "add", "mul"):
                    return True
            if value.kind == "sum" and not products.isdisjoint(_linear(arg)):
                return True
        elif isinstance(value, Map) and value.dtype == REAL and value.fn in LINEAR:
            for a in value.args:
                if not (isinstance(a, Map) and a.fn in LINEAR and a.axes == value.axes):
                    continue
                small = any(b.axes < value.axes for b in (*value.args, *a.args))
                if small and not products.isdisjoint(_linear(a)):
                    return True
    return False


def _is_product(value: Value) -> bool:
    if not (isinstance(value, Reduce) and value.kind == "sum" and isinstance(value.arg, Map)):
        return False
    over = set(value.over)
    return value.arg.fn == "mul" and all(over <= a.axes for a in value.arg.args)


def _linear(value: Value) -> set[Value]:
    """What `value` is computed from through sums, products and quotients alone."""
    found: set[Value] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        if v in found:
            continue
        found.add(v)
        if isinstance(v, Map) and v.fn in LINEAR and v.dtype == REAL:
            stack.extend(operands(v))
    return found


def _saturated(region: Region, finite: bool) -> tuple[Region, list[Rule], str] | None:
    """(the cheapest form, the rules that are needed for it, why it was cut short)."""
    from epitaxy.proposers.grower.algebra_cost import Cheapest, cheapest
    from epitaxy.proposers.grower.saturate import rules, saturate

    roots = tuple(s.value for s in region.stores)
    terms = Terms(roots)
    names = [terms.names[v] for v in roots]
    numels = [s.numel for s in region.inputs]

    def best(chosen: Sequence[Rule]) -> Cheapest:
        return cheapest(saturate(terms.lines, names, chosen), terms, numels)

    forms = saturate(terms.lines, names, [r for r in rules() if finite or not r.finite])
    first, last, cut = best(()), cheapest(forms, terms, numels), forms.cut
    if last.cost > first.cost * WORTH:
        return None
    applied = [r for r in rules() if r.name in forms.matched]
    needed = _needed(applied, last.cost, lambda chosen: best(chosen).cost)
    values = best(needed).values
    stores = tuple(
        dataclasses.replace(s, value=v) for s, v in zip(region.stores, values, strict=True)
    )
    listed = [r for r in needed if not r.silent]
    return dataclasses.replace(region, stores=stores), listed, cut


def _needed(
    rules: Sequence[Rule], cost: float, reach: Callable[[Sequence[Rule]], float]
) -> list[Rule]:
    """Rules that are enough to reach `cost`: each is left out that is not missed."""
    kept = list(rules)
    start_s = time.perf_counter()
    for rule in rules:
        if time.perf_counter() - start_s > PROOF_S:
            break
        fewer = [r for r in kept if r is not rule]
        if reach(fewer) <= cost * (1 + 1e-9):
            kept = fewer
    return kept
