"""Joules of a call, from the GPU's own counter of energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

LEAST_S = 1.0
"""A burst is so long: the counter moves every few hundredths of a second."""
MOST_CALLS = 20_000
BURSTS, MOST_BURSTS = 3, 100


def per_call_j(
    worker: Any, slots: Sequence[int], call_s: float, joules: Callable[[], float]
) -> float:
    """Joules of one call of `worker`, which takes `call_s` seconds: the whole GPU's, idle power
    included, during bursts of LEAST_S seconds, or as many shorter ones as that takes. What prepares
    them is not counted."""
    calls = max(1, min(MOST_CALLS, math.ceil(LEAST_S / max(call_s, 1e-9))))
    picked = [slots[i % len(slots)] for i in range(calls)]
    bursts = max(BURSTS, min(MOST_BURSTS, math.ceil(LEAST_S / max(calls * call_s, 1e-9))))
    spent = 0.0
    for _ in range(bursts):
        spent += worker.metered(picked, joules)
    return spent / (bursts * calls)
