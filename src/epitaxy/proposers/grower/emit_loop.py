"""A loop over time steps as C++: every task runs a few parallel lanes through all steps.

The states of a task stay in its thread's nearest cache, lanes side by side. What no step changes
is worked out once for each task; what only varies with the step, once for each step.
"""

from __future__ import annotations

import math

from epitaxy.proposers.grower.algebra import (
    Axis,
    Load,
    Map,
    Reduce,
    Region,
    Scan,
    Value,
    operands,
    walk,
)
from epitaxy.proposers.grower.emit_expr import (
    Expressions,
    Scope,
    Unsupported,
    column_loop,
    indent,
    kind,
)
from epitaxy.proposers.grower.emit_frame import arguments, function, lanes
from epitaxy.proposers.grower.emit_kernel import axis_loops, combine, initial
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.ranges import require_lanes
from epitaxy.proposers.grower.schedule_loop import Move, Nest, plan_loop, state_of, strides

TABLE_BYTES = 1 << 17
"""The most that one task keeps of something that no step changes."""
FEW_PIECES = 128
_LONG = 512


def write_loop(region: Region, choices: Choices) -> str:
    """The region's function. Raises Unsupported."""
    loop = region.loop
    assert loop is not None
    require_lanes(walk(loop.roots))
    lines, buffers = arguments(region)
    lines += [*lanes(choices), *LoopWriter(region, choices, buffers).write()]
    return function(region, choices, lines, region.refuses)


