"""Contractions whose right operand is read vector by vector as it is packed: convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import Axis
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit_expr import Scope, indent
from epitaxy.proposers.grower.emit_gemm import GemmWriter, decoded


class ConvWriter(GemmWriter):
    """Columns are vectors of neighbouring pixels; `fetch` reads one for one step of the sum."""

    def write(self) -> list[str]:
        """The block of C++."""
        sizes = ", ".join(f"{name} = {value}" for name, value in self._shape().items())
        finish, fetch = self._finish(), self._fetch()
        body = [
            f"struct Shape {{ enum : int64_t {{ {sizes} }}; }};",
            "using G = epx::Gemm<Shape>;",
            "const epx::Scratch<float> pa(Shape::BATCH * G::a_batch);",
            f"const auto a = [=](int64_t t) {{ {self._operand(self.what.left)} }};",
            "const auto fetch = [=](auto tail, int64_t t, int64_t k, int64_t row, int64_t x, int n) "
            "EPX_BODY {",
            "  (void)t, (void)k, (void)row, (void)x, (void)n;",
            *indent(fetch),
            "};",
            "const auto finish = [=](auto tail, int64_t t, int64_t i, int64_t row, int64_t x, V sum, "
            "int n) EPX_BODY {",
            "  (void)t, (void)i, (void)row, (void)x, (void)n;",
            *indent(finish),
            "};",
        ]
        return [
            "{",
            *indent(body + self._run("epx::convolve<Shape>(a, fetch, pa.data, finish);")),
            "}",
        ]

    def _right(self) -> tuple[int, int]:
        """Of no use: the right operand is fetched."""
        return 1, 1

    def _columns(self) -> int:
        """Lanes of all pixel vectors."""
        *rows, across = self.what.columns
        return size_of(rows) * -(-across.size // self.N) * self.N

    def _shape(self) -> dict[str, int]:
        """Those of a contraction, with the left operand always copied, and the pixels of a row."""
        across = self.what.columns[-1].size
        forced = {"PACK_A": 1, "PACK_B": 1, "PARTS": 1}
        return {**super()._shape(), **forced, "X": across, "XV": -(-across // self.N)}

    def _places(self, *groups: tuple[str, Sequence[Axis]]) -> list[str]:
        """Declarations of every axis' position, from that of its group."""
        lines = []
        for variable, axes in groups:
            for axis, text in decoded(variable, axes):
                if text == variable:
                    self.names[axis] = variable
                else:
                    lines.append(f"const int64_t {self.names[axis]} = {text};")
        return lines

    def _fetch(self) -> list[str]:
        """One vector of the right operand."""
        what = self.what
        axes = frozenset((*what.batch, *what.inner, *what.columns))
        places = self._places(
            ("t", what.batch),
            ("k", what.inner),
            ("row", what.columns[:-1]),
            ("x", what.columns[-1:]),
        )
        scope = Scope(axes, lines=places)
        self.scopes, self.prefetch = [scope], 0
        value = self.vector(what.right)
        return [*scope.lines, f"return {value};"]

    def _finish(self) -> list[str]:
        """What happens to one vector of sums."""
        what, (target,) = self.what, self.kernel.targets
        places = self._places(
            ("t", what.batch),
            ("i", what.rows),
            ("row", what.columns[:-1]),
            ("x", what.columns[-1:]),
        )
        scope = Scope(frozenset(self.kernel.outer), lines=places, memo={what.total: "sum"})
        self.scopes, self.prefetch = [scope], 0
        scope.lines.append(self.put(target, self.vector(target.value), vector=True))
        return scope.lines
