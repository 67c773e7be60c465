"""Long reductions in chunks: one stage that all threads share, and one that joins the chunks.

A reduction that needs another one over the same elements (a sum of exp(x - max), a sum of
squared deviations) would read them again. Its online form takes the chunk's own maximum or mean
while the chunk is in cache, and corrects for the difference when chunks are joined:

    sum exp(x - m)  = sum over chunks of  (sum exp(x - m_c)) * exp(m_c - m)
    sum (x - m)^2   = sum over chunks of  (sum (x - m_c)^2) + 2 d * sum (x - m_c) + n_c d^2
                      with d = m_c - m      (Chan, Golub and LeVeque 1979)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Load,
    Map,
    Reduce,
    Value,
    operands,
    walk,
)
from epitaxy.proposers.grower.rewrite import rebuild, split_axis

Store = Callable[[Value], Load]
SHORTEST = 64
"""Elements that a chunk must have at least."""
NEUTRAL = {
    "sum": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf, "any": False, "all": True,
}  # fmt: skip


def divisor_near(size: int, wanted: int) -> int:
    """The divisor of `size` nearest to `wanted` (1 when there is none but 1)."""
    divisors = [d for d in range(1, min(size, 4 * wanted) + 1) if size % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / wanted)))


@dataclass(frozen=True)
class Cut:
    """The longest axis of `over` as `outer` chunks of `inner` elements; the last may be short."""

    over: tuple[Axis, ...]
    axis: Axis
    outer: Axis
    inner: Axis

    @classmethod
    def near(cls, over: tuple[Axis, ...], wanted: int) -> Cut | None:
        """About `wanted` chunks, equal ones where a divisor is near; None when too short."""
        axis = max(over, key=lambda a: a.size)
        count = divisor_near(axis.size, wanted)
        if not wanted <= 2 * count <= 4 * wanted:
            count = min(wanted, axis.size)
        length = -(-axis.size // count)
        count = -(-axis.size // length)
        if count < 2 or length < SHORTEST:
            return None
        return cls(over, axis, Axis(f"{axis.name}o", count), Axis(f"{axis.name}i", length))

    @property
    def ragged(self) -> bool:
        """Whether the last chunk is shorter."""
        return self.outer.size * self.inner.size != self.axis.size

    def partial(self, reduce: Reduce, arg: Value) -> Reduce:
        """`reduce` of each chunk, with `arg` for its operand."""
        part = split_axis(arg, self.axis, self.outer, self.inner)
        if self.ragged:
            at = Index(Affine(0, ((self.outer, self.inner.size), (self.inner, 1))))
            within = Map("lt", (at, Const(self.axis.size, "int64")), "bool")
            none = _constant(NEUTRAL[reduce.kind], part.dtype)
            part = Map("where", (within, part, none), part.dtype)
        over = tuple(self.inner if a == self.axis else a for a in self.over)
        return Reduce(reduce.kind, over, part, reduce.dtype)

    def joined(self, reduce: Reduce, parts: Value) -> Reduce:
        """`reduce` over the chunks."""
        return Reduce(reduce.kind, (self.outer,), parts, reduce.dtype)

    def elements(self) -> Value:
        """How many elements each chunk holds, over all reduced axes, as float32."""
        others = math.prod(a.size for a in self.over if a != self.axis)
        if not self.ragged:
            return Const(float(self.inner.size * others), "float32")
        left = Index(Affine(self.axis.size, ((self.outer, -self.inner.size),)))
        count = Map("minimum", (left, Const(self.inner.size, "int64")), "int64")
        return _op("mul", Map("cast", (count,), "float32"), Const(float(others), "float32"))


def _constant(value: float, dtype: str) -> Const:
    if dtype in ("float32", "bool"):
        return Const(value, dtype)
    if math.isinf(value):  # no integer operand is beyond its lanes
        return Const(int(math.copysign(2**31 - 1, value)), dtype)
    return Const(int(value), dtype)


def _op(fn: str, *args: Value) -> Map:
    return Map(fn, args, "float32")


def family(value: Value, wanted: int) -> tuple[list[Reduce], Cut] | None:
    """Reductions in `value`, operands first, that can be cut together: over the same elements,
    and needing no other reduction that could be cut."""
    groups: dict[frozenset[Axis], list[Reduce]] = {}
    for v in walk((value,)):
        if isinstance(v, Reduce) and v.kind in NEUTRAL:
            groups.setdefault(frozenset(v.over), []).append(v)
    cuts = {over: Cut.near(rs[0].over, wanted) for over, rs in groups.items()}
    for over, members in groups.items():
        cut = cuts[over]
        nested = {
            frozenset(v.over)
            for r in members
            for v in walk((r.arg,))
            if isinstance(v, Reduce) and v.kind in NEUTRAL
        }
        if cut and not any(cuts[other] for other in nested - {over}):
            return members, cut
    return None


def staged(members: list[Reduce], cut: Cut, store: Store) -> dict[Value, Value]:
    """Each reduction in two stages, one after the other: what they are replaced by."""
    totals: dict[Value, Value] = {}
    for r in members:
        arg = rebuild(r.arg, totals.get, {})
        totals[r] = store(cut.joined(r, store(cut.partial(r, arg))))
    return totals


def online(members: list[Reduce], cut: Cut, store: Store) -> dict[Value, Value] | None:
    """All of them from one reading of the elements; None when one has no online form."""
    writer = _Online(members, cut)
    if not writer.known():
        return None
    # Users first: what is stored would otherwise be read back instead of kept in the loop.
    extra = [r for r in writer.companions() if r not in members]
    for r in (*extra, *reversed(members)):
        writer.parts[r] = store(writer.local(r))
    totals: dict[Value, Value] = {}
    for r in members:
        totals[r] = writer.total(r, totals)
    return totals


class _Online:
    """The online forms of reductions over the same elements."""

    def __init__(self, members: list[Reduce], cut: Cut) -> None:
        self.members, self.cut = members, cut
        self.parts: dict[Reduce, Load] = {}
        self._locals: dict[Value, Value] = {}

    def known(self) -> bool:
        """Whether some reduction needs another and all that do have an online form."""
        dependent = [r for r in self.members if self._needs(r.arg)]
        return bool(dependent) and all(
            r.kind == "sum" and (self._exponent(r) or self._centred(r)) for r in dependent
        )

    def companions(self) -> list[Reduce]:
        """Sums of deviations that the joining of squared ones needs, where the mean is taken once
        (taken twice, what is left of it cannot be told from zero)."""
        found = []
        for r in self.members:
            centred = self._centred(r)
            if centred and centred[2] and len(centred[1]) == 1:
                found.append(Reduce("sum", r.over, centred[0], r.dtype))
        return found

    def local(self, r: Reduce) -> Reduce:
        """`r` of each chunk by itself."""
        return self.cut.partial(r, self._localised(r.arg))

    def total(self, r: Reduce, totals: dict[Value, Value]) -> Value:
        """`r` of everything, from the chunks' values and the totals of what it needs."""
        part: Value = self.parts[r]
        shift = self._exponent(r)
        centred = self._centred(r)
        if shift:
            most, c = shift
            away = _op("sub", self._localised(c, stored=True), rebuild(c, totals.get, {}))
            empty = Map("eq", (self.parts[most], Const(-math.inf, "float32")), "bool")
            scaled = _op("mul", part, _op("exp", away))
            part = Map("where", (empty, Const(0.0, "float32"), scaled), "float32")
        elif centred:
            d, shifts, squared = centred
            delta = self._delta(shifts, totals)
            spread = _op("mul", delta, self.cut.elements())
            if squared:
                spread = _op("mul", delta, spread)
                rest = Reduce("sum", r.over, d, r.dtype)
                if len(shifts) == 1:
                    twice = _op("mul", _op("add", delta, delta), self.parts[rest])
                    part = _op("add", part, twice)
            part = _op("add", part, spread)
        return self.cut.joined(r, part)

    def _delta(self, shifts: list[Value], totals: dict[Value, Value]) -> Value:
        """The chunk's own shift less that of everything."""
        found: Value | None = None
        for c in shifts:
            own = self._localised(c, stored=True)
            step = _op("sub", own, rebuild(c, totals.get, {}))
            found = step if found is None else _op("add", found, step)
        assert found is not None
        return found

    def _needs(self, value: Value) -> bool:
        return any(v in self.members for v in walk((value,)))

    def _localised(self, value: Value, stored: bool = False) -> Value:
        """`value` with every reduction and mean of this family taken over the chunk only."""

        def chunk(v: Value) -> Value | None:
            mean = self._mean(v)
            if mean is not None:
                return _op("div", one(mean), self.cut.elements())
            return one(v) if isinstance(v, Reduce) and v in self.members else None

        def one(r: Reduce) -> Value:
            return self.parts[r] if stored else self.local(r)

        return rebuild(value, chunk, {} if stored else self._locals)

    def _mean(self, v: Value) -> Reduce | None:
        """The sum whose mean `v` is: times 1/n, or divided by n."""
        if not (isinstance(v, Map) and v.fn in ("mul", "div")):
            return None
        r, c = v.args
        if not (isinstance(r, Reduce) and r in self.members and r.kind == "sum"):
            return None
        count = math.prod(a.size for a in r.over)
        wanted = 1 / count if v.fn == "mul" else count
        same = isinstance(c, Const) and math.isclose(c.value, wanted, rel_tol=1e-9)
        return r if same else None

    def _exponent(self, r: Reduce) -> tuple[Reduce, Value] | None:
        """(m, c) where `r` sums exp(x - c), or that times what needs no reduction, m is the
        maximum of x and c is m or what is made of it alone."""
        factors = [r.arg]
        while any(isinstance(f, Map) and f.fn == "mul" for f in factors):
            product = next(f for f in factors if isinstance(f, Map) and f.fn == "mul")
            factors.remove(product)
            factors.extend(operands(product))
        found = [f for f in factors if self._needs(f)]
        if len(found) != 1 or not (isinstance(found[0], Map) and found[0].fn == "exp"):
            return None
        off = found[0].args[0]
        if not (isinstance(off, Map) and off.fn == "sub"):
            return None
        x, c = off.args
        known = [v for v in walk((c,)) if v in self.members]
        if len(known) != 1 or self._needs(x) or frozenset(self.cut.over) & c.axes:
            return None
        most = known[0]
        fits = isinstance(most, Reduce) and most.kind == "max" and most.arg == x
        return (most, c) if isinstance(most, Reduce) and fits else None

    def _centred(self, r: Reduce) -> tuple[Value, list[Value], bool] | None:
        """(d, its shifts, whether squared) where `r` sums d or d*d and d = x - shifts."""
        arg = r.arg
        squared = isinstance(arg, Map) and arg.fn == "mul" and arg.args[0] == arg.args[1]
        d = arg.args[0] if squared and isinstance(arg, Map) else arg
        shifts: list[Value] = []
        x = d
        while isinstance(x, Map) and x.fn == "sub" and self._means(x.args[1]):
            shifts.append(x.args[1])
            x = x.args[0]
        if not shifts or self._needs(x):
            return None
        return d, shifts, squared

    def _means(self, c: Value) -> bool:
        """Whether `c` is a mean of this family."""
        return self._mean(c) is not None
