"""Experts as C++: routing, then for each layer of the experts a product over ragged batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import Axis, Load, Reduce, Region, Scan, Value, walk
from epitaxy.proposers.grower.emit_expr import Expressions, Scope, Unsupported, indent
from epitaxy.proposers.grower.emit_frame import arguments, function, lanes, storage
from epitaxy.proposers.grower.emit_gemm import decoded
from epitaxy.proposers.grower.emit_kernel import axis_loops
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.ranges import require_lanes


def write_routed(region: Region, choices: Choices) -> str:
    """The region's function. Raises Unsupported."""
    routed = region.routed
    assert routed is not None
    require_lanes(walk(routed.roots))
    if any(isinstance(v, Reduce | Scan) for v in walk(routed.roots)):
        raise Unsupported("a sum among the experts that is no product")
    kinds = [*(s.dtype for s in region.outputs), *(p.weight.dtype for p in routed.products)]
    if any(kind != "float32" for kind in kinds):
        raise Unsupported("experts in other types than float32")
    lines, buffers = arguments(region)
    for first in routed.families:
        listed = ", ".join(f"x{first + e}" for e in range(routed.expert.size))
        T = storage(region.inputs[first].dtype)
        lines.append(f"const {T}* const own{first}[] = {{{listed}}};")
        buffers[first] = (f"f{first}", region.inputs[first].dtype)
    lines += [*lanes(choices), *RoutedWriter(region, choices, buffers).write()]
    return function(region, choices, lines, region.refuses)


