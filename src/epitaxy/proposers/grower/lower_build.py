"""Build values of the algebra: interned, folded and simplified as they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Guard,
    Index,
    Load,
    Map,
    Reduce,
    Scan,
    Value,
)
from epitaxy.proposers.grower.axes import Ix

FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "isnan", "isinf")
_NEUTRAL = {"add": (0, 0), "sub": (None, 0), "mul": (1, 1), "div": (None, 1)}
_INVERSE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}


class Builder:
    """Makes values; equal ones are one object."""

    def __init__(self) -> None:
        self._table: dict[Value, Value] = {}
        self._consts: dict[tuple[str, str], Const] = {}
        self.outside: dict[Value, None] = {}
        """Truths that must not be: that an index from data lies outside its dimension, say."""

    def keep(self, value: Value) -> Value:
        """The one object equal to `value`."""
        return self._table.setdefault(value, value)

    def const(self, value: float, dtype: str) -> Const:
        """A number; the sign of zero is kept."""
        if dtype == "bool":
            value = bool(value)
        elif dtype not in FLOATS:
            value = int(value)
        else:
            value = float(value)
        return self._consts.setdefault((repr(value), dtype), Const(value, dtype))

    def index(self, ix: Ix, dtype: str = "int64") -> Value:
        """The index as an integer value."""
        whole: Value = self.const(ix.offset, "int64")
        if ix.terms:
            whole = self.keep(Index(Affine(ix.offset, ix.terms)))
        for value, c, _ in ix.gathers:
            part = self.map("mul", self.cast(value, "int64"), self.const(c, "int64"))
            whole = self.map("add", whole, part)
        return self.cast(whole, dtype)

    def load(
        self, buffer: int, flat: Ix, dtype: str, guards: tuple[Guard, ...] = (), fill: float = 0.0
    ) -> Value:
        """One element of an input."""
        indirect = tuple((v, c) for v, c, _ in flat.gathers)
        place = Affine(flat.offset, flat.terms)
        return self.keep(Load(buffer, place, dtype, indirect, guards, fill))

    def cast(self, value: Value, dtype: str) -> Value:
        """`value` as `dtype`."""
        if value.dtype == dtype:
            return value
        if isinstance(value, Const) and (dtype != "bool" or math.isfinite(value.value)):
            if math.isfinite(value.value) or dtype in FLOATS:
                return self.const(value.value, dtype)
        if isinstance(value, Map) and value.fn == "where" and dtype == "bool":
            condition, yes, no = value.args
            if isinstance(yes, Const) and isinstance(no, Const):
                return self.map("where", condition, self.cast(yes, dtype), self.cast(no, dtype))
        return self.keep(Map("cast", (value,), dtype))

    def map(self, fn: str, *args: Value) -> Value:
        """fn(*args); arguments have one dtype already (but for `where`'s first)."""
        dtype = "bool" if fn in COMPARE else args[-1].dtype
        if dtype == "bool" and fn in ("add", "maximum"):
            fn = "or"
        elif dtype == "bool" and fn in ("mul", "minimum"):
            fn = "and"
        return self._simple(fn, args) or self.keep(Map(fn, args, dtype))

    def _simple(self, fn: str, args: tuple[Value, ...]) -> Value | None:
        if fn == "where":
            return self._where(*args)
        if all(isinstance(a, Const) for a in args):
            return self._fold(fn, args)
        if fn in _NEUTRAL and (found := self._neutral(fn, *args)) is not None:
            return found
        if fn in ("and", "or"):
            return self._logic(fn, *args)
        inner = args[0]
        if fn == "not" and isinstance(inner, Map) and inner.fn in COMPARE[2:6]:
            return self._inverted(inner)
        if fn in ("lt", "ge") and isinstance(inner, Index) and isinstance(args[1], Const):
            low, high = Ix(inner.index.offset, inner.index.terms).range()
            if high < args[1].value or low >= args[1].value:
                return self.const((high < args[1].value) == (fn == "lt"), "bool")
        if fn in COMPARE[:6]:
            chosen = self._chosen(fn, *args)
            if chosen is not None:
                return chosen
        if fn in ("add", "sub", "mul", "neg") and all(isinstance(a, Index | Const) for a in args):
            return self._indexed(fn, args)
        if fn in ("neg", "not") and isinstance(inner, Map) and inner.fn == fn:
            return inner.args[0]
        if fn == "abs" and isinstance(inner, Map) and inner.fn in ("abs", "neg"):
            return self.map("abs", inner.args[0]) if inner.fn == "neg" else inner
        if fn in ("maximum", "minimum") and args[0] is args[1]:
            return inner
        return None

    def _inverted(self, value: Map) -> Value | None:
        """not (a < b) of integers is a >= b; floats may be NaN."""
        if value.args[0].dtype in FLOATS:
            return None
        return self.map(_INVERSE[value.fn], *value.args)

    def _chosen(self, fn: str, left: Value, right: Value) -> Value | None:
        """A comparison of where(c, number, number) with a number is c, or not c."""
        if isinstance(left, Map) and left.fn == "where" and isinstance(right, Const):
            condition, yes, no = left.args
            if isinstance(yes, Const) and isinstance(no, Const):
                yes, no = self.map(fn, yes, right), self.map(fn, no, right)
                return self.map("where", condition, yes, no)
        return None

    def _indexed(self, fn: str, args: tuple[Value, ...]) -> Value | None:
        """Arithmetic on positions stays one affine position."""
        if args[0].dtype != "int64":
            return None
        parts = []
        for arg in args:
            if isinstance(arg, Index):
                parts.append(Ix(arg.index.offset, arg.index.terms))
            else:
                parts.append(Ix(int(arg.value)))  # type: ignore[union-attr]
        if fn == "neg":
            return self.index(parts[0].times(-1))
        if fn == "mul":
            number, other = sorted(parts, key=lambda ix: len(ix.terms))
            return None if number.terms else self.index(other.times(number.offset))
        return self.index(parts[0].plus(parts[1].times(1 if fn == "add" else -1)))

    def _neutral(self, fn: str, left: Value, right: Value) -> Value | None:
        for side, number, other in ((0, left, right), (1, right, left)):
            wanted = _NEUTRAL[fn][side]
            if wanted is not None and isinstance(number, Const) and number.value == wanted:
                return other
        # Integer zero absorbs; a float zero does not (NaN, infinities).
        if fn == "mul" and left.dtype not in FLOATS:
            for number in (left, right):
                if isinstance(number, Const) and number.value == 0:
                    return number
        return None

    def _logic(self, fn: str, left: Value, right: Value) -> Value | None:
        for number, other in ((left, right), (right, left)):
            if isinstance(number, Const):
                absorbs = bool(number.value) == (fn == "or")
                return number if absorbs else other
        return left if left is right else None

    def _where(self, condition: Value, yes: Value, no: Value) -> Value | None:
        if isinstance(condition, Const):
            return yes if condition.value else no
        if yes is no or (isinstance(yes, Const) and yes == no and repr(yes) == repr(no)):
            return yes
        if yes.dtype == "bool" and isinstance(yes, Const) and isinstance(no, Const):
            return condition if yes.value else self.map("not", condition)
        if isinstance(condition, Map) and condition.fn == "not":
            return self.map("where", condition.args[0], no, yes)
        return None

    def _fold(self, fn: str, args: tuple[Value, ...]) -> Value | None:
        from epitaxy.proposers.grower.interpret import apply, number

        if any(a.dtype in ("float16", "bfloat16") for a in args):
            return None
        made = Map(fn, args, "bool" if fn in COMPARE else args[-1].dtype)
        result = apply(made, [number(a) for a in args])  # type: ignore[arg-type]
        return self.const(result.item(), made.dtype)

    def reduce(self, kind: str, over: Sequence[Axis], arg: Value, dtype: str) -> Value:
        """`kind` of `arg` over axes; axes that `arg` lacks are folded in as a factor."""
        if kind not in ("argmax", "argmin"):
            missing = [a for a in over if a not in arg.axes]
            over = [a for a in over if a in arg.axes]
            count = math.prod(a.size for a in missing)
            if count > 1 and kind == "sum":
                return self.map(
                    "mul", self.reduce(kind, over, arg, dtype), self.const(count, dtype)
                )
            if count > 1 and kind == "prod":
                return self.map(
                    "pow", self.reduce(kind, over, arg, dtype), self.const(count, dtype)
                )
            if not over:
                return self.cast(arg, dtype)
        elif not over:
            return self.const(0, "int64")
        if kind in ("sum", "prod"):
            arg = self.cast(arg, dtype)
        return self.keep(Reduce(kind, tuple(over), arg, dtype))

    def scan(self, kind: str, along: tuple[Axis, ...], arg: Value, reverse: bool = False) -> Value:
        """Running `kind` of `arg`."""
        if not along:
            return arg
        return self.keep(Scan(kind, along, arg, arg.dtype, reverse))

    def as_ix(self, value: Value, bound: int) -> Ix:
        """An integer value as an index, affine where it is; else it is noted in `outside` that
        it must lie in [0, bound)."""
        inner = value.args[0] if isinstance(value, Map) and value.fn == "cast" else value
        if isinstance(inner, Index):
            return Ix(inner.index.offset, inner.index.terms)
        if isinstance(inner, Const):
            return Ix(int(inner.value))
        if not (isinstance(inner, Reduce) and inner.kind in ("argmax", "argmin")):
            below = self.map("lt", value, self.const(0, "int64"))
            above = self.map("ge", value, self.const(bound, "int64"))
            self.outside[self.map("or", below, above)] = None
        return Ix(0, (), ((value, 1, bound),))

    def filled(self, value: Value, guards: tuple[Guard, ...], fill: float) -> Value | None:
        """A bare load guarded by just `guards`, with this fill; None for any other value."""
        if isinstance(value, Map) and value.fn == "cast":
            inner = self.filled(value.args[0], guards, fill)
            return None if inner is None else self.cast(inner, value.dtype)
        if not isinstance(value, Load) or set(value.guards) != set(guards):
            return None
        load = Load(value.buffer, value.index, value.dtype, value.indirect, guards, float(fill))
        return self.keep(load)

    def below(self, ix: Ix, bound: int) -> Value:
        """ix < bound as a truth value; a constant where it can be told."""
        low, high = ix.range()
        if high < bound or low >= bound:
            return self.const(high < bound, "bool")
        position = self.index(ix.shifted(-ix.offset))
        return self.map("lt", position, self.const(bound - ix.offset, "int64"))

    def inside(self, ix: Ix, size: int) -> Value:
        """0 <= ix < size as a truth value; a constant where it can be told."""
        return self.map("and", self.map("not", self.below(ix, 0)), self.below(ix, size))
