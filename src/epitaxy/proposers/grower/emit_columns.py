"""Kernels whose lanes are rows of their own: tiles of columns, and windows in two stages."""

from __future__ import annotations

import dataclasses
import math

from epitaxy.proposers.grower.algebra import Affine, Axis, Guard, Load, Reduce, Scan
from epitaxy.proposers.grower.emit_expr import (
    VECTOR,
    Scope,
    Unsupported,
    column_loop,
    float_literal,
    indent,
    kind,
)
from epitaxy.proposers.grower.emit_kernel import (
    SMALL_WINDOW,
    KernelWriter,
    axis_loops,
    combine,
    initial,
    lane_axis,
    reduce_operand,
    turns_out,
)
from epitaxy.proposers.grower.emit_loops import Loops, RowWriter, every
from epitaxy.proposers.grower.emit_planes import IN_PLANES, PlaneWriter, plane_of
from epitaxy.proposers.grower.emit_turned import TurnedWriter, turned_axis
from epitaxy.proposers.grower.emit_woven import WovenWriter, paired_axis
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule import Kernel, Target
from epitaxy.proposers.grower.segments import segmented
from epitaxy.proposers.grower.windows import IN_GROUPS, LINE, Windows, separated


def write_kernel(
    kernel: Kernel, choices: Choices, buffers: dict[int, tuple[str, str]]
) -> list[str]:
    """The C++ block of one kernel."""
    rows = segmented(kernel, choices.width)
    if rows is not None:
        return RowWriter(rows[0], choices, buffers, rows[1]).write()
    lane = lane_axis(kernel, choices)
    if lane is not None and lane in kernel.outer and kernel.inner:
        plane = plane_of(kernel, lane) if choices.windows == IN_PLANES else None
        if plane is not None:
            return PlaneWriter(kernel, choices, buffers, lane, plane).write()
        groups = choices.windows == IN_GROUPS
        pair = separated(kernel, lane, len(buffers), groups) if choices.windows else None
        if pair is not None:
            return _write_windows(pair, lane, choices, buffers)
        return ColumnWriter(kernel, choices, buffers, lane).write()
    across = turned_axis(kernel, lane, choices)
    if across is not None:
        return TurnedWriter(kernel, choices, buffers, lane).write_across(across)
    pairs = paired_axis(kernel, lane)
    if lane is not None and pairs is not None:
        return WovenWriter(kernel, choices, buffers, lane, pairs).write()
    return RowWriter(kernel, choices, buffers, lane).write()


def _write_windows(
    windows: Windows, lane: Axis, choices: Choices, buffers: dict[int, tuple[str, str]]
) -> list[str]:
    """Both stages of separated windows in one task."""
    known = {**buffers, len(buffers): (LINE, "float32")}
    first = ColumnWriter(windows.fill, choices, buffers, windows.line)
    last = ColumnWriter(windows.read, dataclasses.replace(choices, prefetch=0), known, lane)
    body: list[str] = []
    for writer in (first, last):
        tiles, lines = writer.tiles()
        head = f"for (int64_t block = 0; block < {tiles}; ++block) {{"
        stage = [head, *indent(lines), "}"]
        if writer is first:
            stage += _margins(windows, first)
        body += axis_loops([windows.lines], writer.names, stage) if windows.lines else stage
    outer = [a for a in windows.read.outer if a not in (lane, windows.lines)]
    tasks = [(last.names[a], a.size) for a in outer]
    scratch = [
        f"epx::Scratch<float> {LINE}_({windows.numel});",
        f"float* const {LINE} = {LINE}_.data;",
    ]
    return last.task_loop(tasks, body, scratch)


def _margins(windows: Windows, writer: KernelWriter) -> list[str]:
    """Stores of what the tensor counts as outside its edges."""
    row = f"{writer.names[windows.lines]} * {windows.length} + " if windows.lines else ""
    return [
        f"for (int p = {a}; p < {b}; ++p) {LINE}[{row}p] = {float_literal(windows.neutral)};"
        for a, b in windows.margins
    ]


