"""A good start for experts, from the sizes of their layers and the measured chip."""

from __future__ import annotations

import math

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra_whole import Routed
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.space_contract import registers

SMALL = 1 << 18
"""Multiply-adds under which one thread is enough."""


def options(chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision may take."""
    lanes = max(4, chip.vector_bytes // 4)
    return {
        "width": tuple(w for w in (lanes // 2, lanes) if w >= 4),
        "threads": tuple(dict.fromkeys((0, 1, max(1, chip.cores // 2)))),
        "tile_m": (2, 3, 4, 5, 6) if registers(chip) < 32 else (4, 6, 8, 12),
        "tile_n": (1, 2, 3),
        "unroll": (1, 2, 4),
        "dynamic": (0, 1),
    }


def guess(what: Routed, chip: Chip) -> Choices:
    """A register tile that fills the registers; experts of unequal size, so threads take panels as
    they get free."""
    few = registers(chip) < 32
    return Choices(
        width=max(4, chip.vector_bytes // 4),
        threads=1 if flops(what, used=True) < 2 * SMALL else 0,
        tile_m=6 if few else 12,
        tile_n=2,
        unroll=1,
        dynamic=1,
    )


def flops(what: Routed, used: bool = False) -> float:
    """Of all products. `used`: only of rows that are routed, as far as that is known."""
    rows = math.prod(a.size for a in what.rows)
    each = sum(2.0 * p.depth.size * p.width.size for p in what.products)
    if what.active is None:
        return rows * each  # a row of the mask goes to one expert, mostly
    return rows * each * (what.active if used else what.expert.size)
