"""Disturbances that last for several rounds hold less evidence than their number of rounds."""

from __future__ import annotations

import math
import random

from epitaxy import timing


def wandering(rng: random.Random, count: int) -> list[float]:
    """Times around 1 ms whose 2 % noise remembers 0.7 of itself from round to round."""
    level, times = 0.0, []
    for _ in range(count):
        level = 0.7 * level + rng.gauss(0, 0.02 * math.sqrt(1 - 0.7**2))
        times.append(1e-3 * math.exp(level))
    return times


def test_lasting_disturbances_do_not_pass_for_evidence():
    rng = random.Random(3)
    found = [timing.compare("b", wandering(rng, 60), [1e-3] * 60) for _ in range(200)]
    wrong = sum(c.outcome != "no evidence" for c in found)
    assert wrong <= 50  # one by one, these rounds would give 62: blocks are what counts them