class ColumnWriter(Loops):
    """Each lane is a row of its own; a task is a tile of neighbouring lanes."""

    def write(self) -> list[str]:
        """The block of C++."""
        tiles, body = self.tiles()
        outer = [a for a in self.kernel.outer if a != self.lane]
        tasks = [(self.names[a], a.size) for a in outer] + [("block", tiles)]
        return self.task_loop(tasks, body, self.scratch())

    def tiles(self) -> tuple[int, list[str]]:
        """How many tiles a row of lanes has, and the code of tile `block`."""
        lane = self.lane
        assert lane is not None
        self.names[lane] = "j"
        outer = [a for a in self.kernel.outer if a != lane]
        inner = list(self.kernel.inner)
        self.guarded: dict[Guard, None] = {}
        self.squares: list[str] = []
        self.tile = min(-(-self.choices.tile // self.N) * self.N, -(-lane.size // self.N) * self.N)
        self.begin()
        self.stash_at = f"({self.flat_inner()}) * {self.tile} + c * N"
        row = Scope(frozenset(outer))
        self.arrays = row
        for number in range(self.passes.count):
            self._pass(number, row, inner)
        self.scopes = [row]
        for target in self.passes.row_stores:
            value = self.vector(target.value)
            row.lines += column_loop([self.put(target, value, vector=True)])
        tiles = -(-lane.size // self.tile)
        near = self._inside()
        full = f"if ({near}) tile(whole{{}}, inner{{}}); else " if near else ""
        full += f"tile(whole{{}}, {'edge' if near else 'inner'}{{}});"
        last = f"if (j0 + {self.tile} > {lane.size}) tile(part{{}}, edge{{}}); else "
        call = full if lane.size % self.tile == 0 else last + full
        body = [
            f"const int64_t j0 = block * {self.tile};",
            "auto tile = [&](auto tail, auto inside) EPX_BODY {",
            f"  constexpr int N = {self.N}, TC = {self.tile // self.N};",
            f"  const int chunks = tail ? int(({lane.size} - j0 + N - 1) / N) : TC;",
            f"  auto lanes = [&](int c) {{ return tail ? int(epx::least(N, {lane.size} - j0 - c * N)) : N; }};",
            "  (void)inside;", *indent(row.lines), "};",
            "using epx::whole; using epx::part; using epx::inner; using epx::edge;", call,
        ]  # fmt: skip
        return tiles, body

    def _guard(self, guards: tuple[Guard, ...]) -> str:
        self.guarded.update(dict.fromkeys(guards))
        text = super()._guard(guards)
        return f"inside || ({text})" if text else ""

    def _inside(self) -> str:
        """The condition under which no guard that was written can be false in this tile."""
        parts = []
        for guard in self.guarded:
            low = high = guard.index.offset
            kept = []
            for axis, c in guard.index.terms:
                if axis in self.inner:
                    low, high = (
                        low + min(0, c * (axis.size - 1)),
                        high + max(0, c * (axis.size - 1)),
                    )
                else:
                    kept.append((axis, c))
            at = self.address(Affine(0, tuple(kept)))
            parts.append(f"{at} >= {-low} && {at} < {guard.size - high}")
        return " && ".join(parts)

    def stash_rows(self) -> int:
        """As many as a tile is wide."""
        return self.tile

    def distance(self, load: Load) -> int:
        """The same lanes some rows on: memory sees only short runs otherwise."""
        steps = [load.index.coefficient(a) for a in reversed(self.kernel.inner)]
        rows = self.choices.prefetch // 4
        return rows * next((s for s in steps if s), 0) or self.prefetch

    def next_row(self) -> list[str]:
        """One prefetch for each cache line of the next tile."""
        each = max(1, 16 // self.N)
        return [
            f"if (c % {each} == 0) epx::prefetch({self.buffers[v.buffer][0]} + "
            f"{self.address(v.index)} + {self.tile});"
            for v in self.passes.needed(0)
            if isinstance(v, Load) and not v.indirect and not v.guards
            if self.lane in v.axes and v.axes & self.inner and v.index.coefficient(self.lane) == 1
        ]

    def _pass(self, number: int, row: Scope, inner: list[Axis]) -> None:
        self.before, self.after, self.sums, self.back, self.scanned = [], [], [], False, False
        self.turned: list[str] = []
        seen, scopes = set(row.axes), [row]
        for axis in inner:
            seen.add(axis)
            scopes.append(Scope(frozenset(seen)))
        assert self.lane is not None
        scopes.append(Scope(frozenset(seen | {self.lane})))
        body = self.body(number, scopes)
        small = math.prod(a.size for a in inner) <= SMALL_WINDOW
        loops = body.lines if small else [*column_loop(body.lines), *self.turned]
        if not small:
            loops = self.nested(loops, inner, scopes)
            row.lines += [*self.before, *loops, *self.after]
            return
        for axis, scope in zip(reversed(inner), reversed(scopes[1:-1]), strict=True):
            loops = axis_loops([axis], self.names, [*scope.lines, *loops], self.back)
            loops[0] = f"EPX_UNROLL {loops[0]}"
        row.lines += [*self.before, *column_loop(loops), *self.after]

    def _settled(self, name: str, steps: int) -> list[str]:
        """As for rows, one sum for each chunk of the tile."""
        if not self.sums:
            return []
        self.before += [f"V {r}_all[TC] = {{}}, {r}_low[TC] = {{}};" for r in self.sums]
        each = "for (int c = 0; c < chunks; ++c) "
        added = "".join(f"{r}[c] = {r}_all[c] + {r}[c]; " for r in self.sums)
        self.after = [f"{each}{{ {added}}}", *self.after]
        settled = "".join(f"epx::settle({r}_all[c], {r}[c], {r}_low[c]); " for r in self.sums)
        return [f"{every(name, steps)}{each}{{ {settled}}}"]

    def put(self, target: Target, value: str, vector: bool) -> str:
        """Stores; of results that lie along the rows, once N columns of them are there."""
        lane = self.lane
        assert lane is not None
        if not vector or not turns_out(self.kernel, target, lane, self.choices):
            return super().put(target, value, vector)
        (along,), to = self.kernel.inner, f"turned{len(self.squares)}"
        self.squares.append(to)
        i, names = self.names[along], dict(self.names)
        self.names |= {lane: "(j0 + g)", along: f"({i} - last)"}
        place = f"{target.buffer} + {self.address(target.index)}"
        self.names = names
        step = target.index.coefficient(lane)
        self.turned += [
            f"if (const int64_t last = {i} % {self.N}; last == {self.N - 1} || {i} == {along.size - 1})",
            f"  for (int64_t g = 0; g < {self.tile} && j0 + g < {lane.size}; g += {self.N})",
            f"    epx::turn<{self.N}>({place}, {to} + g, {self.tile}, "
            f"epx::least({self.N}, {lane.size} - j0 - g), int(last) + 1, {step});",
        ]  # fmt: skip
        at = f"{i} % {self.N} * {self.tile} + c * N"
        return f"epx::put({self.tail}, {to} + {at}, {value}, n);"

    def scratch(self) -> list[str]:
        """Stashed values, and columns that are turned together."""
        squares = [f"alignas(64) float {x}[{self.N * self.tile}];" for x in self.squares]
        return [*super().scratch(), *squares]

    def reduce(self, reduce: Reduce) -> None:
        """Accumulate one vector for each chunk of the tile; no horizontal step."""
        row, body = self.scopes[0], self.scopes[-1]
        r = self.fresh("r")
        if reduce.kind in ("argmax", "argmin"):
            x = self.vector(reduce.arg)
            if kind(reduce.arg.dtype) != "f":
                raise Unsupported("position of the largest integer")
            largest = "true" if reduce.kind == "argmax" else "false"
            self.before.append(f"V {r}_best[TC]; epx::fill({r}_best, {initial(reduce)});")
            self.before.append(f"VI {r}_at[TC]; epx::fill({r}_at, epx::splat<VI>(0));")
            body.lines += [
                f"const VI {r}_m = epx::better<{largest}>({x}, {r}_best[c]);",
                f"{r}_best[c] = epx::select({r}_m, {x}, {r}_best[c]);",
                f"{r}_at[c] = epx::select({r}_m, epx::splat_int<VI>({self.flat_position(reduce)}), {r}_at[c]);",
            ]
            row.memo[reduce] = f"{r}_at[c]"
            return
        operand, of = reduce_operand(reduce, self.vector(reduce.arg))
        T = VECTOR[of]
        self.before.append(f"{T} {r}[TC]; epx::fill({r}, {RowWriter._start(reduce, of)});")
        floats = of == "f" and reduce.kind == "sum"
        if floats and self.choices.sum == 2:
            self.before.append(f"V {r}_low[TC]; epx::fill({r}_low, epx::splat<V>(0));")
            body.lines.append(f"{r}[c] = epx::compensated({r}[c], {operand}, {r}_low[c]);")
        else:
            if floats and self.choices.sum == 1:
                self.sums.append(r)
            body.lines.append(f"{r}[c] = {combine(reduce.kind, of, f'{r}[c]', operand)};")
        result = kind(reduce.dtype)
        if result == "f" and of != "f":
            raise Unsupported("a float sum of integers without a cast")
        row.memo[reduce] = f"{r}[c]"

    def node(self, value: Reduce | Scan) -> str:
        """A scan down the columns: one running vector for each chunk, sums in double."""
        if not isinstance(value, Scan):
            return super().node(value)
        if kind(value.dtype) != "f" or kind(value.arg.dtype) != "f":
            raise Unsupported("an integer scan")
        self.direction(value)
        body, c, out = self.scopes[-1], self.fresh("carry"), self.fresh()
        arg = self.vector(value.arg)
        if value.kind in ("sum", "prod"):
            op, start = ("+", 0) if value.kind == "sum" else ("*", 1)
            self.before.append(
                f"epx::vd<{self.N}> {c}[TC]; epx::fill({c}, epx::splat<epx::vd<{self.N}>>({start}));"
            )
            body.lines.append(f"{c}[c] = {c}[c] {op} epx::convert<epx::vd<{self.N}>>({arg});")
            body.lines.append(f"const V {out} = epx::convert<V>({c}[c]);")
        else:
            fn, start_ = (
                ("maximum", "-INFINITY") if value.kind == "max" else ("minimum", "INFINITY")
            )
            self.before.append(f"V {c}[TC]; epx::fill({c}, epx::splat<V>({start_}));")
            body.lines.append(f"const V {out} = {c}[c] = epx::{fn}({c}[c], {arg});")
        body.memo[value] = out
        return out