class LoopWriter(Expressions):
    """Tasks, steps, and within each step nests of loops around the lanes of a tile."""

    def __init__(
        self, region: Region, choices: Choices, buffers: dict[int, tuple[str, str]]
    ) -> None:
        assert region.loop is not None
        self.loop, self.choices, self.N = region.loop, choices, choices.width
        self.plan = plan_loop(self.loop, choices.width)
        lane = self.plan.lane
        values = walk(self.loop.roots)
        axes = {a for v in values for a in v.axes} | {a for s in self.loop.states for a in s.axes}
        axes |= {a for s in (*self.loop.each, *self.loop.last) for a in s.axes}
        axes |= {a for v in values if isinstance(v, Reduce) for a in v.over}
        names = {a: f"{a.name}_" for a in (*axes, *self.plan.outer, self.loop.time)}
        super().__init__(buffers, lane, names | {lane: "j"})
        self.inner = frozenset(axes) - {*self.plan.outer, lane, self.loop.time}
        self.tile = min(-(-choices.tile // self.N) * self.N, -(-lane.size // self.N) * self.N)
        self.task = Scope(frozenset(self.plan.outer))
        self.deep = False
        self.tables: dict[Value, str] = {}
        self.ready = False

    # -- the whole -------------------------------------------------------------------------

    def write(self) -> list[str]:
        """The block of C++."""
        tables = self._constant_tables()
        firsts = [
            Nest(0, self._own(s.axes), moves=[Move(k, None, s.first, s.axes)])
            for k, s in enumerate(self.loop.states)
        ]
        start = Scope(frozenset(self.plan.outer))
        self.scopes = [self.task]
        for value, name in tables.items():
            self._fill(start, value, name)
        for nest in firsts:
            self._nest(start, nest, first=True)
        self.tables, self.ready = tables, True
        step = Scope(self.task.axes | {self.loop.time})
        for nest in self.plan.nests:
            self._nest(step, nest)
        step.lines += [f"std::swap(h{k}, h{k}n);" for k in sorted(self.plan.twice)]
        end = Scope(self.task.axes | {self.loop.time})
        for store in self.loop.last:
            move = Move(None, store, store.value, store.axes)
            self._nest(end, Nest(0, self._own(store.axes), moves=[move]))
        steps = axis_loops([self.loop.time], self.names, step.lines)
        pointers = [f"float* h{k} = h{k}_.data;" for k in range(len(self.loop.states))]
        pointers += [f"float* h{k}n = h{k}n_.data;" for k in sorted(self.plan.twice)]
        return self._tasks([*pointers, *self.task.lines, *start.lines, *steps, *end.lines])

    def _own(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """The axes that a task goes through itself."""
        return tuple(a for a in axes if a not in self.plan.outer and a != self.lane)

    def _tasks(self, body: list[str]) -> list[str]:
        lane = self.lane
        assert lane is not None
        tiles = -(-lane.size // self.tile)
        sizes = [(self.names[a], a.size) for a in self.plan.outer] + [("block", tiles)]
        total = math.prod(n for _, n in sizes)
        decode, stride = [], total
        for name, size in sizes:
            stride //= size
            decode.append(f"const int64_t {name} = t / {stride} % {size};")
        whole = "tile(whole{});"
        call = whole if lane.size % self.tile == 0 else (
            f"if (j0 + {self.tile} > {lane.size}) tile(part{{}}); else {whole}"
        )  # fmt: skip
        inside = [
            *decode, f"const int64_t j0 = block * {self.tile};",
            "const auto tile = [&](auto tail) EPX_BODY {",
            f"  constexpr int N = {self.N}, TC = {self.tile // self.N};",
            f"  const int chunks = tail ? int(({lane.size} - j0 + N - 1) / N) : TC;",
            f"  const auto lanes = [&](int c) {{ return tail ? int(epx::least(N, {lane.size} - j0 - c * N)) : N; }};",
            *indent(body), "};", "using epx::whole; using epx::part;", call,
        ]  # fmt: skip
        loop = [f"for (int64_t t = 0; t < {total}; ++t) {{", *indent(inside), "}"]
        scratch = self._scratch()
        if total < 2 or self.choices.threads == 1:
            return ["{", *indent([*scratch, *loop]), "}"]
        piece = max(1, total // FEW_PIECES)
        share = f"schedule(dynamic, {piece})" if self.choices.dynamic else "schedule(static)"
        threads = f" num_threads({self.choices.threads})" if self.choices.threads else ""
        parallel = [f"#pragma omp for {share} nowait", *loop]
        return [f"#pragma omp parallel{threads}", "{", *indent([*scratch, *parallel]), "}"]

    def _scratch(self) -> list[str]:
        """What every thread keeps for itself."""
        sizes: list[tuple[str, int]] = []
        for k, state in enumerate(self.loop.states):
            size = self._size(state.axes)
            sizes.append((f"h{k}_", size))
            if k in self.plan.twice:
                sizes.append((f"h{k}n_", size))
        lines = [f"const epx::Scratch<float> {name}({size});" for name, size in sizes]
        for value, name in self.tables.items():
            lines += [
                f"const epx::Scratch<float> {name}_({self._size(tuple(value.axes))});",
                f"float* const {name} = {name}_.data;",
            ]
        return lines

    def _size(self, axes: tuple[Axis, ...]) -> int:
        own = math.prod(a.size for a in self._own(axes))
        return own * (self.tile if self.lane in axes else 1)

    # -- one nest --------------------------------------------------------------------------

    def _nest(self, step: Scope, nest: Nest, first: bool = False) -> None:
        """Append the loops of `nest` to `step`."""
        scopes = [self.task] if step.axes == self.task.axes else [self.task, step]
        base = len(scopes)
        seen = set(step.axes)
        for axis in nest.inner:
            seen.add(axis)
            scopes.append(Scope(frozenset(seen)))
        body = Scope(frozenset({*seen, self.lane}))  # type: ignore[arg-type]
        self.scopes, self.deep = [*scopes, body], bool(nest.inner)
        around = scopes[-1] if nest.inner else Scope(frozenset(seen))
        before: list[str] = []
        for reduce in nest.reduces:
            self._reduce(reduce, before, around)
        for move in nest.moves:
            self._move(move, around, first)
        loops = column_loop(body.lines) if body.lines else []
        if not nest.inner:
            loops = [*around.lines, *loops]
        for axis, scope in zip(reversed(nest.inner), reversed(scopes[base:]), strict=True):
            innermost = axis == nest.inner[-1] and self.choices.unroll > 1
            loops = axis_loops([axis], self.names, [*scope.lines, *loops])
            if innermost:
                loops.insert(0, f"#pragma GCC unroll {self.choices.unroll}")
        step.lines += [*before, *loops]

    def _reduce(self, reduce: Reduce, before: list[str], around: Scope) -> None:
        if kind(reduce.arg.dtype) != "f" or kind(reduce.dtype) != "f":
            raise Unsupported("a sum of integers within a step")
        r = self.fresh("r")
        vector = self.is_vector(reduce.arg)
        T, at, home = ("V", "[c]", self.scopes[-1]) if vector else ("float", "", around)
        x = self.use(reduce.arg)
        before.append(
            f"V {r}[TC]; epx::fill({r}, {initial(reduce)});"
            if vector
            else f"float {r} = {initial(reduce, vector=False)};"
        )
        if reduce.kind == "sum" and math.prod(a.size for a in reduce.over) > _LONG:
            before.append(f"V {r}_low[TC] = {{}};" if vector else f"float {r}_low = 0;")
            home.lines.append(f"{r}{at} = epx::compensated({r}{at}, {T}({x}), {r}_low{at});")
        else:
            home.lines.append(f"{r}{at} = {combine(reduce.kind, 'f', f'{r}{at}', x)};")
        self.scopes[1].memo[reduce] = f"{r}{at}"

    def _move(self, move: Move, around: Scope, first: bool) -> None:
        """Write a new state, or an output."""
        held = self.lane in move.axes
        home = self.scopes[-1] if held else around
        value = self.vector(move.value) if held else self.use(move.value)
        if move.state is not None:
            name = f"h{move.state}" + ("n" if move.state in self.plan.twice and not first else "")
            natural = strides(move.axes)
            place = self._private(move.state, [(a, natural[a]) for a in move.axes])
            home.lines.append(f"epx::store({name} + {place}, {value});")
            return
        store = move.store
        assert store is not None
        pointer = f"y{store.buffer} + {self.address(store.index)}"
        lane = self.lane
        assert lane is not None
        step = store.index.coefficient(lane)
        if not held:
            text = f"epx::store({pointer}, {value});"
        elif step == 1:
            text = f"epx::put({self.tail}, {pointer}, {value}, n);"
        else:
            text = f"epx::put_strided({self.tail}, {pointer}, {value}, {step}, n);"
        lone = [f"{self.names[a]} == 0" for a in self.plan.outer if a not in store.axes]
        lone += [] if held else ["j0 == 0"]  # all tasks have the same value: one writes it
        home.lines.append(f"if ({' && '.join(lone)}) {text}" if lone else text)

    # -- values ----------------------------------------------------------------------------

    def use(self, value: Value) -> str:
        """The C++ name of `value`: what no step changes is worked out before the first."""
        found = self.find(value)
        if found is not None:
            return found
        if value in self.tables and self.ready:
            return self._tabled(value)
        plain = isinstance(value, Load | Map) and not value.axes & self.inner
        if plain and self.is_vector(value):
            fixed = self.loop.time not in value.axes
            if (fixed and isinstance(value, Map)) or self.deep:
                self.arrays = self.task if fixed else self.scopes[1]
                return self._array(value)
        self.arrays = None
        return super().use(value)

    def _array(self, value: Value) -> str:
        deep, self.deep = self.deep, True  # what it is made of is needed outside the lanes' loop
        arrays = self.arrays
        for operand in operands(value):
            self.use(operand)
        self.arrays = arrays
        name = super()._array(value)
        self.deep = deep
        return name

    def node(self, value: Reduce | Scan) -> str:
        """Sums are written by the nest that they end."""
        raise Unsupported("a sum before its loop")

    def _load(self, load: Load, vector: bool) -> str:
        k = state_of(load)
        if k is None:
            return super()._load(load, vector)
        text = f"h{k} + {self._private(k, list(load.index.terms))}"
        return f"epx::load<{'V' if vector else 'float'}>({text})"

    def _private(self, k: int, terms: list[tuple[Axis, int]]) -> str:
        """The place within a task's own part of state k."""
        axes = self.loop.states[k].axes
        by_stride = {s: a for a, s in strides(axes).items()}
        placed = strides(self._own(axes))
        parts = []
        for axis, stride in terms:
            own = by_stride.get(stride)
            if stride and own in placed:
                parts.append((self.names[axis], placed[own]))
        return self._place(parts, self.lane in axes)

    def _place(self, parts: list[tuple[str, int]], vector: bool) -> str:
        flat = " + ".join(n if s == 1 else f"{n} * {s}" for n, s in parts) or "0"
        return f"({flat}) * {self.tile} + c * N" if vector else f"({flat})"

    # -- what no step changes --------------------------------------------------------------

    def _constant_tables(self) -> dict[Value, str]:
        """Costly values that vary within a step but not from step to step, with their names."""
        found: dict[Value, str] = {}
        roots = [r for nest in self.plan.nests for r in nest.roots]
        seen: set[Value] = set()
        stack = list(roots)
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            if self.loop.time in v.axes:
                stack.extend(operands(v))
            elif isinstance(v, Load | Map) and v.axes & self.inner and self._costly(v):
                found[v] = f"fixed{len(found)}"
        return found

    def _costly(self, value: Value) -> bool:
        if kind(value.dtype) != "f" or self._size(tuple(value.axes)) * 4 > TABLE_BYTES:
            return False
        if isinstance(value, Load):
            assert self.lane is not None
            step = value.index.coefficient(self.lane)
            return bool(value.indirect or value.guards or step not in (0, 1))
        return True

    def _order(self, value: Value) -> tuple[Axis, ...]:
        return tuple(sorted(value.axes & self.inner, key=lambda a: a.name))

    def _fill(self, start: Scope, value: Value, name: str) -> None:
        inner = self._order(value)
        scopes = [self.task]
        seen = set(self.task.axes)
        for axis in inner:
            seen.add(axis)
            scopes.append(Scope(frozenset(seen)))
        body = Scope(frozenset({*seen, self.lane}))  # type: ignore[arg-type]
        self.scopes, self.deep = [*scopes, body], True
        text = self.use(value)
        home = body if self.is_vector(value) else scopes[-1]
        home.lines.append(f"epx::store({name} + {self._table_place(value)}, {text});")
        loops = column_loop(body.lines) if body.lines else []
        for axis, scope in zip(reversed(inner), reversed(scopes[1:]), strict=True):
            loops = axis_loops([axis], self.names, [*scope.lines, *loops])
        start.lines += loops

    def _table_place(self, value: Value) -> str:
        inner = self._order(value)
        placed = strides(inner)
        return self._place([(self.names[a], placed[a]) for a in inner], self.is_vector(value))

    def _tabled(self, value: Value) -> str:
        name, vector = self.fresh("k"), self.is_vector(value)
        scope = self.scopes[-1] if vector else next(s for s in self.scopes if value.axes <= s.axes)
        T = "V" if vector else "float"
        place = self._table_place(value)
        scope.lines.append(f"const {T} {name} = epx::load<{T}>({self.tables[value]} + {place});")
        scope.memo[value] = name
        return name
