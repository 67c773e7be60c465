"""Thin contractions as C++: few rows, where the right operand is read once, as it lies."""

from __future__ import annotations

import math

from epitaxy.proposers.grower.contract import (
    BYTES,
    FLOATS,
    INTEGERS,
    Contraction,
    load_of,
    multiplied,
    size_of,
    step,
)
from epitaxy.proposers.grower.emit_expr import indent
from epitaxy.proposers.grower.emit_gemm import GemmWriter, even

TILES, LINES, ROWS, FILTERS, TURNED = range(5)
"""Forms of a contraction: register tiles, lanes along k, rows of the right operand, of a convolution
lanes along the filters, and register tiles whose lanes run along the rows of the result."""
MOST_ROWS = 16


def form_of(wanted: int, what: Contraction) -> int:
    """The form `wanted` where the layout of the operands allows it, else register tiles."""
    if what.fetched:
        return TILES
    a, b = load_of(what.left).index, load_of(what.right).index
    if wanted == LINES and step(a, what.inner) == 1 and step(b, what.inner) == 1:
        return LINES
    if wanted == ROWS and step(b, what.columns) == 1 and size_of(what.rows) <= MOST_ROWS:
        return ROWS
    if wanted == TURNED and multiplied(what) == FLOATS and what.rows:
        loads = ((a, what.rows), (a, what.inner), (b, what.inner), (b, what.columns))
        return TILES if any(step(index, axes) is None for index, axes in loads) else TURNED
    return TILES


class ThinWriter(GemmWriter):
    """The forms LINES and ROWS: no copies, no register tiles over both operands."""

    def write(self) -> list[str]:
        """The block of C++."""
        form = form_of(self.choices.form, self.what)
        name = "lines" if form == LINES else "rows"
        call = f"epx::contract_{name}<Shape>(a, b, finish);"
        return ["{", *indent([*self._common(), *self._run(call)]), "}"]

    def _shape(self) -> dict[str, int]:
        """Those of register tiles, with the tile and the blocks of the form."""
        n, chosen = size_of(self.what.columns), self.choices
        usual = super()._shape()
        if multiplied(self.what) == BYTES:
            usual["DOT"] = INTEGERS
        if form_of(chosen.form, self.what) == ROWS:
            return {**usual, "JC": even(n, chosen.nc, self.N)}
        high = max(1, min(4, chosen.tile_m, size_of(self.what.rows)))
        wide = min(8, n, (12 if self.N < 16 else 24) // high)
        return {**usual, "MR": high, "NV": wide, "JC": even(n, chosen.nc, math.lcm(wide, self.N))}
