"""The grower's hand for Triton: the same algebra and search, written for NVIDIA and AMD."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

from epitaxy.proposer import View
from epitaxy.proposers._carry import Dialect
from epitaxy.proposers._cross import Captured, CrossGrower
from epitaxy.proposers._genomes import moves
from epitaxy.proposers.triton.choices import DECISIONS

LANGUAGE, TITLE = "triton", "Triton"
_WHOLE = {"block_m": "rows", "warps": "lanes", "stages": "stages", "operands": ""}
MEANINGS = {
    "product": {**_WHOLE, "block_n": "columns", "block_k": "depth", "group": "group"},
    "attention": {**_WHOLE, "block_n": "keys", "skip": ""},
    "rows": {"block_m": "rows", "block_n": "folded", "warps": "lanes", "split": "split"},
    "elements": {"block_m": "elements", "warps": "lanes"},
}


def plugin() -> CrossGrower:
    """A fresh proposer."""
    dialect = Dialect(LANGUAGE, DECISIONS, MEANINGS, units={"warps": "warp_lanes"})
    return CrossGrower(LANGUAGE, TITLE, _Captured, dialect)


class _Captured(Captured):
    """A problem captured for Triton."""

    def __init__(self, view: View) -> None:
        from epitaxy.proposers.triton import space

        super().__init__(view, LANGUAGE, TITLE, _refusal)
        self.start = space.start(self.regions, view.chip)
        self.spaces = space.spaces(self.regions, self.start, view.chip)

    def read(self, printed: str) -> Any:
        """A printed genome."""
        from epitaxy.proposers.triton.choices import parse

        return parse(printed)

    def around(self, elite: Sequence[tuple[Any, str]], rng: random.Random) -> Iterator[Any]:
        """The guess, and the neighbours of the best."""
        from epitaxy.proposers.triton.choices import changed

        return moves(self.start, self.spaces, elite, rng, changed)

    def changed(self, genome: Any, region: str, decision: str, value: int) -> Any:
        """A copy with one decision of one region changed."""
        from epitaxy.proposers.triton.choices import changed

        return changed(genome, region, decision, value)

    def fault(self, genome: Any) -> str:
        """The limit of the chip that a genome exceeds, or why it cannot be written."""
        from epitaxy.proposers.grower.emit_expr import Unsupported
        from epitaxy.proposers.triton import space
        from epitaxy.proposers.triton.choices import of

        try:
            each = (space.excess(r, of(genome, r.name), self.chip) for r in self.regions)
            return next(filter(None, each), "")
        except Unsupported as why:
            return str(why)

    def write(self, genome: Any) -> tuple[str, str, str] | None:
        """The texts of a genome; None when it cannot be written or exceeds the chip."""
        from epitaxy.proposers.grower.emit_expr import Unsupported
        from epitaxy.proposers.triton import emit
        from epitaxy.proposers.triton.choices import text

        if self.fault(genome):
            return None
        try:
            kernels, cut = emit.write_source(self.regions, genome, None)
        except Unsupported:
            return None
        with contextlib.suppress(Unsupported):  # without a smaller form it is built and not run
            if self.fits_small and self.small is not None:
                kernels, cut = emit.write_source(self.regions, genome, self.small.regions)
        return text(genome), kernels, cut


def _refusal(region: Any) -> str:
    """Why a region cannot be written at all; "" when it can."""
    from epitaxy.proposers.grower.emit_expr import Unsupported
    from epitaxy.proposers.triton import emit
    from epitaxy.proposers.triton.choices import Choices

    try:
        emit.write_region(region, Choices(block_m=16, block_n=1 << 20))
    except Unsupported as why:
        return str(why)
    return ""
