"""Element-wise kernels that read a matrix across its rows: squares of it are turned in registers."""

from __future__ import annotations

from epitaxy.proposers.grower.algebra import Axis, Load, Scan
from epitaxy.proposers.grower.emit_expr import Scope, indent
from epitaxy.proposers.grower.emit_kernel import Passes
from epitaxy.proposers.grower.emit_loops import RowWriter
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule import Kernel

WORTH = 4096
"""Elements from which on turning squares beats reading lane by lane."""


def turned_axis(kernel: Kernel, lane: Axis | None, choices: Choices) -> Axis | None:
    """The axis along which loads lie that are strided along the lanes; None where there are none,
    or squares would be mostly empty."""
    passes = Passes(kernel)
    if lane is None or passes.count != 1 or passes.reduces or kernel.numel < WORTH:
        return None
    if any(isinstance(v, Scan) for v in passes.values):  # carries what it has along its row
        return None
    axes = [a for a in (*kernel.outer, *kernel.inner) if a != lane and a.size >= choices.width]
    found = [a for v in passes.values for a in axes if _turns(v, lane, a)]
    return found[0] if found and lane.size >= choices.width else None


def _turns(value: object, lane: Axis, across: Axis) -> bool:
    return (
        isinstance(value, Load)
        and value.dtype == "float32"
        and not value.indirect
        and not value.guards
        and abs(value.index.coefficient(lane)) > 1
        and value.index.coefficient(across) == 1
    )


class TurnedWriter(RowWriter):
    """A task is a strip of rows as high as a vector is wide; it goes along them square by square."""

    across: Axis

    def write_across(self, across: Axis) -> list[str]:
        """The block of C++; `across` numbers the rows of a strip."""
        self.across = across
        self.turns: dict[Load, str] = {}
        self.begin()
        lane, N = self.lane, self.N
        assert lane is not None
        outer = [a for a in (*self.kernel.outer, *self.kernel.inner) if a not in (lane, across)]
        self.names[lane] = "i"
        strip = Scope(frozenset(outer))
        row = Scope(frozenset((*outer, across)))
        body = self.body(0, [strip, row, Scope(frozenset((*outer, across, lane)))])
        name = self.names[across]
        fill = [self._fill(load, to) for load, to in self.turns.items()]
        lines = [
            *strip.lines,
            f"const int64_t low = strip * {N}, rows = epx::least({N}, {across.size} - low);",
            *(f"alignas(64) float {to}[{N * N}];" for to in self.turns.values()),
            f"auto each = [&](auto tail, int64_t i, int64_t {name}, int u, int n) EPX_BODY {{",
            "  (void)u, (void)n;", *indent([*row.lines, *body.lines]), "};",
            f"for (int64_t i = 0; i < {lane.size}; i += {N}) {{",
            f"  const int n = int(epx::least({N}, {lane.size} - i));", *indent(fill),
            "  for (int64_t r = low; r < low + rows; ++r)",
            f"    if (n == {N}) each(epx::whole{{}}, i, r, 0, n);",
            "    else each(epx::part{}, i, r, 0, n);", "}",
        ]  # fmt: skip
        tasks = [(self.names[a], a.size) for a in outer] + [("strip", -(-across.size // N))]
        return self.task_loop(tasks, lines, [])

    def _fill(self, load: Load, to: str) -> str:
        """The call that turns the square of `load` at rows `low` and columns `i`."""
        assert self.lane is not None
        name, self.names[self.across] = self.names[self.across], "low"
        pointer = f"{self.buffers[load.buffer][0]} + {self.address(load.index)}"
        self.names[self.across] = name
        return (
            f"epx::turn<{self.N}>({to}, {pointer}, {load.index.coefficient(self.lane)}, rows, n);"
        )

    def _load(self, load: Load, vector: bool) -> str:
        if not vector or self.lane is None or not _turns(load, self.lane, self.across):
            return super()._load(load, vector)
        to = self.turns.setdefault(load, f"turned{len(self.turns)}")
        place = f"({self.names[self.across]} - low) * {self.N}"
        return f"epx::get<V>({self.tail}, {to} + {place}, {self.lanes})"
