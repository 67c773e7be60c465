"""The grower's hand for NKI: the same algebra and search, written for AWS's Trainium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.chip import Chip
from epitaxy.proposers._carry import Dialect
from epitaxy.proposers._cross import CrossGrower, grower
from epitaxy.proposers._genomes import Choices, Genome, Space, powers

DECISIONS = {
    "columns": "elements of the last free axis in one tile where it is not folded; of the folded "
    "axes where a partition does not hold all of them"
}
MEANINGS = {"elements": {"columns": "elements"}, "rows": {"columns": ""}}
LEAST_COLUMNS, MOST_COLUMNS = 64, 8192


def plugin() -> CrossGrower:
    """A fresh proposer."""
    return grower(Nki())


class Nki:
    """Writes NKI; see `epitaxy.proposers._cross.Hand`."""

    language = "nki"
    title = "NKI"
    decisions = tuple(DECISIONS)
    dialect = Dialect("nki", DECISIONS, MEANINGS)

    def refusal(self, region: Any, chip: Chip) -> str:
        """Why a region cannot be written; "" when it can."""
        from epitaxy.proposers.grower.emit_expr import Unsupported

        try:
            self.guess(region, chip)
        except Unsupported as why:
            return str(why)
        return ""

    def guess(self, region: Any, chip: Chip) -> Choices:
        """The widest tiles of which SBUF holds two sets, one being loaded. Raises Unsupported."""
        from epitaxy.proposers.grower.emit_expr import Unsupported
        from epitaxy.proposers.nki.kernels import write_region

        last: Unsupported | None = None
        for columns in reversed(powers(LEAST_COLUMNS, MOST_COLUMNS // 4)):
            try:
                write_region(region, Choices(columns=columns), chip)
            except Unsupported as error:
                last = error
                continue
            return Choices(columns=columns)
        assert last is not None
        raise last

    def space(self, region: Any, chip: Chip) -> Space:
        """Powers of two."""
        return {"columns": powers(LEAST_COLUMNS, MOST_COLUMNS)}

    def source(
        self, regions: Sequence[Any], genome: Genome, chip: Chip, large: Sequence[Any] | None
    ) -> str:
        """`kernels.py`. Raises Unsupported."""
        from epitaxy.proposers.nki.kernels import write_source

        return write_source(regions, genome, chip, large)
