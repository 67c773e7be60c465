"""The grower's hand for Pallas: the same algebra and search, written for Google's TPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from epitaxy.chip import Chip
from epitaxy.proposers._carry import Dialect
from epitaxy.proposers._cross import CrossGrower, grower
from epitaxy.proposers._genomes import Choices, Genome, Space, powers

DECISIONS = {
    "rows": "second-last dimension of a block: sublanes of a register, or more; queries",
    "columns": "last dimension of a block: lanes of a register, or more; keys",
    "depth": "steps along a contracted axis between two tiles of a product's operands",
    "lead": "blocks of the next dimension that one step takes at once",
}
MEANINGS = {
    "product": {"rows": "rows", "columns": "columns", "depth": "depth"},
    "attention": {"rows": "rows", "columns": "keys"},
    "rows": {"rows": "rows", "columns": "", "lead": ""},
    "elements": {"rows": "", "columns": "elements", "lead": ""},
}
MOST_COLUMNS = 2048
DEPTH = 512
SHARE = 64
"""A first block is this share of VMEM: what is read, written and kept takes many."""
SHARE_ATTENDED = 32
"""The same of scores, of which larger blocks spread the work on each row's maximum and sum: by
libtpu's count 2048 causal queries of bfloat16, 64 deep, take 25300 bundles in blocks of 512 x 512,
and 19200 in 512 x 2048."""


def plugin() -> CrossGrower:
    """A fresh proposer."""
    return grower(Pallas())


class Pallas:
    """Writes Pallas; see `epitaxy.proposers._cross.Hand`."""

    language = "pallas"
    title = "Pallas"
    decisions = tuple(DECISIONS)
    dialect = Dialect("pallas", DECISIONS, MEANINGS)

    def refusal(self, region: Any, chip: Chip) -> str:
        """Why a region cannot be written; "" when it can."""
        from epitaxy.proposers.grower.emit_expr import Unsupported

        try:
            fitting(region, chip)
        except Unsupported as why:
            return str(why)
        return ""

    def guess(self, region: Any, chip: Chip) -> Choices:
        """The largest block that leaves room for the others."""
        return fitting(region, chip)

    def space(self, region: Any, chip: Chip) -> Space:
        """Powers of two from one register upwards."""
        from epitaxy.proposers.pallas.calls import limits

        its = limits(chip)
        return {
            "rows": powers(its.sublanes, 2048),
            "columns": powers(its.lanes, 8192),
            "depth": powers(its.lanes, 4096),
            "lead": powers(1, 16),
        }

    def source(
        self, regions: Sequence[Any], genome: Genome, chip: Chip, large: Sequence[Any] | None
    ) -> str:
        """`kernels.py`. Raises Unsupported."""
        from epitaxy.proposers.pallas.kernels import write_source

        return write_source(regions, genome, chip, large)


def fitting(region: Any, chip: Chip) -> Choices:
    """Choices whose largest block is a modest share of VMEM. Raises Unsupported."""
    from epitaxy.proposers.grower.emit_expr import Unsupported
    from epitaxy.proposers.pallas.calls import limits
    from epitaxy.proposers.pallas.kernels import write_region

    its = limits(chip)
    last: Unsupported | None = None
    for choices in _shrinking(its):
        try:
            made = write_region(region, choices, chip)
        except Unsupported as error:
            last = error
            continue
        if all(_floats(w.blocks) * 4 <= its.vmem_bytes // _share(w) for w in made.kernels):
            return choices
    smallest = Choices(rows=its.sublanes, columns=its.lanes, depth=DEPTH, lead=1)
    if last is not None:
        raise last
    return smallest


def _share(written: Any) -> int:
    return SHARE_ATTENDED if written.attends else SHARE


def _floats(blocks: Any) -> int:
    found = 1
    for n in blocks.blocks:
        found *= n
    return found


def _shrinking(its: Any) -> Iterator[Choices]:
    columns = MOST_COLUMNS
    while columns >= its.lanes:
        for rows in reversed(powers(its.sublanes, 1024)):
            yield Choices(rows=rows, columns=columns, depth=DEPTH, lead=1)
        columns //= 2
