"""jax.numpy expressions for values of the algebra, in a kernel whose blocks all have one rank."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from epitaxy.proposers._frames import Array
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
from epitaxy.proposers.grower.emit_expr import Unsupported

FLOATS = ("float32", "bfloat16")
STORED = {
    "float32": 4, "bfloat16": 2, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 4,
}  # fmt: skip
"""What blocks may hold, and its bytes: the vector unit has no 64-bit numbers and no float16, and
truths are words."""
PLAIN = {
    "exp": "jnp.exp", "exp2": "jnp.exp2", "log": "jnp.log", "sin": "jnp.sin", "cos": "jnp.cos",
    "sqrt": "jnp.sqrt", "rsqrt": "lax.rsqrt", "floor": "jnp.floor", "ceil": "jnp.ceil",
    "abs": "jnp.abs", "erf": "lax.erf", "sigmoid": "jax.nn.sigmoid", "tanh": "jnp.tanh",
    "sign": "jnp.sign", "isnan": "jnp.isnan", "isinf": "jnp.isinf", "round": "jnp.round",
}  # fmt: skip
HELPED = ("log1p", "expm1")
HELPERS = Path(__file__).parent / "helpers.py.txt"


class Expressions(Statements):
    """Writes statements for values; `where` gives each axis its dimension, `read` is how a block is
    taken, `at` what says where along an axis each place of the block is."""

    joint = "_"

    def __init__(
        self, arrays: Mapping[Load, Array], where: Mapping[Axis, int], read: str = "[...]",
        at: Mapping[Axis, str] | None = None,
    ) -> None:  # fmt: skip
        self.arrays, self.where, self.read, self.at = arrays, where, read, at or {}
        super().__init__()

    def constant(self, value: Const) -> str:
        """A constant as text of jax.numpy."""
        return literal(value, "jnp.nan", "jnp.inf")

    def expression(self, value: Value) -> str:
        """The right-hand side for a value. Raises Unsupported."""
        if isinstance(value, Load):
            return f"{self.arrays[value].name}_ref{self.read}"
        if isinstance(value, Map):
            return self._map(value)
        if isinstance(value, Reduce):
            return self._reduce(value)
        if isinstance(value, Index):
            return self._position(value)
        if isinstance(value, Scan):
            return self._scan(value)
        raise Unsupported(f"{value}")

    def _position(self, value: Index) -> str:
        """Of 32 bits: no axis is as long as 2**31."""
        index = Affine(value.index.offset, tuple(t for t in value.index.terms if t[0].size > 1))
        if not {a for a, c in index.terms if c} <= set(self.at):
            raise Unsupported("positions along an axis that is not the loops'")
        return placed(index, self.at, bracketed)

    def _scan(self, value: Scan) -> str:
        """Along a whole dimension of the block, of whole registers, one of the last two."""
        along = [a for a in value.along if a.size > 1]
        if value.kind != "sum" or value.dtype != "float32" or len(along) != 1:
            raise Unsupported(f"a running {value.kind} of {value.dtype}")
        if along[0] not in value.arg.axes:
            raise Unsupported("a running sum of what does not vary")
        self.helpers.add("running_sum")
        turned = ", reverse=True" if value.reverse else ""
        return f"_running_sum({self.use(value.arg)}, {self.where[along[0]]}{turned})"

    def _reduce(self, value: Reduce) -> str:
        if not set(value.over) <= value.arg.axes:
            raise Unsupported(f"a {value.kind} of what does not vary")
        dims = sorted(self.where[a] for a in value.over if a.size > 1)
        arg = self.use(value.arg)
        if value.kind not in ("sum", "max", "min"):
            raise Unsupported(f"a reduction by {value.kind}")
        if value.arg.dtype not in (*FLOATS, "int32"):
            raise Unsupported(f"a {value.kind} of {value.arg.dtype}")
        axis = str(dims[0]) if len(dims) == 1 else str(tuple(dims))
        return f"jnp.{value.kind}({arg}, axis={axis}, keepdims=True)" if dims else arg

    def _map(self, value: Map) -> str:
        fn, floats = value.fn, value.args[0].dtype in FLOATS
        args = [self.use(a) for a in value.args]
        sides = [bracketed(a) for a in args]
        if fn in INFIX and (floats or fn != "div") and value.args[0].dtype != "bool":
            return f"{sides[0]} {INFIX[fn]} {sides[1]}"
        if fn in COMPARE:
            return f"{sides[0]} {COMPARE[fn]} {sides[1]}"
        if fn == "neg":
            return f"-{sides[0]}"
        if fn in ("and", "or") and value.args[0].dtype == "bool":
            return f"{sides[0]} {'&' if fn == 'and' else '|'} {sides[1]}"
        if fn == "not" and value.args[0].dtype == "bool":
            return f"~{sides[0]}"
        if fn == "where":
            return f"jnp.where({', '.join(args)})"
        if fn in ("maximum", "minimum"):
            return f"jnp.{fn}({', '.join(args)})"
        if fn == "fma":
            return f"{sides[0]} * {sides[1]} + {sides[2]}"
        if fn == "cast":
            return self._cast(value, sides[0])
        if fn == "reciprocal" and floats:
            return f"1.0 / {sides[0]}"
        if fn == "pow" and isinstance(value.args[1], Const) and value.args[1].value in (2, 3, 4):
            return " * ".join([bracketed(self.named(value.args[0]))] * int(value.args[1].value))
        if floats and fn in PLAIN:
            return f"{PLAIN[fn]}({', '.join(args)})"
        if floats and fn in HELPED:
            self.helpers.add(fn)
            return f"_{fn}({', '.join(args)})"
        raise Unsupported(f"{fn} of {value.args[0].dtype}")

    @staticmethod
    def _cast(value: Map, side: str) -> str:
        old, new = value.args[0].dtype, value.dtype
        if old == new or {old, new} == {"int64", "int32"}:
            return side
        if new == "bool":
            return f"{side} != 0"
        if new not in STORED:
            raise Unsupported(f"{new} on a TPU")
        return f"{side}.astype(jnp.{new})"

    def stem(self, value: Value) -> str:
        """What the name of a value begins with."""
        if isinstance(value, Load):
            return self.arrays[value].name
        if isinstance(value, Map):
            return {"exp": "e", "rsqrt": "inverse", "where": "chosen"}.get(value.fn, "v")
        return {"sum": "total", "max": "most", "min": "least"}.get(getattr(value, "kind", ""), "v")


def needed_helpers(names: set[str]) -> str:
    """The text of the helper functions of these names, in the order of the file."""
    return chosen(HELPERS, names)


def bracketed(text: str) -> str:
    """`text` so that it may stand beside an operator."""
    if re.fullmatch(r"[\w.]+", text) or re.fullmatch(r"[\w.]+\([^()]*\)", text):
        return text
    return f"({text})"
