"""Contractions as C++: the sizes and strides that pack.h and gemm.h work from, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epitaxy.proposers.grower.algebra import (
    TRANSCENDENTAL,
    Affine,
    Axis,
    Const,
    Index,
    Map,
    Value,
    walk,
)
from epitaxy.proposers.grower.contract import (
    BYTES,
    FLOATS,
    INTEGERS,
    Contraction,
    load_of,
    multiplied,
    reaches,
    size_of,
    step,
)
from epitaxy.proposers.grower.emit_expr import Scope, indent
from epitaxy.proposers.grower.emit_keep import Keeper
from epitaxy.proposers.grower.emit_kernel import KernelWriter
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.image import LINE
from epitaxy.proposers.grower.rewrite import rebuild
from epitaxy.proposers.grower.schedule import Kernel

Group = tuple[str, Sequence[Axis]]


class Copy(NamedTuple):
    """One of the copies that pack.h makes: its bit in KEPT, who reads the operand, who makes it."""

    bit: int
    reader: str
    make: str


PAST = 2
"""Of `pack_b`: the copy that all threads share is written past the caches."""
ASKED = 512
"""Steps of a sum from which on the lines of its results are asked for before it is done: 0.97 to 1.00
of the time with 768 to 1024 steps, 1.02 with 128 and 256 (four threads, Zen 5)."""
COPIES = {"pa": Copy(1, "a", "pack_left"), "pb": Copy(2, "b", "pack_right")}


class GemmWriter(KernelWriter):
    """Sizes and strides as constants, operands as functions, the element-wise work as `finish`."""

    def __init__(
        self,
        kernel: Kernel,
        choices: Choices,
        buffers: dict[int, tuple[str, str]],
        contraction: Contraction,
    ) -> None:
        super().__init__(kernel, choices, buffers, contraction.columns[-1])
        self.what = self._computed(contraction)
        self.keeper = Keeper()

    @staticmethod
    def _computed(contraction: Contraction) -> Contraction:
        """The contraction as its sums are computed."""
        return contraction

    def write(self) -> list[str]:
        """The block of C++."""
        body = [
            *self._common(),
            "using G = epx::Gemm<Shape>;",
            *self._copy("pa", "G::a_floats"),
            *self._copy("pb", "G::b_floats"),
            "const epx::Scratch<float> parts(G::part_floats);",
            *self._live(),
        ]
        more = ""
        if self._asked():
            body += function("place", "t, i, j", self._place())
            more = ", place"
        call = f"epx::contract<Shape>(a, b, pa, pb, parts.data, live, finish{more});"
        return ["{", *indent(body + self._run(call)), "}"]

    def _common(self) -> list[str]:
        """Sizes, operands and what becomes of a sum."""
        return [
            *self._head(),
            self._reader("b", self.what.right),
            *function("finish", "tail, t, i, j, sum, n", self._finish()),
        ]

    def _head(self) -> list[str]:
        """Sizes and the left operand."""
        return [self._sizes(), self._reader("a", self.what.left)]

    def _sizes(self) -> str:
        sizes = ", ".join(f"{name} = {value}" for name, value in self._shape().items())
        return f"struct Shape {{ enum : int64_t {{ {sizes} }}; }};"

    def _reader(self, name: str, value: Value) -> str:
        return f"const auto {name} = [=](int64_t t) {{ {self._operand(value)} }};"

    def _copy(self, name: str, floats: str) -> list[str]:
        """Memory for the copy `pa` or `pb`: its own in this call, or one that is kept."""
        which = COPIES[name]
        if not self._kept() & which.bit:
            return [
                f"const epx::Scratch<float> {name}_({floats});",
                f"float* const {name} = {name}_.data;",
            ]
        operand = self.what.left if name == "pa" else self.what.right
        before = [self._sizes(), "using G = epx::Gemm<Shape>;", self._reader(which.reader, operand)]
        make = f"epx::{which.make}<Shape>({{}}, {which.reader})"
        return self.keeper.keep(name, load_of(operand).buffer, floats, before, make)

    def _kept(self) -> int:
        """KEPT of pack.h: which copies are made of weights and outlive the call."""
        return sum(
            which.bit
            for which, packed, operand in zip(
                COPIES.values(), self._packed_ones(), (self.what.left, self.what.right), strict=True
            )
            if packed and load_of(operand).buffer in self.keeper.weights
        )

    def _packed_ones(self) -> tuple[bool, bool]:
        """Whether each operand is copied before use."""
        chosen, copied = self.choices, self._converted()
        _, across = self._right()
        return bool(chosen.pack_a or copied[0]), bool(chosen.pack_b or across != 1 or copied[1])

    def _run(self, *calls: str) -> list[str]:
        """The calls by one thread or by a team."""
        if self.kernel.numel < 8192 or self.choices.threads == 1:
            return [*calls, *self._fence()]
        threads = f" num_threads({self.choices.threads})" if self.choices.threads else ""
        return [f"#pragma omp parallel{threads}", "{", *indent([*calls, *self._fence()]), "}"]

    def _fence(self) -> list[str]:
        return ["epx::fence();"] if self.streams else []

    def _shape(self) -> dict[str, int]:
        """Sizes, strides and decisions, by the names that pack.h gives them."""
        what, chosen = self.what, self.choices
        m, n, k = size_of(what.rows), self._columns(), size_of(what.inner)
        a = load_of(what.left).index
        ai, ak = step(a, what.rows) or 0, step(a, what.inner) or 0
        bk, bj = self._right()
        high, wide = min(chosen.tile_m, m), min(chosen.tile_n, -(-n // self.N))
        kc = even(k, chosen.kc, 8)
        depths = -(-k // kc)
        pack_a, pack_b = self._packed_ones()
        return {
            "N": self.N, "MR": high, "NV": wide, "BATCH": size_of(what.batch),
            "M": m, "J": n, "K": k,
            "MC": even(m, chosen.mc, high), "JC": even(n, chosen.nc, wide * self.N), "KC": kc,
            "PARTS": max(1, min(chosen.split_k, depths)),
            "AI": ai, "AK": ak, "BK": bk, "BJ": bj, "DOT": multiplied(what),
            "PACK_A": int(pack_a), "PACK_B": int(pack_b), "KEPT": self._kept(),
            "PAST": int(chosen.pack_b == PAST),
            "AHEAD": chosen.prefetch // 8, "STEPS": chosen.unroll, "DYNAMIC": chosen.dynamic,
            "ACROSS": chosen.across, "NEXT": chosen.ahead, "APART": int(self._long_finish()),
        }  # fmt: skip

    def _long_finish(self) -> bool:
        """Whether what is done with the sums takes many instructions."""
        (target,), zero = self.kernel.targets, Const(0.0, self.what.total.dtype)
        after = rebuild(target.value, lambda v: zero if v == self.what.total else None, {})
        return any(isinstance(v, Map) and v.fn in TRANSCENDENTAL for v in walk((after,)))

    def _converted(self) -> tuple[bool, bool]:
        """Whether each operand is not made of floats to be multiplied as they are."""
        what = self.what
        pairs = multiplied(what) != FLOATS
        left, right = (
            load.dtype != "float32" for load in (load_of(what.left), load_of(what.right))
        )
        return pairs or left, pairs or right

    def _columns(self) -> int:
        """Columns of the result."""
        return size_of(self.what.columns)

    def _right(self) -> tuple[int, int]:
        """Strides of the right operand along the contracted axes and along the columns."""
        b = load_of(self.what.right).index
        return step(b, self.what.inner) or 0, step(b, self.what.columns) or 0

    def _operand(self, value: Value) -> str:
        """The first element of batch t."""
        load = load_of(value)
        name, _ = self.buffers[load.buffer]
        parts = [name, *([str(load.index.offset)] if load.index.offset else [])]
        for axis, text in decoded("t", self.what.batch):
            if stride := load.index.coefficient(axis):
                parts.append(f"{text} * {stride}")
        return f"(void)t; return {' + '.join(parts)};"

    def _live(self) -> list[str]:
        """The function that tells tiles whose sums are masked away from those that are used."""
        (target,) = self.kernel.targets
        test = used_where(target.value, self.what)
        names = "int64_t, int64_t, int64_t, int64_t"
        if test is None:
            return [f"const auto live = []({names}) {{ return true; }};"]
        index, least, bound = test
        parts = [str(index.offset)]
        for axis, c in index.terms:
            name = "i" if axis in self.what.rows else "j"
            end = f"{name}0" if (c > 0) == least else f"({name}1 - 1)"
            parts.append(f"{end} * {c}")
        extreme = " + ".join(parts)
        names = "int64_t i0, int64_t i1, int64_t j0, int64_t j1"
        return [
            f"const auto live = []({names}) {{",
            "  (void)i0, (void)i1, (void)j0, (void)j1;",
            f"  return {extreme} {'<' if least else '>='} {bound};",
            "};",
        ]

    def _groups(self) -> tuple[Group, ...]:
        """The variables that count the places of the result, and the axes that each counts."""
        return ("t", self.what.batch), ("i", self.what.rows), ("j", self.what.columns)

    def _places(self, *groups: Group) -> list[str]:
        """Declarations of every axis' position, from that of its group."""
        lines = []
        for variable, axes in groups:
            for axis, text in decoded(variable, axes):
                if text == variable:
                    self.names[axis] = variable
                else:
                    lines.append(f"const int64_t {self.names[axis]} = {text};")
        return lines

    def _place(self) -> list[str]:
        """Where the result at the variables of `_groups` lies."""
        (target,) = self.kernel.targets
        places = self._places(*self._groups())
        return [*places, f"return {target.buffer} + {self.address(target.index)};"]

    def _asked(self) -> bool:
        """Whether a tile's results are asked for before they are written: lines of floats that go
        through the caches, and sums that last longer than it takes to get them."""
        (target,) = self.kernel.targets
        whole = target.index.coefficient(self.what.columns[-1]) == 1 and self.N >= LINE
        long = size_of(self.what.inner) >= ASKED and not self.choices.ahead
        past = self.choices.stream or self.choices.split_k > 1
        return whole and long and target.dtype == "float32" and not past

    def _finish(self) -> list[str]:
        """What happens to one vector of sums."""
        (target,) = self.kernel.targets
        places = self._places(*self._groups())
        total = "sum"
        if multiplied(self.what) in (INTEGERS, BYTES) and self.what.total.dtype == "float32":
            total = "total"
            places.append("const V total = epx::to_float<V>(sum);  // exact in integers")
        memo: dict[Value, str] = {self.what.total: total}
        scope = Scope(frozenset(self.kernel.outer), places, memo)
        self.scopes, self.prefetch = [scope], 0
        scope.lines.append(self.put(target, self.vector(target.value), vector=True))
        return scope.lines


