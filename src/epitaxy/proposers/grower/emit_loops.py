"""Kernels that work row by row, with lanes along the row; what they share with columns."""

from __future__ import annotations

import math
from collections.abc import Iterable

from epitaxy.proposers.grower.algebra import Axis, Load, Reduce, Scan, Value
from epitaxy.proposers.grower.emit_expr import (
    SCALAR,
    VECTOR,
    Scope,
    Unsupported,
    indent,
    kind,
)
from epitaxy.proposers.grower.emit_kernel import (
    SUM_BLOCK,
    SUM_STEPS,
    KernelWriter,
    axis_loops,
    combine,
    initial,
    reduce_operand,
)

SCAN_FN = {"sum": "scan_add", "prod": "scan_mul", "max": "scan_max", "min": "scan_min"}
HORIZONTAL = {
    "sum": "hsum",
    "prod": "hprod",
    "max": "hmax",
    "min": "hmin",
    "any": "any",
    "all": "all",
}


SHARED, FEWEST = 1 << 15, 16
"""Elements of a kernel that threads share at all, and the least number of pieces that they get."""
FETCHED = 1024
"""Floats that are fetched early of rows that data chooses."""


def gathered(values: Iterable[Value], lane: Axis | None) -> list[Load]:
    """Loads of rows along `lane` of which data says where they begin."""
    loads = [v for v in values if isinstance(v, Load) and v.indirect and not v.guards]
    return [
        v
        for v in loads
        if lane is not None and v.index.coefficient(lane) == 1
        if not any(lane in of.axes for of, _ in v.indirect)
    ]


def every(name: str, steps: int) -> str:
    """The condition that holds once in `steps` turns of a loop, rounded down to a power of two."""
    turns = 1 << steps.bit_length() - 1
    return f"if ({name} % {turns} == {turns - 1}) " if turns > 1 else ""


