"""Contractions as C++ whose lanes run along the rows of the result: blocks of sums are turned before
they are finished. A right operand that would have to be turned first is then read where it lies, a
value at a time, and a left operand that is a weight is the one whose copy is kept."""

from __future__ import annotations

import math

from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.emit_gemm import GemmWriter, Group, even


class TurnedGemmWriter(GemmWriter):
    """`what` is the contraction as it is computed: turned, its sums are of the result."""

    @staticmethod
    def _computed(contraction: Contraction) -> Contraction:
        return contraction.turned

    def _shape(self) -> dict[str, int]:
        """Blocks begin where a vector of the result does, or there is one of all rows; sums are not
        shared."""
        usual, m = super()._shape(), size_of(self.what.rows)
        unit = math.lcm(usual["MR"], self.N)
        high = even(m, self.choices.mc, unit) if m > unit else even(m, m, usual["MR"])
        return {**usual, "MC": high, "PARTS": 1, "APART": 0, "TURNED": 1}

    def _asked(self) -> bool:
        """Never: a block's results are written together."""
        return False

    def _groups(self) -> tuple[Group, ...]:
        result = self.what.turned
        return ("t", result.batch), ("i", result.rows), ("j", result.columns)