class RoutedWriter(Expressions):
    """Stages one after the other, each shared among all threads."""

    def __init__(
        self, region: Region, choices: Choices, buffers: dict[int, tuple[str, str]]
    ) -> None:
        assert region.routed is not None
        self.what, self.choices, self.N = region.routed, choices, choices.width
        values = walk(self.what.roots)
        axes = {a for v in values for a in v.axes} | {p.width for p in self.what.products}
        axes |= {*self.what.rows, *self.what.place, self.what.expert}
        axes |= {a for _, a in self.what.operands}
        super().__init__(buffers, None, {a: f"{a.name}_" for a in axes})
        self.needs = [self._products(v) for v, _ in self.what.operands]

    def write(self) -> list[str]:
        """The body of the function."""
        what = self.what
        rows, places = _size(what.rows), _size(what.place)
        lines = [*self._strange(), f"epx::Routing route({what.expert.size}, {rows}, {places});"]
        lines += self._route()
        for m, (_, axis) in enumerate(what.operands):
            lines.append(f"const epx::Scratch<float> a{m}(route.rows * {axis.size});")
        stages: list[str] = []
        for m, _ in enumerate(what.operands):
            stages += self._stage(m) if self.needs[m] else self._gather(m)
        stages += self._combine()
        if self.choices.threads == 1:
            return [*lines, "{", *indent(stages), "}"]
        threads = f" num_threads({self.choices.threads})" if self.choices.threads else ""
        return [*lines, f"#pragma omp parallel{threads}", "{", *indent(stages), "}"]

    def _products(self, value: Value) -> list[int]:
        """The products that a value is made of, in order."""
        found = {-1 - v.buffer for v in walk((value,)) if isinstance(v, Load) and v.buffer < 0}
        return sorted(found)

    # -- routing ---------------------------------------------------------------------------

    def _strange(self) -> list[str]:
        """Which rows hold what zero times is not zero."""
        if not self.what.strange:
            return []
        body: list[str] = []
        for m, (value, axis) in enumerate(self.what.operands):
            if self.needs[m]:
                continue
            if self.what.expert in value.axes:
                raise Unsupported("experts that see different rows")
            lines, name = self._vector_of(value, axis, [])
            inside = [*lines, f"odd = odd | ~({name} - {name} == 0.0f);"]
            body += _along(axis.size, self.N, inside)
        rows = _size(self.what.rows)
        threads = self.choices.threads
        team = f" num_threads({threads})" if threads else ""
        return [
            f"const epx::Scratch<bool> strange({rows});",
            *([] if threads == 1 else [f"#pragma omp parallel for{team}"]),
            f"for (int64_t at = 0; at < {rows}; ++at) {{",
            *indent([
                *self._decoded("at", self.what.rows), "VI odd = epx::splat<VI>(0);", *body,
                "strange.data[at] = epx::any(odd);",
            ]), "}",
        ]  # fmt: skip

    def _route(self) -> list[str]:
        """Every row of every expert, in order."""
        what = self.what
        self.lane, seen = None, {what.expert}
        scopes = [Scope(frozenset(seen))]
        for axis in what.rows:
            seen = seen | {axis}
            scopes.append(Scope(frozenset(seen)))
        self.scopes = scopes
        truth = self.use(what.route)
        at, to = self._flat(what.rows), self._flat(what.place)
        if what.strange:
            truth = f"{truth} || strange.data[{at}]"
        expert = self.names[what.expert]
        scopes[-1].lines.append(f"if ({truth}) route.add({expert}, {at}, {to});")
        loops: list[str] = []
        for axis, scope in zip(reversed(what.rows), reversed(scopes[1:]), strict=True):
            loops = axis_loops([axis], self.names, [*scope.lines, *loops])
        families = self._family_lines()
        loops = [*families, *scopes[0].lines, *loops, f"route.close({expert});"]
        return [*axis_loops([what.expert], self.names, loops), "route.finish();"]

    def _flat(self, axes: Sequence[Axis]) -> str:
        stride, parts = _size(axes), []
        for axis in axes:
            stride //= axis.size
            parts.append(self.names[axis] if stride == 1 else f"{self.names[axis]} * {stride}")
        return " + ".join(parts) or "0"

    def _decoded(self, variable: str, axes: Sequence[Axis]) -> list[str]:
        lines = []
        for axis, text in decoded(variable, axes):
            lines.append(f"const int64_t {self.names[axis]} = {text};")
            lines.append(f"(void){self.names[axis]};")
        return lines

    def _family_lines(self) -> list[str]:
        expert = self.names[self.what.expert]
        return [
            line
            for first in self.what.families
            for line in (f"const auto* const f{first} = own{first}[{expert}];", f"(void)f{first};")
        ]

    # -- stages ----------------------------------------------------------------------------

    def _vector_of(self, value: Value, lane: Axis, axes: Sequence[Axis]) -> tuple[list[str], str]:
        """Statements for one vector of `value` along `lane` at j, and its name."""
        self.lane = lane
        self.names[lane] = "j"
        scope = Scope(frozenset({*self.what.rows, self.what.expert, lane, *axes}))
        self.scopes = [scope]
        name = self.vector(value)
        return scope.lines, name

    def _row(self) -> list[str]:
        """What is known of routed row p."""
        return self._decoded("at", self.what.rows)

    def _gather(self, m: int) -> list[str]:
        """Operand m, which is made of what is given: the routed rows side by side."""
        value, axis = self.what.operands[m]
        lines, name = self._vector_of(value, axis, [])
        expert = self.names[self.what.expert]
        body = [
            "const int64_t at = route.row.data[p];",
            f"const int64_t {expert} = route.expert.data[p];", f"(void){expert};",
            *self._family_lines(), *self._row(),
            *_along(axis.size, self.N, [
                *lines, f"epx::put(tail, a{m}.data + p * {axis.size} + j, {name}, n);",
            ]),
        ]  # fmt: skip
        return ["epx::share<false>(route.rows, [&](int64_t p) {", *indent(body), "});"]

    def _stage(self, m: int) -> list[str]:
        """Operand m from its products, expert by expert and panel by panel."""
        value, axis = self.what.operands[m]
        needs = self.needs[m]
        across = min(self.choices.tile_n, -(-axis.size // self.N))
        panels = -(-axis.size // (across * self.N))
        height = self.choices.tile_m
        expert = self.names[self.what.expert]
        head, body = [], []
        for k in needs:
            p = self.what.products[k]
            head += self._sizes(f"P{m}_{k}", k, across)
            head.append(
                f"const epx::Scratch<float> panel{m}_{k}({p.depth.size} * {across * self.N});"
            )
            parts = [self.buffers[p.weight.buffer][0], str(p.weight.index.offset)]
            parts.append(f"{expert} * {p.weight.index.coefficient(self.what.expert)}")
            body.append(
                f"epx::pack_panel<P{m}_{k}>(panel{m}_{k}.data, {' + '.join(parts)}, 0, "
                f"{p.depth.size}, q * {across * self.N});"
            )
        tile = [f"const int64_t rows = epx::least({height}, p1 - p);"]
        for k in needs:
            p = self.what.products[k]
            tile.append(
                f"epx::rows_of<P{m}_{k}>(rows, a{p.operand}.data + p * {p.depth.size}, "
                f"panel{m}_{k}.data, sums{k});"
            )
        tile.append(
            f"epx::finish_rows<{self.N}, {across}>(rows, {axis.size}, p, "
            f"q * {across * self.N}, finish);"
        )
        lines, name = self._vector_of(value, axis, [])
        finish = [
            "const int64_t at = route.row.data[p];", "(void)r, (void)v, (void)n;", *self._row(),
            *(f"const float* const sum{k} = sums{k} + (r * {across} + v) * {self.N};" for k in needs),
            *lines, f"epx::put(tail, a{m}.data + p * {axis.size} + j, {name}, n);",
        ]  # fmt: skip
        body = [
            f"const int64_t {expert} = u / {panels}, q = u % {panels};",
            f"const int64_t p0 = route.from.data[{expert}], p1 = route.from.data[{expert} + 1];",
            "if (p0 == p1) return;", *self._family_lines(), *body,
            *(f"alignas(64) float sums{k}[{height * across * self.N}];" for k in needs),
            "const auto finish = [&](auto tail, int64_t p, int64_t j, int n, int r, int v) EPX_BODY {",
            *indent(finish), "};",
            f"for (int64_t p = p0; p < p1; p += {height}) {{", *indent(tile), "}",
        ]  # fmt: skip
        dynamic = "true" if self.choices.dynamic else "false"
        total = self.what.expert.size * panels
        return [*head, f"epx::share<{dynamic}>({total}, [&](int64_t u) {{", *indent(body), "});"]

    def _sizes(self, name: str, k: int, across: int) -> list[str]:
        """Sizes and strides of product k, by the names that pack.h gives them."""
        p, height = self.what.products[k], self.choices.tile_m
        bk, bj = (p.weight.index.coefficient(a) for a in (p.depth, p.width))
        sizes = {
            "N": self.N, "MR": height, "NV": across, "BATCH": 1, "M": height, "J": p.width.size,
            "K": p.depth.size, "MC": height, "JC": across * self.N, "KC": p.depth.size, "PARTS": 1,
            "AI": p.depth.size, "AK": 1, "BK": bk, "BJ": bj, "PACK_A": 0, "PACK_B": 1, "AHEAD": 0,
            "STEPS": self.choices.unroll, "DOT": "epx::FLOATS", "DYNAMIC": 0,
        }  # fmt: skip
        listed = ", ".join(f"{key} = {value}" for key, value in sizes.items())
        return [f"struct {name} {{ enum : int64_t {{ {listed} }}; }};"]

    def _combine(self) -> list[str]:
        """Every place: what was there, and what its rows add, expert after expert."""
        what = self.what
        m = len(what.operands) - 1
        axis = what.operands[m][1]
        if what.store.index.coefficient(axis) != 1:
            raise Unsupported("results that do not lie side by side")
        lines, name = self._vector_of(what.first, axis, what.place)
        body = [
            *self._decoded("t", what.place),
            *_along(axis.size, self.N, [
                *lines, f"V total = {name};",
                "for (int64_t s = route.first.data[t]; s < route.first.data[t + 1]; ++s)",
                f"  total = total + epx::get<V>(tail, a{m}.data + route.slot.data[s] * int64_t({axis.size}) + j, n);",
                f"epx::put(tail, y0 + {self.address(what.store.index)}, total, n);",
            ]),
        ]  # fmt: skip
        return ["epx::share<false>(route.places, [&](int64_t t) {", *indent(body), "});"]

    # -- values ----------------------------------------------------------------------------

    def _load(self, load: Load, vector: bool) -> str:
        if load.buffer >= 0:
            return super()._load(load, vector)
        if not vector:
            raise Unsupported("a product that is no vector")
        return f"epx::load<V>(sum{-1 - load.buffer})"


def _along(size: int, lanes: int, body: list[str]) -> list[str]:
    """`body` for every vector of `size` elements."""
    head = f"epx::along<{lanes}>({size}, [&](auto tail, int64_t j, int n) EPX_BODY {{"
    return [head, "  (void)j, (void)n;", *indent(body), "});"]


def _size(axes: Sequence[Axis]) -> int:
    return math.prod(a.size for a in axes)
