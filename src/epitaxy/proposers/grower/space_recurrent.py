"""A good start for recurrent layers, from the sizes and the measured chip."""

from __future__ import annotations

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Recurrence
from epitaxy.proposers.grower.emit_recurrent import ALONE, LAYERS
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.recurrent import GATES
from epitaxy.proposers.grower.space_contract import cache_bytes, registers

WORTH_STEP = 200_000
"""Floating-point operations of a step under which the threads wait for each other longer than
they work."""

SPAN_BYTES = 1 << 20
"""Of what x gives to the steps that are worked on at a time: more leaves the caches too early."""


def options(chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision may take."""
    lanes = max(4, chip.vector_bytes // 4)
    return {
        "width": tuple(w for w in (lanes // 2, lanes) if w >= 4),
        "threads": tuple(dict.fromkeys((0, 1, max(1, chip.cores // 2)))),
        "tile_m": (1, 2, 3, 4, 5, 6) if registers(chip) < 32 else (2, 4, 6, 8),
        "tile_n": (1, 2, 3),
        "unroll": (1, 2, 4, 8),
        "split_k": (1, 2, 4, 8, 16),
        "form": (0, ALONE, LAYERS),
        "mc": (1, 2, 4, 8, 16, 32, 64),
    }


FEWEST = 4
"""Rows under which a thread of its own reads weights more often than it multiplies with them."""


def guess(what: Recurrence, chip: Chip, kept: bool) -> Choices:
    """A tile that fills the registers with one panel's gates, and threads where a step is long.

    `kept`: copies of the weights are, so that threads may share them without copying first.
    """
    gates = GATES[what.kind]
    across = gates if gates == 3 else 2
    most = max(1, (registers(chip) - across - 1) // across)
    tiles = -(-what.batch // most)
    summed = 4 * what.batch * gates * what.units  # bytes of what x gives in a step
    step = 2 * what.batch * gates * what.units * what.units
    alone = _alone(what, chip, most) if kept else 0
    spans = 0 if alone else _spans(what, chip, step)
    waits = what.steps // FEWEST if alone else what.steps // spans if spans else 1
    worth = step * waits > WORTH_STEP
    return Choices(
        width=max(4, chip.vector_bytes // 4),
        threads=0 if worth else 1,
        tile_m=alone or -(-what.batch // tiles),
        tile_n=2, unroll=4, dynamic=0,
        split_k=max(1, spans, min(16, what.steps // 8, -(-what.steps * summed // SPAN_BYTES))),
        form=ALONE if alone else LAYERS if spans else 0, **({"mc": alone} if alone else {}),
    )  # fmt: skip


def _spans(what: Recurrence, chip: Chip, step: int) -> int:
    """Spans of steps that threads with layers of their own wait after, so many that the first and
    the last of them, when few layers have work, are short. 0 where threads should not have layers
    of their own: too few, both ways, or with weights that leave the second cache between steps."""
    weights = 8 * GATES[what.kind] * what.units**2
    if what.ways > 1 or weights > cache_bytes(chip, 1):
        return 0
    if chip.cores == 1 or what.layers < (chip.cores if step > WORTH_STEP else 2):
        return 0
    return min(16, what.steps // 8)


def _alone(what: Recurrence, chip: Chip, most: int) -> int:
    """Rows for a thread of its own: as many as a tile may have, with equal work for all cores and
    weights that stay in the second cache; 0 where there are none such."""
    weights = 4 * GATES[what.kind] * what.units**2
    if 4 * weights > 5 * cache_bytes(chip, 1):
        return 0
    fits = [
        rows
        for rows in range(FEWEST, min(most, what.batch) + 1)
        if what.batch % rows == 0 and what.ways * (what.batch // rows) % chip.cores == 0
    ]
    return max(fits, default=0)
