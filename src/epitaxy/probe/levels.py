"""The cache levels that a machine really gives, found in its measured curves.

Latency by working set, with huge pages, rises in plateaus: each plateau is a level, and what one
core sees of it ends half way (in the logarithm) to the next plateau. How much of a level all cores
have together is where the bandwidth of all cores drops: the least-squares steps of that curve,
each step within the bounds that one core's capacity allows (shared or one per core).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Curve = Sequence[tuple[float, float]]

SLOPE = 1.45
"""Within a plateau the latency rises by less than this factor per octave of size."""
WIDTH = 2.7
"""A plateau spans at least this factor in size (about an octave and a half)."""
SMALLEST_STEP = 1.6
"""Neighbouring plateaus differ by at least this factor in latency."""
STEP = 0.05
"""Price of a step in the bandwidth curve, in squared log units: below it a step is noise."""


@dataclass(frozen=True)
class Plateau:
    """Working sets of `low` to `high` bytes, one core, at `latency_s`; holds `capacity` bytes."""

    low: float
    high: float
    latency_s: float
    capacity: float = 0.0


def plateaus(latency: Curve) -> list[Plateau]:
    """The flat parts of a latency curve (bytes, seconds), from the smallest to the largest set."""
    curve = _rising(sorted(latency))
    runs: list[list[tuple[float, float]]] = []
    for size, value in curve:
        if runs and value <= _allowed(runs[-1][-1], size):
            runs[-1].append((size, value))
        else:
            runs.append([(size, value)])
    flat = [r for r in runs if r[-1][0] >= WIDTH * r[0][0]]
    if not flat:
        flat = [curve[-1:]] if curve else []
    found: list[Plateau] = []
    for run in flat:
        value = statistics.median(v for _, v in run)
        if found and value < SMALLEST_STEP * found[-1].latency_s:
            found[-1] = Plateau(found[-1].low, run[-1][0], found[-1].latency_s)
        else:
            found.append(Plateau(run[0][0], run[-1][0], value))
    ends = [_crossing(curve, a, b) for a, b in itertools.pairwise(found)]
    return [
        Plateau(p.low, p.high, p.latency_s, end)
        for p, end in zip(found, [*ends, math.inf], strict=True)
    ]


def _allowed(last: tuple[float, float], size: float) -> float:
    """The most latency at `size` that still continues a plateau from its last point."""
    return float(last[1] * SLOPE ** math.log2(size / last[0]))


def _rising(curve: Curve) -> list[tuple[float, float]]:
    """Disturbances only slow a chase down: no set is slower than a larger one."""
    least = math.inf
    out = []
    for size, value in reversed(curve):
        least = min(least, value)
        out.append((size, least))
    return out[::-1]


def _crossing(curve: Curve, below: Plateau, above: Plateau) -> float:
    """The last size that is nearer to `below` than to `above`."""
    middle = math.sqrt(below.latency_s * above.latency_s)
    return max((s for s, v in curve if v < middle), default=below.high)


def boundaries(read: Curve, core_capacities: Sequence[float], cores: int) -> list[float]:
    """Bytes of each cache level for all cores, from the all-core read curve (bytes, bytes/s).

    `core_capacities` are the levels' capacities for one core, memory left out. The steps minimise
    the squared error of log(bandwidth); a level must hold 0.6 to 1.5 x cores times one core's
    (for the last cache 4 x more, as bandwidth keeps its benefit beyond what a random chase sees).
    A level that ends where the one below it ends gives all cores together nothing.
    """
    curve = sorted(read)
    values = [math.log(v) for _, v in curve]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for number, core in enumerate(core_capacities):
        last = number == len(core_capacities) - 1
        low, high = 0.6 * core, 1.5 * core * cores * (4 if last else 1)
        ends = [i + 1 for i, (s, _) in enumerate(curve) if low <= s <= high and i + 1 < len(curve)]
        step: dict[int, tuple[float, tuple[int, ...]]] = {}
        for end in ends:
            options = [
                (cost + _error(values[begin:end]), (*cuts, end))
                for begin, (cost, cuts) in best.items()
                if begin <= end
            ]
            if options:
                step[end] = min(options, key=_preferred)
        if not step:
            raise ValueError("the curve has too few points for its levels")
        best = step
    ways = [(cost + _error(values[begin:]), cuts) for begin, (cost, cuts) in best.items()]
    _, cuts = min(ways, key=_preferred)
    return [curve[c - 1][0] for c in cuts]


def _preferred(way: tuple[float, tuple[int, ...]]) -> tuple[float, tuple[int, ...]]:
    """The least cost; among equals the one that leaves nothing to the upper level."""
    cost, cuts = way
    return cost, tuple(-c for c in cuts)


def _error(values: Sequence[float]) -> float:
    """Squared error of one step, and the price of having it (an empty one is free)."""
    if not values:
        return 0.0
    mean = sum(values) / len(values)
    return STEP + sum((v - mean) ** 2 for v in values)


def rate(curve: Curve, low: float, high: float) -> float:
    """The median of a curve for sizes in (low, high]; of the nearest size when there is none.

    The outer quarter at both ends is left out when points remain: sets there straddle two levels.
    """
    if not curve:
        return 0.0
    inside = [v for s, v in curve if low * 1.5 < s <= high * 0.75]
    inside = inside or [v for s, v in curve if low < s <= high]
    if inside:
        return statistics.median(inside)
    middle = math.sqrt(max(low, 1.0) * min(high, curve[-1][0] * 2))
    return min(curve, key=lambda p: abs(math.log(p[0] / middle)))[1]
