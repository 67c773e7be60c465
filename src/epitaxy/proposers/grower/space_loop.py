"""A good start for loops over time steps, from the sizes of their states and the measured chip."""

from __future__ import annotations

import math

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Map, Region, walk
from epitaxy.proposers.grower.algebra_whole import Loop
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule_loop import plan_loop

SMALL = 1 << 16
"""Points of all steps together under which one thread is enough."""


def options(chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision may take."""
    lanes = max(4, chip.vector_bytes // 4)
    return {
        "width": tuple(w for w in (lanes // 2, lanes, lanes * 2) if 4 <= w <= 16),
        "tile": tuple(lanes * k for k in (1, 2, 4, 8, 16, 32)),
        "unroll": (1, 2, 4, 8),
        "threads": tuple(dict.fromkeys((0, 1, max(1, chip.cores // 2)))),
        "dynamic": (0, 1),
    }


def guess(region: Region, chip: Chip) -> Choices:
    """A tile of which the state fits half the nearest cache, and enough tasks for the cores."""
    loop = region.loop
    assert loop is not None
    lanes = max(4, chip.vector_bytes // 4)
    plan = plan_loop(loop, lanes)
    deep = max(
        math.prod(a.size for a in s.axes if a not in plan.outer and a != plan.lane)
        for s in loop.states
    )
    near = chip.levels[0].bytes if chip.levels else 32 << 10
    tile = 16 * lanes
    while tile > lanes and tile * deep * 4 > near // 2:
        tile //= 2
    rows = math.prod(a.size for a in plan.outer)
    while tile > lanes and rows * -(-plan.lane.size // tile) < 2 * chip.cores:
        tile //= 2
    return Choices(
        width=lanes, tile=tile, unroll=2, threads=1 if points(loop) < SMALL else 0, dynamic=0
    )


def points(loop: Loop) -> int:
    """Elements of all states over all steps."""
    return loop.time.size * sum(math.prod(a.size for a in s.axes) for s in loop.states)


def flops(loop: Loop) -> int:
    """Operations of all steps, each function counted as one."""
    return sum(
        math.prod(a.size for a in {*v.axes, loop.time})
        for v in walk(loop.roots)
        if isinstance(v, Map)
    )
