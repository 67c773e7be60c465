"""Triton expressions for values of the algebra, on a tile of rows and columns.

In a kernel every axis has a text: a scalar from the program's number, or a tile of positions along
the rows ("m") or the columns ("n"). A value's shape follows from the axes that it depends on, and
Triton broadcasts. What is used once and short is written where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epitaxy.proposers._texts import COMPARE, INFIX, Statements, chosen, literal, placed
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
)
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel, Target

FLOATS = ("float32", "float16", "bfloat16", "float64")
PLAIN = {
    "exp": "tl.exp", "exp2": "tl.exp2", "log": "tl.log", "log2": "tl.log2", "sin": "tl.sin",
    "cos": "tl.cos", "sqrt": "tl.sqrt", "rsqrt": "tl.rsqrt", "floor": "tl.floor",
    "ceil": "tl.ceil", "abs": "tl.abs", "erf": "tl.erf", "sigmoid": "tl.sigmoid", "fma": "tl.fma",
}  # fmt: skip
HELPED = ("tanh", "log1p", "expm1", "sign", "isinf")
HELPERS = Path(__file__).parent / "helpers.py.txt"
LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Written:
    """One kernel's text, its launch, and the helper functions that it calls."""

    name: str
    text: str
    arguments: tuple[str, ...]
    constants: tuple[tuple[str, int], ...]
    programs: int
    options: tuple[tuple[str, int], ...]
    helpers: frozenset[str]


class Expressions(Statements):
    """Writes statements for values; `rows` and `columns` say whether tiles have that direction.

    `masks` maps "m" and "n" to the text that is true inside the tensors; a missing one is true
    everywhere.
    """

    def __init__(self, buffers: Mapping[int, tuple[str, str, int]]) -> None:
        super().__init__()
        self.buffers = buffers
        """Buffer number -> name, dtype, elements."""
        self.positions: dict[Axis, str] = {}
        self.direction: dict[Axis, str] = {}
        self.masks: dict[str, str] = {}

    # -- names ---------------------------------------------------------------------------------

    def shape(self, value: Value) -> str:
        """ "", "m", "n" or "mn": along which directions `value` varies."""
        found = {self.direction.get(a, "") for a in value.axes}
        return "".join(d for d in "mn" if d in found)

    def constant(self, value: Const) -> str:
        """A constant as Triton text."""
        return literal(value, 'float("nan")', 'float("inf")')

    def stem(self, value: Value) -> str:
        """What the name of a value begins with."""
        return _stem(value, self.buffers)

    # -- expressions ---------------------------------------------------------------------------

    def expression(self, value: Value) -> str:
        """The right-hand side for a Load, Index or Map."""
        if isinstance(value, Load):
            return self._load(value)
        if isinstance(value, Index):
            return self.address(value.index)
        if isinstance(value, Map):
            return self._map(value)
        if isinstance(value, Reduce | Scan):
            return self.node(value)
        raise Unsupported(f"{value}")

    def node(self, value: Reduce | Scan) -> str:
        """Overridden by kernels that fold."""
        raise Unsupported(f"a {value.kind} inside another kernel")

    def address(self, index: Affine) -> str:
        """An affine index at the current positions."""
        return placed(index, self.positions, _bracketed)

    def decode(self, axes: list[Axis], flat: str, below: int, direction: str) -> None:
        """Positions along `axes`, which `flat` // `below` counts together."""
        stride = below * size_of(axes)
        total = stride
        for axis in axes:
            stride //= axis.size
            text = flat if " " not in flat else f"({flat})"
            made = text if stride == 1 else f"{text} // {stride}"
            made = f"{made} % {axis.size}" if stride * axis.size < total else made
            self.direction[axis] = direction
            if made.isidentifier():
                self.positions[axis] = made
            else:
                self.positions[axis] = axis.name
                self.lines.append(f"{axis.name} = {made}")

    def put(self, target: Target) -> None:
        """Store `target` wherever the tile lies inside."""
        value = self.use(target.value)
        across = {self.direction.get(a, "") for a in target.axes}
        shape = "".join(d for d in "mn" if d in across)
        tests = self.mask(shape)
        mask = f", mask={' & '.join(tests)}" if tests else ""
        at = self.address(target.index)
        pointer = target.buffer if at == "0" else f"{target.buffer} + {at}"
        self.lines.append(f"tl.store({pointer}, {value}{mask})")

    def used(self, kernel: Kernel) -> tuple[str, ...]:
        """Names of the buffers that the lines read or write, in order."""
        body = "\n".join(self.lines)
        names = [n for n, _, _ in self.buffers.values()]
        written = [t.buffer for t in kernel.targets]
        return tuple(
            n for n in dict.fromkeys([*names, *written]) if f"({n}" in body or n in written
        )

    def mask(self, shape: str) -> list[str]:
        """What must be true for a tile of that shape to lie inside."""
        return [self.masks[d] for d in shape if d in self.masks]

    def _load(self, load: Load) -> str:
        name, dtype, numel = self.buffers[load.buffer]
        offset = self.address(load.index)
        tests = self.mask(self.shape(load))
        if load.indirect:
            far = [f"{_bracketed(self.use(v))} * {s}" for v, s in load.indirect]
            at = self.fresh("at")
            self.lines.append(f"{at} = {' + '.join([*far, offset] if offset != '0' else far)}")
            offset = at
            tests += [f"({at} >= 0)", f"({at} < {numel})"]
        for guard in load.guards:
            where = _bracketed(self.address(guard.index))
            tests += [f"({where} >= 0)", f"({where} < {guard.size})"]
        pointer = name if offset == "0" else f"{name} + {offset}"
        if tests:
            filled = self.constant(Const(load.fill, load.dtype if dtype != "bool" else "int64"))
            made = f"tl.load({pointer}, mask={' & '.join(tests)}, other={filled})"
        else:
            made = f"tl.load({pointer})"
        return f"({made} != 0)" if dtype == "bool" else made

    def _map(self, value: Map) -> str:
        fn = value.fn
        args = [self.use(a) for a in value.args]
        kinds = [
            "f" if a.dtype in FLOATS else "b" if a.dtype == "bool" else "i" for a in value.args
        ]
        if fn in INFIX and kinds[0] != "b":
            if fn == "div" and kinds[0] == "i":
                raise Unsupported("integer division")
            return f"{_bracketed(args[0])} {INFIX[fn]} {_bracketed(args[1])}"
        if fn in COMPARE:
            return f"{_bracketed(args[0])} {COMPARE[fn]} {_bracketed(args[1])}"
        if fn == "neg":
            return f"-{_bracketed(args[0])}"
        if fn in ("and", "or") and kinds[0] == "b":
            return f"{_bracketed(args[0])} {'&' if fn == 'and' else '|'} {_bracketed(args[1])}"
        if fn == "not":
            return f"{_bracketed(args[0])} == 0"
        if fn == "where":
            return f"tl.where({', '.join(args)})"
        if fn == "cast":
            return self._cast(value, args[0], kinds[0])
        if fn in ("maximum", "minimum"):
            nan = ", propagate_nan=tl.PropagateNan.ALL" if kinds[0] == "f" else ""
            return f"tl.{fn}({args[0]}, {args[1]}{nan})"
        if fn == "reciprocal" and kinds[0] == "f":
            return f"1.0 / {_bracketed(args[0])}"
        if fn == "isnan":
            again = _bracketed(self.named(value.args[0]))
            return f"{again} != {again}"
        if fn == "pow":
            return self._power(value)
        if kinds[0] == "f" and fn in PLAIN:
            return f"{PLAIN[fn]}({', '.join(args)})"
        if kinds[0] == "f" and fn in HELPED:
            self.helpers.add(fn)
            return f"_{fn}({', '.join(args)})"
        raise Unsupported(f"{fn} of {value.args[0].dtype}")

    def _power(self, value: Map) -> str:
        exponent = value.args[1]
        if isinstance(exponent, Const) and exponent.value in (2, 3, 4):
            x = self.named(value.args[0])
            return " * ".join([x] * int(exponent.value))
        raise Unsupported("pow with an exponent that is not 2, 3 or 4")

    @staticmethod
    def _cast(value: Map, arg: str, kind: str) -> str:
        old, new = value.args[0].dtype, value.dtype
        if old == new:
            return arg
        if new == "bool":
            return f"{_bracketed(arg)} != 0"
        if {old, new} == {"int64", "int32"} and kind == "i":
            return arg  # Triton widens where it must
        return f"{_bracketed(arg)}.to(tl.{new})"


