"""One loop nest of C++: rows (lanes run along the inner axes) or columns (each lane is a row).

A kernel works in passes over its inner axes. Pass p computes every reduction whose operand needs
only results of earlier passes; stores happen as soon as their value can be had.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from epitaxy.proposers.grower.algebra import (
    TRANSCENDENTAL,
    Axis,
    Index,
    Load,
    Map,
    Reduce,
    Scan,
    Value,
    operands,
)
from epitaxy.proposers.grower.emit_expr import (
    SCALAR,
    VECTOR,
    Expressions,
    Scope,
    Unsupported,
    indent,
    kind,
)
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule import Kernel, Target

STASH_LIMIT_BYTES = 1 << 20
SUM_BLOCK, SUM_STEPS = 4096, 128
"""Elements of a row that are added up by themselves, and how many such sums in a row."""
FEW_PIECES = 128
"""Pieces of a loop that threads take as they get free: enough to end together."""
COSTLY = TRANSCENDENTAL | {"div", "sqrt", "rsqrt", "reciprocal"}


class Passes:
    """Which pass computes what: `ready[v]` is the first pass in which v can be had."""

    def __init__(self, kernel: Kernel) -> None:
        self.values = kernel.values
        self.inner = frozenset(kernel.inner)
        self.ready: dict[Value, int] = {}
        for v in self.values:
            below = max((self.ready[o] for o in operands(v)), default=0)
            self.ready[v] = below + 1 if isinstance(v, Reduce) else below
        reduces = [v for v in self.values if isinstance(v, Reduce)]
        self.reduces: dict[int, list[Reduce]] = {}
        for r in reduces:
            self.reduces.setdefault(self.ready[r] - 1, []).append(r)
        self.stores: dict[int, list[Target]] = {}
        self.row_stores: list[Target] = []
        elementwise = not reduces and not any(isinstance(v, Scan) for v in self.values)
        for t in kernel.targets:
            if elementwise or set(t.axes) & self.inner:
                self.stores.setdefault(self.ready[t.value], []).append(t)
            else:
                self.row_stores.append(t)
        self.count = 1 + max([*self.reduces, *self.stores], default=-1)

    def needed(self, number: int, held: Collection[Value] = ()) -> list[Value]:
        """Values that vary along the inner axes and are evaluated in pass `number`, in order, when
        `held` can be read instead of computed."""
        roots = [r.arg for r in self.reduces.get(number, [])]
        roots += [t.value for t in self.stores.get(number, [])]
        seen: dict[Value, None] = {}
        stack: list[Value] = list(roots)
        while stack:
            v = stack.pop()
            if v in seen or isinstance(v, Reduce) or not v.axes & self.inner:
                continue
            seen[v] = None
            if v not in held:
                stack.extend(operands(v))
        return [v for v in self.values if v in seen]

    def stashed(self) -> dict[Value, int]:
        """Costly values worth keeping between passes, with the pass that computes them first."""
        found: dict[Value, int] = {}
        for p in range(self.count):
            later = {v for q in range(p + 1, self.count) for v in self.needed(q, found)}
            shared = [v for v in self.needed(p, found) if v in later and v not in found]
            for v in shared:
                users = [u for u in shared if v in operands(u)]
                if not users and kind(v.dtype) == "f" and self._cost(v, found) > 0:
                    found[v] = p
        return found

    def costly(self, number: int) -> int:
        """How many dear functions pass `number` evaluates for each element."""
        return sum(isinstance(v, Map) and v.fn in COSTLY for v in self.needed(number))

    def _cost(self, value: Value, held: Collection[Value]) -> int:
        """How dear it is to compute `value` again from `held` and memory (0: as cheap as a load)."""
        cost = loads = 0
        seen, stack = set[Value](), [value]
        while stack:
            v = stack.pop()
            if v in seen or isinstance(v, Reduce) or not v.axes & self.inner:
                continue
            seen.add(v)
            if isinstance(v, Load) or v in held:
                loads += 1
            elif isinstance(v, Scan) or (isinstance(v, Map) and v.fn in COSTLY):
                cost += 4
            elif isinstance(v, Map):
                cost += 1
            stack += () if v in held else operands(v)
        return cost if cost >= 4 else max(0, loads - 1)


SMALL_WINDOW = 32
"""Points of a window that is walked inside the loop over lanes, not around it."""
IDLE = 0.01
"""What an access counts in the choice of lanes where some stand idle, and costs where each reads a
line of its own: a bias in order does not pay for a matrix read across its rows."""

ACROSS = 0.3
"""What a short axis counts that is reduced: each of its results takes a sum across the lanes."""


def _worth(step: int) -> float:
    """What a load counts whose lanes are `step` elements apart."""
    return 1.0 if step == 1 else 0.3 if step == 2 else -IDLE


WRITTEN_TURNED = 0.9
"""What a result counts of which squares are turned in registers before they are written."""


def turns_out(kernel: Kernel, target: Target, lane: Axis, choices: Choices) -> bool:
    """Whether lanes that are rows of their own, each with a result all along its row, write it turned:
    the results lie one row after the other, what they are made of one column after the other."""
    if len(kernel.inner) != 1 or target.dtype != "float32":
        return False
    (along,) = kernel.inner
    lies = target.index.coefficient(along) == 1 and target.index.coefficient(lane) > 1
    enough = min(along.size, lane.size) >= choices.width and along.size > SMALL_WINDOW
    sums = any(isinstance(v, Reduce) for v in kernel.values)
    scans = any(isinstance(v, Scan) for v in kernel.values)
    return lies and enough and sums and not scans


def lane_axis(kernel: Kernel, choices: Choices) -> Axis | None:
    """The axis to vectorise: the one along which most data is contiguous."""
    values = kernel.values
    score: dict[Axis, float] = {}
    ordered = [a for v in values for a in _ordered_axes(v)]
    for a in (*kernel.outer, *kernel.inner):
        if a in kernel.inner and a in ordered and a != kernel.inner[-1]:
            continue  # a scan or a position must run in its own order
        weight = 0.0
        for v in values:
            if isinstance(v, Load) and (step := abs(v.index.coefficient(a))):
                weight += math.prod(x.size for x in v.axes) * _worth(step)
        for t in kernel.targets:
            if a in t.axes:  # loads are turned more easily than stores
                turned = a in kernel.outer and turns_out(kernel, t, a, choices)
                weight += t.numel * (
                    1.001 if t.index.coefficient(a) == 1 else WRITTEN_TURNED * turned - IDLE
                )
        short = a.size < choices.width  # lanes would stand idle
        full = IDLE * a.size / choices.width if short else 1.0
        full *= ACROSS if short and a in kernel.inner else 1.0
        score[a] = max(0.0, weight) * full + a.size * 1e-9
    ranked = sorted(score, key=lambda a: -score[a])
    if not ranked:
        return None
    second = choices.lane and len(ranked) > 1 and score[ranked[1]] >= 1
    return ranked[1] if second else ranked[0]


def _ordered_axes(value: Value) -> tuple[Axis, ...]:
    if isinstance(value, Scan):
        return value.along
    if isinstance(value, Reduce) and value.kind in ("argmax", "argmin"):
        return value.over
    return ()


class KernelWriter(Expressions):
    """What row and column kernels share: task loop, reductions' bookkeeping, stores."""

    def __init__(
        self,
        kernel: Kernel,
        choices: Choices,
        buffers: dict[int, tuple[str, str]],
        lane: Axis | None,
    ) -> None:
        axes = (*kernel.outer, *kernel.inner)
        names = {a: f"{a.name}_" for a in axes}
        super().__init__(buffers, lane, names)
        self.kernel, self.choices = kernel, choices
        self.passes = Passes(kernel)
        self.inner = frozenset(kernel.inner)
        self.N = choices.width
        self.results: dict[Value, str] = {}
        self.prefetch = choices.prefetch * choices.width
        self.streams = False
        for v in self.passes.values:
            kind(v.dtype)

    def stash_plan(self) -> dict[Value, tuple[int, str]]:
        """Stashed values: first pass and buffer name."""
        length = math.prod(a.size for a in self.kernel.inner) * 4 * self.stash_rows()
        if not self.choices.stash or length > STASH_LIMIT_BYTES:
            return {}
        return {v: (p, f"kept{i}") for i, (v, p) in enumerate(self.passes.stashed().items())}

    def stash_rows(self) -> int:
        """Rows that one thread keeps at a time."""
        return 1

    def put(self, target: Target, value: str, vector: bool) -> str:
        """The statement that stores `value`."""
        pointer = f"{target.buffer} + {self.address(target.index)}"
        if not vector:
            return f"epx::store({pointer}, {value});"
        assert self.lane is not None
        step = target.index.coefficient(self.lane)
        if step != 1:
            return f"epx::put_strided({self.tail}, {pointer}, {value}, {step}, n);"
        past = "_stream" if self.leaves(target) else ""
        return f"epx::put{past}({self.tail}, {pointer}, {value}, n);"

    def leaves(self, target: Target) -> bool:
        """Whether results go past the caches, which is noted: they need a fence."""
        past = self.choices.stream and target.dtype == "float32" and target.buffer.startswith("y")
        self.streams |= bool(past)
        return bool(past)

    def flat_position(self, reduce: Reduce) -> str:
        """The flat position over the reduced axes at the current loop variables (lane 0)."""
        terms, stride = [], 1
        for axis in reversed(reduce.over):
            terms.append(f"{self.names[axis]} * {stride}" if stride > 1 else self.names[axis])
            stride *= axis.size
        if stride > 2**31 - 1:
            raise Unsupported("positions beyond 32 bits")
        return " + ".join(reversed(terms))

    def task_loop(
        self, tasks: list[tuple[str, int]], body: list[str], scratch: list[str]
    ) -> list[str]:
        """Run `body` for every combination of the task variables, in parallel if it pays."""
        total = math.prod(n for _, n in tasks)
        decode, stride = [], total
        for name, size in tasks:
            stride //= size
            if size > 1:
                text = "t" if stride == 1 else f"t / {stride}"
                decode.append(
                    f"const int64_t {name} = {text}{f' % {size}' if stride * size < total else ''};"
                )
            else:
                decode.append(f"const int64_t {name} = 0;")
        loop = [f"for (int64_t t = 0; t < {total}; ++t) {{", *indent(decode + body), "}"]
        fence = ["epx::fence();"] if self.streams else []
        if total < 2 or self.kernel.numel < 8192 or self.choices.threads == 1:
            return ["{", *indent([*scratch, *loop, *fence]), "}"]
        piece = max(1, total // FEW_PIECES)  # to take one costs as much as a small task
        share = f"schedule(dynamic, {piece})" if self.choices.dynamic else "schedule(static)"
        threads = f" num_threads({self.choices.threads})" if self.choices.threads else ""
        return [
            f"#pragma omp parallel{threads}", "{",
            *indent([*scratch, f"#pragma omp for {share} nowait", *loop, *fence]), "}",
        ]  # fmt: skip


def initial(reduce: Reduce, vector: bool = True) -> str:
    """The neutral element of a reduction."""
    of = kind(reduce.arg.dtype)
    table = {"sum": "0", "prod": "1", "any": "0", "all": "-1"}
    if reduce.kind in table:
        number = table[reduce.kind]
    elif of == "f":
        number = "-INFINITY" if reduce.kind in ("max", "argmax") else "INFINITY"
    else:
        number = "INT32_MIN" if reduce.kind in ("max", "argmax") else "INT32_MAX"
    return f"epx::splat<{VECTOR[of]}>({number})" if vector else f"{SCALAR[of]}({number})"


def combine(kind_: str, of: str, a: str, b: str) -> str:
    """The C++ for one step of a reduction on vectors."""
    if kind_ == "sum":
        return f"{a} + {b}"
    if kind_ == "prod":
        return f"{a} * {b}"
    if kind_ == "any":
        return f"{a} | {b}"
    if kind_ == "all":
        return f"{a} & {b}"
    fn = "maximum" if kind_ == "max" else "minimum"
    return f"epx::{fn}({b}, {a})" if of == "f" else f"epx::int_{fn}({a}, {b})"


def reduce_operand(reduce: Reduce, name: str) -> tuple[str, str]:
    """The operand and its register kind: a sum of masks counts ones, any/all take masks."""
    of = kind(reduce.arg.dtype)
    if of == "b" and reduce.kind in ("sum", "prod", "max", "min"):
        return f"-({name})", "i"
    if of != "b" and reduce.kind in ("any", "all"):
        return f"({name} != 0)", "b"
    return name, of


def depends_on_lane_only(value: Value) -> bool:
    """Whether `value` is a bare index (cheap to make anywhere)."""
    return isinstance(value, Index)


def axis_loops(
    axes: list[Axis], names: dict[Axis, str], body: list[str], back: bool = False
) -> list[str]:
    """Nested plain loops around `body`, descending when `back`."""
    for axis in reversed(axes):
        v = names[axis]
        head = (
            f"for (int64_t {v} = {axis.size - 1}; {v} >= 0; --{v}) {{"
            if back
            else f"for (int64_t {v} = 0; {v} < {axis.size}; ++{v}) {{"
        )
        body = [head, *indent(body), "}"]
    return body


def scope_for(axes: set[Axis] | frozenset[Axis]) -> Scope:
    """A fresh scope that sees `axes`."""
    return Scope(frozenset(axes))