TYPES = {"tail": "auto", "sum": "auto", "n": "int", "to": "float*"}
"""Of the parameters of functions; the others are positions."""


def function(name: str, parameters: str, body: Sequence[str]) -> list[str]:
    """A function of the kernel, by the names of its parameters."""
    names = parameters.split(", ")
    typed = ", ".join(f"{TYPES.get(n, 'int64_t')} {n}" for n in names)
    unused = ", ".join(f"(void){n}" for n in names if n not in ("tail", "sum"))
    return [
        f"const auto {name} = [=]({typed}) EPX_BODY {{",
        *indent([f"{unused};", *body]),
        "};",
    ]


def used_where(value: Value, what: Contraction) -> tuple[Affine, bool, int] | None:
    """(index, least, bound) when the sums only matter where index < bound (`least`) or where
    index >= bound: a result masked to a triangle or a band. None when they matter everywhere."""
    if not isinstance(value, Map) or value.fn != "where":
        return None
    condition, yes, no = value.args
    if not isinstance(condition, Map) or condition.fn not in ("lt", "ge"):
        return None
    index, bound = condition.args
    kept, other = (yes, no) if reaches(yes, what.total) else (no, yes)
    if reaches(other, what.total) or reaches(condition, what.total):
        return None
    if not isinstance(index, Index) or not isinstance(bound, Const):
        return None
    groups = (what.rows, what.columns)
    if any(len(g) > 1 for g in groups) or not index.axes <= {a for g in groups for a in g}:
        return None
    return index.index, (condition.fn == "lt") == (kept is yes), int(bound.value)


def decoded(variable: str, axes: Sequence[Axis]) -> list[tuple[Axis, str]]:
    """Each axis with its position, taken out of their common one."""
    found, stride = [], size_of(axes)
    for k, axis in enumerate(axes):
        stride //= axis.size
        text = variable if stride == 1 else f"{variable} / {stride}"
        found.append((axis, text if k == 0 else f"{text} % {axis.size}"))
    return found


def pieces(size: int, wanted: int, unit: int) -> int:
    """How many pieces `size` is cut into when each shall be near `wanted`."""
    return -(-size // even(size, wanted, unit))


def even(size: int, wanted: int, unit: int) -> int:
    """The length of equal pieces of `size` near `wanted`, as a multiple of `unit`."""
    count = max(1, round(size / max(wanted, unit)))
    piece = -(-size // count)
    return -(-piece // unit) * unit
