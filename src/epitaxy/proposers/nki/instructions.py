"""NKI instructions for values of the algebra, each on one tile.

A value is a number, a tile with one element per partition, or a tile with every free axis. Vector
and scalar engines compute in float32; what is stored is rounded by the instruction that writes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from epitaxy.proposers._frames import Array
from epitaxy.proposers.grower.algebra import Axis, Const, Load, Map, Reduce, Scan, Value
from epitaxy.proposers.grower.emit_expr import Unsupported

STORED = {"float32": 4, "bfloat16": 2, "float16": 2, "int32": 4, "int8": 1, "uint8": 1}
ALU = {
    "add": "nl.add", "sub": "nl.subtract", "mul": "nl.multiply", "div": "nl.divide",
    "maximum": "nl.maximum", "minimum": "nl.minimum",
}  # fmt: skip
SWAPS = ("add", "mul", "maximum", "minimum")
ACTIVATIONS = {
    "exp": "nl.exp", "log": "nl.log", "rsqrt": "nl.rsqrt", "sqrt": "nl.sqrt", "tanh": "nl.tanh",
    "sigmoid": "nl.sigmoid", "erf": "nl.erf", "abs": "nl.abs", "sin": "nl.sin",
}  # fmt: skip
FOLDS = {"sum": "nl.add", "max": "nl.maximum", "min": "nl.minimum"}
FLOATS = ("float32", "bfloat16", "float16")


class Instructions:
    """Writes the body of the loops; `rows` and `columns` are the slices of the tile at hand."""

    def __init__(self, arrays: Mapping[Load, Array], tiles: Any, rows: str, columns: str) -> None:
        self.arrays, self.tiles = arrays, tiles
        self.rows, self.columns = rows, columns
        self.lines: list[str] = []
        self.memo: dict[Value, str] = {}
        self.dtypes: dict[str, str] = {}
        self.peak_bytes = 0
        self.held: dict[str, int] = {}
        """Bytes of a partition that each tile takes."""
        self.prefix = ""
        """What the names of tiles begin with."""
        self._count: Counter[str] = Counter()

    # -- shapes --------------------------------------------------------------------------------

    def axes(self, value: Value) -> tuple[Axis, ...]:
        """The free axes that a value varies along: all of the tile's or none."""
        return tuple(a for a in self.tiles.free if a in value.axes)

    def shape(self, free: tuple[Axis, ...]) -> str:
        """The shape of a tile with these free axes, the others being 1."""
        sizes = [self.tiles.extent(a) if a in free else 1 for a in self.tiles.free] or [1]
        return str((self.tiles.pieces[0], *sizes))

    def tile(self, stem: str, free: tuple[Axis, ...], dtype: str) -> str:
        """Declare a tile in SBUF; its name."""
        self._count[stem] += 1
        number = self._count[stem]
        name = self.prefix + (stem if number == 1 else f"{stem}_{number}")
        kept = dtype if dtype in STORED else "float32"
        self.lines.append(f"{name} = nl.ndarray({self.shape(free)}, dtype=nl.{kept}, "
                          "buffer=nl.sbuf)")  # fmt: skip
        self.dtypes[name] = kept
        self.held[name] = math.prod(self.tiles.extent(a) for a in free) * STORED[kept]
        self.peak_bytes += self.held[name]
        return name

    # -- values --------------------------------------------------------------------------------

    def use(self, value: Value) -> str:
        """The tile that holds `value`, computed once."""
        if value not in self.memo:
            self.memo[value] = self._made(value)
        return self.memo[value]

    def _made(self, value: Value) -> str:
        if isinstance(value, Load):
            return self._load(value)
        if isinstance(value, Reduce):
            return self._reduce(value)
        if isinstance(value, Map):
            return self._map(value)
        if isinstance(value, Scan):
            return self._scan(value)
        raise Unsupported(f"{type(value).__name__.lower()} values")

    def place(self, array: Array) -> str:
        """The part of a buffer in HBM that belongs to the tile at hand."""
        frame = self.tiles.frame.axes
        sizes = tuple(a.size for a in array.memory) or (1,)
        at = f"{array.name}.reshape({sizes})"
        if array.permutation:
            at += f".permute({array.permutation})"
        if array.shape != tuple(a.size for a in frame if a in array.memory):
            at += f".reshape({array.shape})" if not array.permutation else ""
        if array.permutation and len(array.memory) != len(frame):
            raise Unsupported("a smaller tensor in another order")
        index, order = [], []
        for axis in frame:
            here = axis in array.memory
            if axis in self.tiles.loops:
                index.append(axis.name if here else "0")
                continue
            order.append(axis)
            if axis == self.tiles.across:
                index.append(self.rows if here else "0:1")
            else:
                index.append(self.columns if here and axis == self.tiles.last else ":")
        at += f"[{', '.join(index)}]"
        wanted = [self.tiles.across, *self.tiles.free]
        if order != wanted:
            at += f".permute({tuple(order.index(a) for a in wanted)})"
        if self.tiles.across not in array.memory:
            at += f".broadcast(0, {self.tiles.lanes})"
        if not self.tiles.free:
            at += f".reshape(({self.tiles.lanes}, 1))"
        return at

    def copy(self, dst: str, src: str) -> list[str]:
        """Statements of a DMA between a tile and a place in HBM."""
        return [f"nisa.dma_copy(dst={dst}, src={src})"]

    def _load(self, load: Load) -> str:
        array = self.arrays[load]
        made = self.tile(array.name + "_tile", self.axes(load), array.dtype)
        self.lines += self.copy(made, self.place(array))
        return made

    def store(self, value: Value, array: Array) -> None:
        """Write a result's tile to HBM."""
        free = tuple(a for a in self.tiles.free if a in array.memory)
        made = self.constant(value, free) if isinstance(value, Const) else self.use(value)
        if self.axes(value) != free:
            made = self.spread(made, value, free)
        if self.dtypes.get(made, array.dtype) != array.dtype:
            cast = self.tile(f"{array.name}_tile", free, array.dtype)
            self.lines.append(f"nisa.tensor_copy(dst={cast}, src={made})")
            made = cast
        self.lines += self.copy(self.place(array), made)

    def constant(self, value: Const, free: tuple[Axis, ...]) -> str:
        """A tile that holds a number."""
        made = self.tile("filled", free, value.dtype)
        self.lines.append(f"nisa.memset(dst={made}, value={number(value)})")
        return made

    def spread(self, text: str, value: Value, free: tuple[Axis, ...]) -> str:
        """A view of a tile with its missing free axes repeated."""
        has = self.axes(value)
        for d, axis in enumerate(self.tiles.free):
            if axis in free and axis not in has:
                text += f".broadcast({d + 1}, {self.tiles.extent(axis)})"
        return text

    def _reduce(self, value: Reduce) -> str:
        if value.kind not in FOLDS or value.arg.dtype not in FLOATS:
            raise Unsupported(f"a reduction by {value.kind} of {value.arg.dtype}")
        free, over = self.axes(value.arg), [a for a in value.over if a.size > 1]
        if not set(over) <= set(free):
            raise Unsupported(f"a {value.kind} of what does not vary")
        arg, result = self.use(value.arg), self.axes(value)
        order = [a for a in self.tiles.free if a not in over]
        order += [a for a in self.tiles.free if a in over]
        made = self.tile({"sum": "total", "max": "most", "min": "least"}[value.kind], result,
                         "float32")  # fmt: skip
        view, into = arg, made
        if order != self.tiles.free:
            moved = (0, *(1 + self.tiles.free.index(a) for a in order))
            view, into = f"{arg}.permute({moved})", f"{made}.permute({moved})"
        last = len(self.tiles.free)
        axes = tuple(range(last - len(over) + 1, last + 1))
        self.lines.append(
            f"nisa.tensor_reduce(dst={into}, op={FOLDS[value.kind]}, data={view}, "
            f"axis={axes}, keepdims=True)"
        )
        return made

    def _scan(self, value: Scan) -> str:
        """A running sum along the one free axis: pieces by the vector engine's own instruction,
        each from 0, then what came before is added: errors do not pile up along the row."""
        along = [a for a in value.along if a.size > 1]
        if value.kind != "sum" or value.dtype != "float32" or value.reverse:
            turned = " from the end" if value.reverse else ""
            raise Unsupported(f"a running {value.kind} of {value.dtype}{turned}")
        if along != list(self.tiles.free) or not set(along) <= value.arg.axes:
            raise Unsupported("a running sum beside other free axes")
        size, arg = self.tiles.extent(along[0]), self.use(value.arg)
        piece = _piece(size)
        made = self.tile("running", tuple(along), "float32")
        self.lines += [
            f"ones = nl.ndarray({(self.tiles.pieces[0], piece)}, dtype=nl.float32, buffer=nl.sbuf)",
            "nisa.memset(dst=ones, value=1.0)",
            f"for part in nl.sequential_range({size // piece}):",
            f"    at = part * {piece}",
            f"    nisa.tensor_tensor_scan(dst={made}[:, at : at + {piece}], data0=ones, "
            f"data1={arg}[:, at : at + {piece}], initial=0.0, op0=nl.multiply, op1=nl.add)",
            f"for part in nl.sequential_range({size // piece - 1}):",
            f"    at = part * {piece} + {piece}",
            f"    nisa.tensor_scalar(dst={made}[:, at : at + {piece}], "
            f"data={made}[:, at : at + {piece}], op0=nl.add, operand0={made}[:, at - 1 : at])",
        ]
        self.peak_bytes += piece * STORED["float32"]
        return made

    def _map(self, value: Map) -> str:
        fn, free = value.fn, self.axes(value)
        if fn == "cast":
            return self._cast(value, free)
        if value.args[0].dtype not in FLOATS:
            raise Unsupported(f"{fn} of {value.args[0].dtype}")
        if fn in ALU:
            return self._pair(fn, value.args[0], value.args[1], value)
        if fn == "neg":
            return self._scalar("mul", self.use(value.args[0]), -1.0, value)
        if fn == "fma":
            product = Map("mul", value.args[:2], value.dtype)
            return self._pair("add", product, value.args[2], value)
        if fn == "pow" and isinstance(value.args[1], Const) and value.args[1].value == 2:
            return self._pair("mul", value.args[0], value.args[0], value)
        if fn == "pow" and isinstance(value.args[1], Const) and value.args[1].value == 3:
            square = Map("mul", (value.args[0], value.args[0]), value.dtype)
            return self._pair("mul", square, value.args[0], value)
        arg = self.use(value.args[0])
        if fn == "reciprocal":
            made = self.tile("inverse", free, value.dtype)
            self.lines.append(f"nisa.reciprocal(dst={made}, data={arg})")
            return made
        if fn in ACTIVATIONS:
            made = self.tile({"exp": "e", "rsqrt": "inverse"}.get(fn, "v"), free, value.dtype)
            self.lines.append(f"nisa.activation(dst={made}, op={ACTIVATIONS[fn]}, data={arg})")
            return made
        raise Unsupported(f"{fn} on a NeuronCore")

    def _cast(self, value: Map, free: tuple[Axis, ...]) -> str:
        arg = self.use(value.args[0])
        if value.dtype == value.args[0].dtype:
            return arg
        if value.dtype not in STORED or value.args[0].dtype not in STORED:
            raise Unsupported(f"{value.args[0].dtype} to {value.dtype} on a NeuronCore")
        made = self.tile("v", free, value.dtype)
        self.lines.append(f"nisa.tensor_copy(dst={made}, src={arg})")
        return made

    def _scalar(self, fn: str, data: str, operand: Any, value: Value, swapped: bool = False) -> str:
        made = self.tile("v", self.axes(value), value.dtype)
        turned = ", reverse0=True" if swapped else ""
        given = f"data={data}, op0={ALU[fn]}, operand0={operand}{turned}"
        self.lines.append(f"nisa.tensor_scalar(dst={made}, {given})")
        return made

    def _pair(self, fn: str, left: Value, right: Value, value: Value) -> str:
        swapped = isinstance(left, Const)
        if swapped and isinstance(right, Const):
            raise Unsupported("two numbers")
        if swapped or isinstance(right, Const):
            varies, fixed = (right, left) if swapped else (left, right)
            text = number(fixed)  # type: ignore[arg-type]
            return self._scalar(fn, self.use(varies), text, value, swapped and fn not in SWAPS)
        free = self.axes(value)
        one, other = self.use(left), self.use(right)
        per_row = [not self.axes(x) for x in (left, right)]
        if any(per_row) and free and not all(per_row):
            data, scalar, turned = (other, one, True) if per_row[0] else (one, other, False)
            narrow = scalar
            if len(self.tiles.free) > 1:
                narrow += f".reshape(({self.tiles.pieces[0]}, 1))"
            return self._scalar(fn, data, narrow, value, turned and fn not in SWAPS)
        made = self.tile("v", free, value.dtype)
        sides = [self.spread(t, x, free) for t, x in ((one, left), (other, right))]
        self.lines.append(
            f"nisa.tensor_tensor(dst={made}, data1={sides[0]}, data2={sides[1]}, op={ALU[fn]})"
        )
        return made


def _piece(size: int) -> int:
    """The divisor of `size` that is nearest to its root from above."""
    return next(n for n in range(math.isqrt(size - 1) + 1, size + 1) if size % n == 0)


def number(value: Const) -> str:
    """A constant as Python text."""
    made = float(value.value)
    if not math.isfinite(made):
        return f'float("{made!r}")'
    return repr(made)
