"""C++ expressions for values of the algebra: one statement per value, at the outermost scope."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

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
    operands,
)

FLOATS = ("float32", "bfloat16", "float16")
INTS = ("int64", "int32", "int16", "int8", "uint8")
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
STORAGE = {
    "float32": "float", "bfloat16": "epx::bf16", "float16": "epx::f16", "int64": "int64_t",
    "int32": "int32_t", "int16": "int16_t", "int8": "int8_t", "uint8": "uint8_t", "bool": "bool",
}  # fmt: skip


class Unsupported(Exception):
    """The generator cannot express this; the region stays with the framework."""


def kind(dtype: str) -> str:
    """ "f", "i" or "b": how values of `dtype` are held in registers."""
    if dtype in FLOATS:
        return "f"
    if dtype in INTS:
        return "i"
    if dtype == "bool":
        return "b"
    raise Unsupported(f"{dtype} arithmetic")


VECTOR = {"f": "V", "i": "VI", "b": "VI"}
SCALAR = {"f": "float", "i": "int64_t", "b": "bool"}


@dataclass
class Scope:
    """A block of code being written: the axes whose loop variables it sees, and its values."""

    axes: frozenset[Axis]
    lines: list[str] = field(default_factory=list)
    memo: dict[Value, str] = field(default_factory=dict)


class Expressions:
    """Writes the statements that compute values, each in the outermost scope that can.

    `lane` is the vectorised axis (None: everything is scalar). Vector statements go to the
    innermost scope; in a column kernel, vectors that don't vary along the inner axes become
    arrays over the chunks of a tile, written before the inner loops.
    """

    def __init__(
        self, buffers: dict[int, tuple[str, str]], lane: Axis | None, names: dict[Axis, str]
    ) -> None:
        self.buffers = buffers
        self.lane = lane
        self.names = names
        self.scopes: list[Scope] = []
        self.arrays: Scope | None = None
        """The scope of per-tile arrays in a column kernel."""
        self.inner: frozenset[Axis] = frozenset()
        self.tail = "tail"
        self.lanes = "n"
        self.prefetch = 0
        self.count = 0

    def fresh(self, stem: str = "v") -> str:
        """A new name."""
        self.count += 1
        return f"{stem}{self.count}"

    def is_vector(self, value: Value) -> bool:
        """Whether `value` varies along the lane axis."""
        return self.lane is not None and self.lane in value.axes

    def find(self, value: Value) -> str | None:
        """The name under which `value` is already available."""
        for scope in reversed(self.scopes):
            if value in scope.memo:
                return scope.memo[value]
        return None

    def use(self, value: Value) -> str:
        """The C++ name of `value`, emitting its statement if it has none yet."""
        found = self.find(value)
        if found is not None:
            return found
        if isinstance(value, Const):
            return self._constant(value)
        if isinstance(value, Reduce | Scan):
            return self.node(value)
        if self.is_vector(value):
            if self.arrays is not None and not (value.axes & self.inner):
                return self._array(value)
            scope = self.scopes[-1]
            name = self.fresh()
            text = self.expression(value, vector=True)
            scope.lines.append(f"const {VECTOR[kind(value.dtype)]} {name} = {text};")
        else:
            scope = next(s for s in self.scopes if value.axes <= s.axes)
            name = self.fresh("s")
            saved, self.scopes = self.scopes, self.scopes[: self.scopes.index(scope) + 1]
            text = self.expression(value, vector=False)
            self.scopes = saved
            scope.lines.append(f"const {SCALAR[kind(value.dtype)]} {name} = {text};")
        scope.memo[value] = name
        return name

    def node(self, value: Reduce | Scan) -> str:
        """Overridden by kernels: reductions and scans are written by them."""
        raise AssertionError(f"{value.kind} used before it is computed")

    def vector(self, value: Value) -> str:
        """`value` as a vector, splatting a scalar."""
        name = self.use(value)
        if self.is_vector(value):
            return name
        of = kind(value.dtype)
        return (
            f"epx::splat<V>({name})"
            if of == "f"
            else f"epx::splat_int<VI>({name})"
            if of == "i"
            else f"epx::splat_mask<VI>({name})"
        )

    def _array(self, value: Value) -> str:
        arrays, saved = self.arrays, self.scopes
        assert arrays is not None
        self.scopes = saved[: saved.index(arrays) + 1]
        for operand in operands(value):
            self.use(operand)
        name = self.fresh("a")
        text = self.expression(value, vector=True)
        self.scopes = saved
        arrays.lines.append(f"{VECTOR[kind(value.dtype)]} {name}[TC];")
        arrays.lines += column_loop([f"{name}[c] = {text};"])
        arrays.memo[value] = f"{name}[c]"
        return f"{name}[c]"

    def _constant(self, value: Const) -> str:
        if kind(value.dtype) == "f":
            return float_literal(value.value)
        if kind(value.dtype) == "b":
            return "true" if value.value else "false"
        return f"int64_t({int(value.value)})"

    def expression(self, value: Value, vector: bool) -> str:
        """The right-hand side for `value` (a Load, Index or Map)."""
        if isinstance(value, Load):
            return self._load(value, vector)
        if isinstance(value, Index):
            base = self.address(value.index)
            if not vector:
                return f"int64_t({base})"
            step = value.index.coefficient(self.lane)  # type: ignore[arg-type]
            return f"epx::iota<VI>() * {step} + int32_t({base})"
        if isinstance(value, Map):
            return self._map(value, vector)
        raise AssertionError(value)

    def address(self, index: Affine) -> str:
        """An affine index as C++, at the current loop variables (lane 0 of the vector)."""
        parts = [self.names[a] if c == 1 else f"{self.names[a]} * {c}" for a, c in index.terms if c]
        if index.offset or not parts:
            parts.append(str(index.offset))
        return " + ".join(parts)

    def _guard(self, guards: tuple[Guard, ...]) -> str:
        return " && ".join(f"epx::within({self.address(g.index)}, {g.size})" for g in guards)

    def _load(self, load: Load, vector: bool) -> str:
        name, _ = self.buffers[load.buffer]
        pointer = f"{name} + {self.address(load.index)}"
        of = kind(load.dtype)
        if not vector:
            indirect = "".join(f" + {self.use(v)} * {s}" for v, s in load.indirect)
            text = f"epx::load<{SCALAR[of]}>({pointer}{indirect})"
            guard = self._guard(load.guards)
            return f"{guard} ? {text} : {SCALAR[of]}({literal(load.fill, of)})" if guard else text
        lane = self.lane
        assert lane is not None
        step = load.index.coefficient(lane)
        across = [g for g in load.guards if g.index.coefficient(lane)]
        fixed = self._guard(tuple(g for g in load.guards if not g.index.coefficient(lane)))
        fill = f"{SCALAR[of]}({literal(load.fill, of)})"
        T = VECTOR[of]
        if load.indirect and not any(self.is_vector(v) for v, _ in load.indirect):
            pointer += "".join(f" + {self.use(v)} * {s}" for v, s in load.indirect)
            load = dataclasses.replace(load, indirect=())
        if step == 1 and self.prefetch and not load.indirect and self.scopes[-1] is not self.arrays:
            self.scopes[-1].lines.append(f"epx::prefetch({pointer} + {self.distance(load)});")
        if load.indirect:
            if across:
                raise Unsupported("a gather guarded along the vector")
            offset = " + ".join(
                f"{self.vector(v)} * {s}" if self.is_vector(v) else f"int32_t({self.use(v)} * {s})"
                for v, s in load.indirect
            )
            whole = f"epx::iota<VI>() * {step} + {offset}" if step else offset
            text = f"epx::pick<{T}>({self.tail}, {pointer}, {whole}, {self.lanes})"
        elif across:
            if len(across) > 1:
                raise Unsupported("two guards along the vector")
            g = across[0]
            text = (
                f"epx::get_guarded<{T}>({self.tail}, {pointer}, {step}, {self.address(g.index)}, "
                f"{g.index.coefficient(lane)}, {g.size}, {fill}, {self.lanes})"
            )
        elif step == 1:
            text = f"epx::get<{T}>({self.tail}, {pointer}, {self.lanes})"
        else:
            text = f"epx::get_strided<{T}>({self.tail}, {pointer}, {step}, {self.lanes})"
        if of == "b":  # stored as 0 or 1, held as a mask
            text = f"({text} != 0)"
        splat = f"epx::splat<V>({fill})" if of == "f" else f"epx::splat_int<VI>(-{fill})"
        return f"({fixed}) ? {text} : {splat}" if fixed else text

    def distance(self, load: Load) -> int:
        """How many elements beyond the one in use to fetch early."""
        return self.prefetch

    def _map(self, value: Map, vector: bool) -> str:
        args = [self.vector(a) if vector else self.use(a) for a in value.args]
        kinds = [kind(a.dtype) for a in value.args]
        fn = value.fn
        if fn in INFIX and kinds[0] != "b":
            if fn == "div" and kinds[0] == "i":
                raise Unsupported("integer division")
            return f"{args[0]} {INFIX[fn]} {args[1]}"
        if fn in COMPARE:
            return f"{args[0]} {COMPARE[fn]} {args[1]}"
        if fn == "neg":
            return f"-{args[0]}"
        if fn in ("and", "or") and kinds[0] == "b":
            return f"{args[0]} {'&' if fn == 'and' else '|'} {args[1]}"
        if fn == "not":
            return f"~{args[0]}" if vector else f"!{args[0]}"
        if fn == "odd":
            return f"({args[0]} & 1) != 0"
        if fn == "where":
            if vector and kinds[1] == "b":
                return f"({args[0]} & {args[1]}) | (~{args[0]} & {args[2]})"
            return (
                f"epx::select({', '.join(args)})"
                if vector
                else f"{args[0]} ? {args[1]} : {args[2]}"
            )
        if fn == "cast":
            return self._cast(kinds[0], kind(value.dtype), args[0], vector)
        if fn == "exp" and _never_positive(value.args[0]):
            fn = "exp_fast"
        if kinds[0] == "f":
            return f"epx::{fn}({', '.join(args)})"
        if kinds[0] == "i" and fn in ("maximum", "minimum", "abs"):
            return f"epx::int_{fn}({', '.join(args)})"
        raise Unsupported(f"{fn} of {value.args[0].dtype}")

    @staticmethod
    def _cast(old: str, new: str, arg: str, vector: bool) -> str:
        if old == new:
            return arg
        if not vector:
            return f"{arg} != 0" if new == "b" else f"{SCALAR[new]}({arg})"
        if new == "b":
            return f"{arg} != 0"
        if old == "b":
            return (
                f"epx::select({arg}, epx::splat<V>(1.0f), epx::splat<V>(0.0f))"
                if new == "f"
                else f"-({arg})"
            )
        return f"epx::to_float<V>({arg})" if new == "f" else f"epx::to_int<VI>({arg})"


def _never_positive(value: Value) -> bool:
    """Whether `value` is x - max(x): the exponential of it cannot overflow."""
    if not (isinstance(value, Map) and value.fn == "sub"):
        return False
    x, most = value.args
    if isinstance(most, Map):
        return most.fn.startswith("segment_max") and most.args == (x,)
    return isinstance(most, Reduce) and most.kind == "max" and most.arg == x


def column_loop(body: list[str]) -> list[str]:
    """A loop over the chunks of a tile."""
    return [
        "EPX_UNROLL for (int c = 0; c < chunks; ++c) {",
        *indent(["const int64_t j = j0 + c * N;", "const int n = lanes(c);", *body]),
        "}",
    ]


def indent(lines: list[str]) -> list[str]:
    """Two spaces deeper."""
    return [f"  {line}" if line else line for line in lines]


def float_literal(value: float) -> str:
    """A float constant in C++."""
    if value != value:
        return "NAN"
    if value in (float("inf"), float("-inf")):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = repr(float(value))
    return f"{text}f"


def literal(value: float, of: str) -> str:
    """A constant of kind "f", "i" or "b"."""
    return float_literal(value) if of == "f" else str(int(value))
