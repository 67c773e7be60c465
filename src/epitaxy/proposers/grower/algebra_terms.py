"""Values of the algebra as terms for equality saturation, and terms as values again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import (
    Axis,
    Const,
    Map,
    Reduce,
    Scan,
    Value,
    operands,
    walk,
)
from epitaxy.proposers.grower.lower_build import Builder

ARITHMETIC = {"add": "Add", "sub": "Add", "neg": "Neg", "mul": "Mul", "div": "Div"}
REAL = "float32"
INCREASING = ("tanh", "sigmoid", "exp", "exp2", "expm1", "erf", "atan", "sinh", "floor", "ceil")
"""Functions that never decrease and are defined everywhere, so that a maximum passes them."""
BOUNDS = ("maximum", "minimum")


class Terms:
    """The terms of some values: `lines` is their text, one name for each value."""

    def __init__(self, roots: Sequence[Value]) -> None:
        self.axes: list[Axis] = []
        self.leaves: list[Value] = []
        self.kinds: list[Reduce | Scan] = []
        self.lines: list[str] = []
        self.names: dict[Value, str] = {}
        order = walk(tuple(roots))
        for value in order:
            for axis in sorted(_bound(value) | value.axes, key=lambda a: a.name):
                if axis not in self.axes:
                    self.axes.append(axis)
        self._number = {a: k for k, a in enumerate(self.axes)}
        below: dict[Value, frozenset[str]] = {}
        for value in order:
            self.names[value] = name = f"$v{len(self.names)}"
            self.lines.append(f"(let {name} {self._term(value)})")
            self.lines.append(f"(set (axes {name}) {self._set(value.axes)})")
            below[value] = frozenset(_base(a) for a in _bound(value)).union(
                *(below[o] for o in operands(value))
            )
            copies = [a for a in self.axes if _base(a) in below[value]]
            self.lines.append(f"(set (summed {name}) {self._set(copies)})")
        self.lines += [f"(extent {k} {float(a.size)!r})" for k, a in enumerate(self.axes)]
        self.lines += [f'(increasing "{fn}:{REAL}")' for fn in INCREASING]
        self.lines += [f'(bounds "{fn}:{REAL}")' for fn in BOUNDS]

    def _set(self, axes: Sequence[Axis] | frozenset[Axis]) -> str:
        numbers = sorted(self._number[a] for a in axes)
        return f"(set-of {' '.join(map(str, numbers))})" if numbers else "(set-empty)"

    def _term(self, value: Value) -> str:
        if isinstance(value, Map) and len(value.args) <= 3:
            args = [self.names[a] for a in value.args]
            if value.dtype == REAL and value.fn in ARITHMETIC:
                if value.fn == "sub":
                    args[1] = f"(Neg {args[1]})"
                return f"({ARITHMETIC[value.fn]} {' '.join(args)})"
            return f'({"Fn" + _digits(len(args))} "{value.fn}:{value.dtype}" {" ".join(args)})'
        if isinstance(value, Reduce) and value.dtype == REAL and value.arg.dtype == REAL:
            if value.kind in ("sum", "max"):
                of = {"sum": "Sum", "max": "Max"}[value.kind]
                return f"({of} {self._set(value.over)} {self.names[value.arg]})"
        if isinstance(value, Reduce | Scan):
            self.kinds.append(value)
            return f"(Red {len(self.kinds) - 1} {self.names[value.arg]})"
        if isinstance(value, Const) and value.dtype == REAL and _plain(value.value):
            return f"(Num {value.value!r})"
        self.leaves.append(value)
        return f"(Leaf {len(self.leaves) - 1})"

    # -- back ----------------------------------------------------------------------------------

    def value(self, op: str, payload: tuple[str, ...], args: Sequence[Value], to: Builder) -> Value:
        """The value of one node: `op` of `args`, with what stands in the term beside them."""
        if op == "Leaf":
            return self.leaves[int(payload[0])]
        if op == "Num":
            return to.const(float(payload[0]), REAL)
        if op in ("Sum", "Max"):
            over = [self.axes[int(k)] for k in payload]
            return to.reduce(op.lower(), over, args[0], REAL)
        if op == "Red":
            kind = self.kinds[int(payload[0])]
            if isinstance(kind, Scan):
                return to.keep(Scan(kind.kind, kind.along, args[0], kind.dtype, kind.reverse))
            return to.keep(Reduce(kind.kind, kind.over, args[0], kind.dtype))
        if op.startswith("Fn"):
            fn, dtype = payload[0].split(":")
            return to.cast(args[0], dtype) if fn == "cast" else to.map(fn, *args)
        return _arithmetic(op, args, to)

    def over(self, op: str, payload: tuple[str, ...]) -> frozenset[Axis]:
        """The axes that a node reduces or scans."""
        if op in ("Sum", "Max"):
            return frozenset(self.axes[int(k)] for k in payload)
        return _bound(self.kinds[int(payload[0])]) if op == "Red" else frozenset()


def _arithmetic(op: str, args: Sequence[Value], to: Builder) -> Value:
    if op != "Add":
        return to.map(op.lower(), *args)
    for a, b in (args, reversed(args)):
        if isinstance(b, Map) and b.fn == "neg" and b.dtype == REAL:
            return to.map("sub", a, b.args[0])
    return to.map("add", *args)


def _bound(value: Value) -> frozenset[Axis]:
    if isinstance(value, Reduce):
        return frozenset(value.over)
    return frozenset(value.along) if isinstance(value, Scan) else frozenset()


def _base(axis: Axis) -> str:
    """Copies of one axis share what stands before the underscore."""
    return axis.name.split("_")[0]


def _digits(count: int) -> str:
    return "" if count == 1 else str(count)


def _plain(number: float) -> bool:
    """Whether the number can be written as the language of terms wants it."""
    return math.isfinite(number) and "e" not in repr(float(number))