def needed_helpers(names: set[str]) -> str:
    """The text of the helper functions of these names, in the order of the file."""
    return chosen(HELPERS, names, "@triton.jit")


def indent(lines: Sequence[str]) -> list[str]:
    """Four spaces deeper."""
    return [f"    {line}" if line else line for line in lines]


def _bracketed(text: str) -> str:
    """`text` so that it may stand beside an operator."""
    if re.fullmatch(r"-?[\w.]+", text) or (text.endswith(")") and _one_call(text)):
        return text
    return f"({text})"


def _one_call(text: str) -> bool:
    """Whether `text` is a single call or bracketed expression."""
    start = re.match(r"[\w.]*\(", text)
    if not start:
        return False
    depth = 0
    for position, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and position >= start.end() - 1:
            return position == len(text) - 1
    return False


def _stem(value: Value, buffers: Mapping[int, tuple[str, str, int]]) -> str:
    if isinstance(value, Load):
        return f"{buffers[value.buffer][0]}_"
    if isinstance(value, Map):
        return {"exp": "e", "rsqrt": "inverse", "where": "chosen"}.get(value.fn, "v")
    if isinstance(value, Reduce):
        return {"sum": "total", "max": "most", "min": "least", "argmax": "where_most",
                "argmin": "where_least", "prod": "product"}.get(value.kind, "folded")  # fmt: skip
    return "running" if isinstance(value, Scan) else "at"


def power(size: int) -> int:
    """The least power of two that is not below `size`."""
    return 1 << max(0, size - 1).bit_length()