class Loops(KernelWriter):
    """Passes over the inner axes, with the stash between them."""

    stash_at = "0"
    scanned = False
    sums: list[str]

    def begin(self) -> None:
        """Start on the passes: nothing is written yet."""
        self.stash = self.stash_plan()
        self.current = 0
        self.before: list[str] = []
        self.after: list[str] = []
        self.back = False

    def nested(
        self, loops: list[str], inner: list[Axis], scopes: list[Scope], added: int = 1
    ) -> list[str]:
        """Loops over `inner` around `loops`, each with its own scope's lines. `added`: terms that
        sums in blocks have after `loops`."""
        for axis, scope in zip(reversed(inner), reversed(scopes[1:-1]), strict=True):
            if added <= SUM_STEPS < added * axis.size:
                loops = [*loops, *self._settled(self.names[axis], SUM_STEPS // added)]
            added *= axis.size
            loops = axis_loops([axis], self.names, [*scope.lines, *loops], self.back)
        return loops

    def _settled(self, name: str, steps: int) -> list[str]:
        """What ends a loop's body so that sums in blocks stay short; declares what it needs."""
        raise NotImplementedError

    def use(self, value: Value) -> str:
        """The C++ name of `value`: stashed values are computed by their first pass only."""
        kept = self.stash.get(value)
        if kept and self.find(value) is None and self.lane in value.axes:
            first, buffer = kept
            body = self.scopes[-1]
            if first < self.current:
                name = self.fresh("k")
                body.lines.append(
                    f"const V {name} = epx::get<V>({self.tail}, {buffer} + {self.stash_at}, n);"
                )
                body.memo[value] = name
                return name
            name = super().use(value)
            body.lines.append(f"epx::put({self.tail}, {buffer} + {self.stash_at}, {name}, n);")
            return name
        return super().use(value)

    def flat_inner(self) -> str:
        """Position within the row, over the kernel's inner axes."""
        terms, stride = [], 1
        for axis in reversed(self.kernel.inner):
            terms.append(f"{self.names[axis]} * {stride}" if stride > 1 else self.names[axis])
            stride *= axis.size
        return " + ".join(reversed(terms)) or "0"

    def body(self, number: int, scopes: list[Scope]) -> Scope:
        """The innermost block of pass `number`."""
        self.current, self.scopes = number, scopes
        body = scopes[-1]
        for reduce in self.passes.reduces.get(number, []):
            self.reduce(reduce)
        for target in self.passes.stores.get(number, []):
            vector = self.lane is not None
            value = self.vector(target.value) if vector else self.use(target.value)
            body.lines.append(self.put(target, value, vector))
        if self.choices.ahead and number == self.fetching():
            body.lines += self.next_row()
        return body

    def fetching(self) -> int:
        """The pass beside which the next row is fetched: after the first one, where arithmetic
        leaves memory idle the longest; the last one where none does. A kernel of one pass fetches
        what data chooses: the hardware foresees the rest."""
        last = self.passes.count - 1
        if last == 0 and gathered(self.passes.values, self.lane):
            return 0
        return max(range(1, last + 1), key=lambda p: (self.passes.costly(p), p), default=-1)

    def next_row(self) -> list[str]:
        """Prefetches of what the first pass of the next task reads."""
        return []

    def reduce(self, reduce: Reduce) -> None:
        """Declare the accumulators of `reduce`, update them in the body, and name the result."""
        raise NotImplementedError

    def scratch(self) -> list[str]:
        """Per-thread buffers for stashed values."""
        size = math.prod(a.size for a in self.kernel.inner) * self.stash_rows()
        lines = []
        for _, buffer in self.stash.values():
            lines += [
                f"epx::Scratch<float> {buffer}_({size});",
                f"float* const {buffer} = {buffer}_.data;",
            ]
        return lines

    def direction(self, scan: Scan) -> None:
        """A pass runs one way: note which."""
        if self.back != scan.reverse and self.scanned:
            raise Unsupported("scans in both directions at once")
        self.back, self.scanned = scan.reverse, True


class RowWriter(Loops):
    """Each task is a row; vectors run along its last axis."""

    def write(self) -> list[str]:
        """The block of C++."""
        self.begin()
        lane = self.lane
        inner = [a for a in self.kernel.inner if a != lane]
        outer = (
            [a for a in (*self.kernel.outer, *inner) if a != lane]
            if self._flat()
            else list(self.kernel.outer)
        )
        if self._flat():
            inner = []
        if lane is not None:
            self.names[lane] = "i"
        row = Scope(frozenset(outer))
        tasks = [(self.names[a], a.size) for a in outer]
        self.stash_at = self.flat_inner()
        low, high = "0", str(lane.size) if lane else "1"
        grain = self._grain(math.prod(n for _, n in tasks))
        if self._flat() and lane is not None and lane.size > grain:
            pieces = -(-lane.size // grain)
            tasks.append(("piece", pieces))
            row.lines.append(f"const int64_t low = piece * {grain};")
            row.lines.append(f"const int64_t high = epx::least(low + {grain}, {lane.size});")
            low, high = "low", "high"
        for number in range(self.passes.count):
            self._pass(number, row, inner, (low, high))
        self.scopes = [row]
        for target in self.passes.row_stores:
            row.lines.append(self.put(target, self.use(target.value), vector=False))
        return self.task_loop(tasks, row.lines, self.scratch())

    def next_row(self) -> list[str]:
        """One prefetch for each cache line of the next row, while memory would stand idle."""
        steps = [a for a in self.kernel.outer if a.size > 1]
        loads = [v for v in self.passes.needed(0) if isinstance(v, Load) and not v.indirect]
        each = max(1, 16 // self.N)
        return [
            f"if (u % {each} == 0) epx::prefetch({self.buffers[v.buffer][0]} + "
            f"{self.address(v.index)} + {v.index.coefficient(steps[-1])});"
            for v in loads
            if steps and not v.guards and self.lane in v.axes
            if v.index.coefficient(self.lane) == 1 and v.index.coefficient(steps[-1])
        ] + self._chosen_rows(each)

    def _chosen_rows(self, each: int) -> list[str]:
        """Prefetches of rows that data chooses, some rows on: where they are is read once a row."""
        loads = gathered(self.passes.values, self.lane)
        steps = [a for a in self.kernel.outer if a.size > 1 and a != self.lane]
        if not loads or not steps:
            return []
        assert self.lane is not None
        step, scopes, row = steps[-1], self.scopes, self.scopes[0]
        name, later = self.names[step], self.fresh("later")
        rows = max(1, FETCHED // self.lane.size)
        row.lines.append(f"const int64_t {later} = epx::least({name} + {rows}, {step.size - 1});")
        self.names[step], self.scopes = later, [Scope(row.axes, row.lines)]
        lines = []
        for load in loads:
            parts = [self.buffers[load.buffer][0], self.address(load.index)]
            parts += [f"{self.use(v)} * {stride}" for v, stride in load.indirect]
            lines.append(f"if (u % {each} == 0) epx::prefetch({' + '.join(parts)});")
        self.names[step], self.scopes = name, scopes
        return lines

    def distance(self, load: Load) -> int:
        """Forward; where a pass runs from a row's end, backward, or, from rows that are shorter than
        that twice, as far into the next row."""
        if not self.back or self.lane is None:
            return self.prefetch
        steps = [load.index.coefficient(a) for a in self.kernel.outer if a.size > 1]
        near = self.lane.size <= 2 * self.prefetch
        return steps[-1] if steps and near else -self.prefetch

    def _grain(self, tasks: int) -> int:
        """Elements of a piece: fewer where a kernel is so small beside its region's largest, which
        the decision is for, that threads would have nothing to do."""
        if self.kernel.numel < SHARED or tasks >= FEWEST:
            return self.choices.grain
        return min(self.choices.grain, max(2048, self.kernel.numel // FEWEST // 1024 * 1024))

    def _flat(self) -> bool:
        """Whether the kernel is element-wise: then its axes are all parallel."""
        return not self.passes.reduces and not any(isinstance(v, Scan) for v in self.passes.values)

    def _pass(self, number: int, row: Scope, inner: list[Axis], limits: tuple[str, str]) -> None:
        self.before, self.after, self.sums, self.back, self.scanned = [], [], [], False, False
        seen, scopes = set(row.axes), [row]
        for axis in inner:
            seen.add(axis)
            scopes.append(Scope(frozenset(seen)))
        if self.lane is None:
            self.body(number, [row])
            return
        scopes.append(Scope(frozenset(seen | {self.lane})))
        body = self.body(number, scopes)
        name, U = f"pass{number}", self.choices.unroll
        sweep = self._sweep(name, U, limits)
        loops = [f"auto {name} = [&](auto tail, int64_t i, int u, int n) EPX_BODY {{", "  (void)u, (void)n;",
                 *indent(body.lines), "};", *sweep]  # fmt: skip
        loops = self.nested(loops, inner, scopes, self._blocks)
        row.lines += [*self.before, *loops, *self.after]

    @property
    def _block(self) -> int:
        """Elements of a row whose sums are added up by themselves."""
        return min(SUM_BLOCK, SUM_STEPS * self.N * self.choices.unroll)

    @property
    def _blocks(self) -> int:
        """How often a row's sums in blocks are added to the whole ones."""
        assert self.lane is not None
        return -(-self.lane.size // self._block)

    def _settled(self, name: str, steps: int) -> list[str]:
        """At the end of a loop's body: every so many `steps`, sums are added to compensated ones.
        Of equal values, which err the same way at every addition, no more than that."""
        self.before += [f"V {r}_all = epx::splat<V>(0), {r}_low = {r}_all;" for r in self.sums]
        self.after = [f"{r}_sum = {r}_all + {r}_sum;" for r in self.sums] + self.after
        return [f"{every(name, steps)}epx::settle({r}_all, {r}_sum, {r}_low);" for r in self.sums]

    def _sweep(self, name: str, unroll: int, limits: tuple[str, str]) -> list[str]:
        low, high = limits
        call = f"epx::sweep{'_back' if self.back else ''}<{self.N}, {unroll}>"
        assert self.lane is not None
        flush = [f"{r}_sum = {r}_sum + epx::flush({r}_acc);" for r in self.sums]
        if self.sums and self._blocks > 1:
            if self._blocks > SUM_STEPS:
                flush += self._settled("b", 1)
            return [
                f"for (int64_t b = {low}; b < {high}; b += {self._block}) {{",
                f"  {call}(b, epx::least(b + {self._block}, {high}), {name});",
                *indent(flush), "}",
            ]  # fmt: skip
        return [f"{call}({low}, {high}, {name});", *flush]

    def reduce(self, reduce: Reduce) -> None:
        """Accumulate in U vectors, then across lanes into one scalar."""
        row, body, U = self.scopes[0], self.scopes[-1], self.choices.unroll
        r = self.fresh("r")
        if reduce.kind in ("argmax", "argmin"):
            self._position(reduce, r, body)
            row.memo[reduce] = r
            return
        operand, of = reduce_operand(reduce, self.vector(reduce.arg))
        T = VECTOR[of]
        self.before.append(f"{T} {r}_acc[{U}]; epx::fill({r}_acc, {self._start(reduce, of)});")
        acc = f"{r}_acc[u]"
        total = f"epx::join({r}_acc, []({T} a, {T} b) {{ return {T}({combine(reduce.kind, of, 'a', 'b')}); }})"
        floats = of == "f" and reduce.kind == "sum"
        if floats and self.choices.sum == 2:
            self.before.append(f"V {r}_low[{U}]; epx::fill({r}_low, epx::splat<V>(0));")
            masked = f"epx::keep({self.tail}, {operand}, epx::splat<V>(0), n)"
            body.lines.append(f"{acc} = epx::compensated({acc}, {masked}, {r}_low[u]);")
        else:
            step = combine(reduce.kind, of, acc, operand)
            body.lines.append(f"{acc} = epx::keep({self.tail}, {T}({step}), {acc}, n);")
            if floats and self.choices.sum == 1:
                self.before.append(f"V {r}_sum = epx::splat<V>(0);")
                self.sums.append(r)
                total = f"{r}_sum"
        fold = "int_sum" if of == "i" and reduce.kind == "sum" else HORIZONTAL[reduce.kind]
        result = SCALAR[kind(reduce.dtype)]
        self.after.append(f"const {result} {r} = {result}(epx::{fold}({total}));")
        row.memo[reduce] = r

    @staticmethod
    def _start(reduce: Reduce, of: str) -> str:
        text = initial(reduce)
        return text.replace("<V>", "<VI>") if of != "f" else text

    def _position(self, reduce: Reduce, r: str, body: Scope) -> None:
        x, U = self.vector(reduce.arg), self.choices.unroll
        if kind(reduce.arg.dtype) != "f":
            raise Unsupported("position of the largest integer")
        largest = "true" if reduce.kind == "argmax" else "false"
        self.before.append(f"V {r}_best[{U}]; epx::fill({r}_best, {initial(reduce)});")
        self.before.append(f"VI {r}_at[{U}]; epx::fill({r}_at, epx::splat<VI>(0));")
        body.lines += [
            f"const VI {r}_m = epx::keep({self.tail}, epx::better<{largest}>({x}, {r}_best[u]), epx::splat<VI>(0), n);",
            f"{r}_best[u] = epx::select({r}_m, {x}, {r}_best[u]);",
            f"{r}_at[u] = epx::select({r}_m, epx::iota<VI>() + int32_t({self.flat_position(reduce)}), {r}_at[u]);",
        ]
        self.after.append(f"const int64_t {r} = epx::position<{largest}>({r}_best, {r}_at);")

    def node(self, value: Reduce | Scan) -> str:
        """A scan along the row: in-register prefix plus a carry in double precision."""
        if not isinstance(value, Scan):
            return super().node(value)
        if kind(value.dtype) != "f" or kind(value.arg.dtype) != "f":
            raise Unsupported("an integer scan")
        self.direction(value)
        body, c, s = self.scopes[-1], self.fresh("carry"), self.fresh("p")
        neutral = {"sum": "0.0f", "prod": "1.0f", "max": "-INFINITY", "min": "INFINITY"}[value.kind]
        arg = f"epx::keep({self.tail}, {self.vector(value.arg)}, epx::splat<V>({neutral}), n)"
        flip = "epx::reverse" if value.reverse else ""
        body.lines.append(f"const V {s} = epx::{SCAN_FN[value.kind]}({flip}({arg}));")
        out = self.fresh()
        if value.kind in ("sum", "prod"):
            op = "+" if value.kind == "sum" else "*"
            self.before.append(f"double {c} = {neutral};")
            body.lines.append(f"const V {out} = {flip}(V({s} {op} epx::splat<V>(float({c}))));")
            if value.kind == "sum":
                body.lines.append(f"{c} += double(epx::lane({s}, {self.N - 1}));")
            else:  # relative errors of factors add up: the carry is multiplied in double
                wide = f"epx::convert<epx::vd<{self.N}>>({arg})"
                body.lines.append(f"{c} *= epx::hprod({wide});")
        else:
            fn = "maximum" if value.kind == "max" else "minimum"
            self.before.append(f"float {c} = {neutral};")
            body.lines.append(f"const V {s}c = epx::{fn}({s}, epx::splat<V>({c}));")
            body.lines.append(f"const V {out} = {flip}({s}c);")
            body.lines.append(f"{c} = epx::lane({s}c, {self.N - 1});")
        body.memo[value] = out
        return out
