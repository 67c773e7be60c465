"""Rows added where data says, as C++: which rows belong where first, then place by place."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Axis, Load, Reduce, Region, Scan, Value, walk
from epitaxy.proposers.grower.algebra_whole import Sums
from epitaxy.proposers.grower.emit_expr import Expressions, Scope, Unsupported, indent
from epitaxy.proposers.grower.emit_frame import arguments, function, lanes
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.ranges import require_lanes

SMALL = 1 << 15
"""Elements added under which one thread is enough."""
TILES = (1, 2, 4, 8)
"""Vectors of columns that are added side by side."""
PIECES = 64
"""Pieces of the places that threads take as they get free."""


def write_sums(region: Region, choices: Choices) -> str:
    """The region's function. Raises Unsupported."""
    what = region.sums
    assert what is not None
    values = walk(what.roots)
    require_lanes(values)
    if any(isinstance(v, Reduce | Scan) for v in values):
        raise Unsupported("sums of sums")
    if not region.refuses or region.outputs[0].dtype != "float32":
        raise Unsupported("places of another type than int64, or sums of other than float32")
    lines, buffers = arguments(region)
    lines += [*lanes(choices), *SumsWriter(what, choices, buffers).write()]
    return function(region, choices, lines, refuses=True)


class SumsWriter(Expressions):
    """Routing by one thread, sums shared among all."""

    def __init__(self, what: Sums, choices: Choices, buffers: dict[int, tuple[str, str]]) -> None:
        names = {what.row: "row", what.place: "to", what.column: "j"}
        super().__init__(buffers, None, names)
        self.what, self.choices = what, choices

    def write(self) -> list[str]:
        """The body of the function."""
        what = self.what
        rows, places = what.row.size, what.place.size
        body = self._adding()
        share = "true" if self.choices.dynamic else "false"
        pieces = max(1, places // PIECES) if self.choices.dynamic else 1
        sort = [] if what.to is None else ["route.sort();"]
        loop = [
            f"epx::share<{share}>({-(-places // pieces)}, [&](int64_t u) {{",
            f"  for (int64_t to = u * {pieces}; to < epx::least(u * {pieces} + {pieces}, {places}); ++to) {{",
            *indent(indent(body)), "  }", "});",
        ]  # fmt: skip
        threads = f" num_threads({self.choices.threads})" if self.choices.threads else ""
        team = [] if self.choices.threads == 1 else [f"#pragma omp parallel{threads}"]
        return [
            f"epx::Sorted route({rows if sort else 1}, {places});",
            *(self._places() if what.to is not None else self._bags()),
            *team, "{", *indent([*sort, *loop]), "}",
        ]  # fmt: skip

    def _scalar(self, value: Value, axes: Sequence[Axis], scope: Scope) -> str:
        self.lane, self.scopes = None, [scope]
        assert value.axes <= set(axes)
        return self.use(value)

    def _check(self, scope: Scope, *used: Value) -> None:
        """Conditions under which the reference has to take the call: noted for all rows, or
        row by row where one decides what the next reads, or what is `used`."""
        values = walk((*self.what.outside, *used))
        looks_up = any(isinstance(v, Load) and v.indirect for v in values)
        for truth in self.what.outside:
            bad = self._scalar(truth, [self.what.row], scope)
            scope.lines.append(f"if ({bad}) return 1;" if looks_up else f"bad |= {bad};")

    def _places(self) -> list[str]:
        """Each row goes where its value says."""
        assert self.what.to is not None
        scope = Scope(frozenset({self.what.row}))
        self._check(scope, self.what.to)
        to = self._scalar(self.what.to, [self.what.row], scope)
        scope.lines.append(f"route.place.data[row] = int32_t({to});")
        return self._every_row(scope)

    def _every_row(self, scope: Scope) -> list[str]:
        return [
            "int64_t bad = 0;  // as wide as what is looked at: compilers take many rows at once",
            f"for (int64_t row = 0; row < {self.what.row.size}; ++row) {{",
            *indent(scope.lines), "}",
            "if (bad) return 1;  // the reference takes the call",
        ]  # fmt: skip

    def _bags(self) -> list[str]:
        """The rows of each place lie side by side."""
        what = self.what
        assert what.starts is not None
        rows, places = what.row.size, what.place.size
        scope = Scope(frozenset({what.row}))
        self._check(scope)
        start = Scope(frozenset({what.place}))
        begin = self._scalar(what.starts, [what.place], start)
        start.lines += [
            f"if ({begin} < before || {begin} > {rows} || (to == 0 && {begin} != 0)) return 1;",
            f"route.first.data[to] = int32_t(before = {begin});",
        ]
        return [
            *(self._every_row(scope) if what.outside else []),
            "int64_t before = 0;",
            f"for (int64_t to = 0; to < {places}; ++to) {{", *indent(start.lines), "}",
            f"route.first.data[{places}] = {rows};",
        ]  # fmt: skip

    def _adding(self) -> list[str]:
        """One place: what was there, and its rows in order, a tile of columns at a time."""
        what, N = self.what, self.choices.width
        self.lane = what.column
        outer = Scope(frozenset({what.place, what.column}))
        self.scopes = [outer]
        first = self.vector(what.first)
        scope = Scope(frozenset({what.row, what.place, what.column}))
        self.scopes = [scope]
        value = self.vector(what.value)
        count = "const int64_t count = last - start;"
        mean = [count, "if (count > 0) total = total / epx::splat<V>(float(count));"]
        inside = [
            *outer.lines, f"V total = {first};",
            "for (int64_t at = start; at < last; ++at) {",
            f"  const int64_t row = {'at' if what.to is None else 'route.slot.data[at]'};",
            *indent([*scope.lines, f"total = total + {value};"]), "}",
            *(mean if what.mean else []),
            f"epx::put(tail, y0 + {self.address(what.store.index)}, total, n);",
        ]  # fmt: skip
        return [
            "const int64_t start = route.first.data[to], last = route.first.data[to + 1];",
            f"epx::along<{N}>({what.column.size}, [&](auto tail, int64_t j, int n) EPX_BODY {{",
            "  (void)n;", *indent(inside), "});",
        ]  # fmt: skip


def options(chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision may take."""
    lanes = max(4, chip.vector_bytes // 4)
    return {
        "width": tuple(w for w in (lanes // 2, *(lanes * k for k in TILES)) if w >= 4),
        "threads": tuple(dict.fromkeys((0, 1, max(1, chip.cores // 2)))),
        "dynamic": (0, 1),
    }


def guess(what: Sums, chip: Chip) -> Choices:
    """Places have unequal numbers of rows, so that threads take them as they get free. A tile of
    many columns adds more at once than a sum waits for."""
    lanes = max(4, chip.vector_bytes // 4)
    width = max(lanes * k for k in TILES if k == 1 or lanes * k <= what.column.size)
    small = what.row.size * what.column.size < SMALL
    return Choices(width=width, threads=int(small), dynamic=1)
