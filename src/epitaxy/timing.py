"""The only clock, the plans of measurement, and the statistics of paired times."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from epitaxy.errors import BadInput
from epitaxy.record import Record, record
from epitaxy.verdict import Comparison

RESAMPLES = 2000
BURST_S = 1.5e-3
"""A burst is at least this long, so that the broker's clock and wake-up weigh little."""
LONGEST_BURST = 512


def now_s() -> float:
    """Seconds on a monotonic clock, for durations."""
    return time.perf_counter()


def unix_s() -> float:
    """Seconds since 1970, for dates."""
    return time.time()


@record
class Plan(Record):
    """How much is measured: interleaved rounds in each of several fresh processes.

    `cases` is how many input distributions are checked (0 = all); `rechecks` how many timed
    outputs per process are checked again; `limit_s` bounds the timing of one process.
    """

    name: str
    rounds: int
    processes: int
    cases: int
    rechecks: int
    limit_s: float


PLANS: Mapping[str, Plan] = {
    "screen": Plan(name="screen", rounds=15, processes=1, cases=2, rechecks=1, limit_s=1.5),
    "full": Plan(name="full", rounds=20, processes=3, cases=0, rechecks=2, limit_s=6.0),
}


def plan(name: str) -> Plan:
    """The plan of that name. Raises BadInput."""
    if name not in PLANS:
        raise BadInput(f"unknown plan {name!r}", f"use one of {', '.join(PLANS)}")
    return PLANS[name]


class Timed(Protocol):
    """What can be timed: a worker."""

    overhead_s: float

    def burst(self, slots: Sequence[int]) -> float:
        """Seconds for one call per slot."""


def calls_per_burst(worker: Timed, slot: int) -> int:
    """Calls that make a burst of about BURST_S, from two trial bursts."""
    worker.burst([slot])
    call_s = max(worker.burst([slot]) - worker.overhead_s, 1e-7)
    return max(1, min(LONGEST_BURST, math.ceil(BURST_S / call_s)))


def interleave(
    workers: Mapping[str, Timed],
    slots: Sequence[int],
    chosen: Plan,
    rng: random.Random,
    after: Callable[[int, str, int], Any] = lambda *_: None,
    stop: Callable[[Mapping[str, list[float]]], bool] = lambda _: False,
) -> dict[str, list[float]]:
    """Seconds per call of each worker, one burst each in every round, in random order.

    Burst lengths vary so that the last call cannot be foreseen. `after(round, name, slot)` may
    look at outputs; `stop(samples)` ends early. At least five rounds are taken.
    """
    counts = {name: calls_per_burst(w, slots[0]) for name, w in workers.items()}
    samples: dict[str, list[float]] = {name: [] for name in workers}
    start = now_s()
    for number in range(chosen.rounds):
        order = list(workers)
        rng.shuffle(order)
        slot = rng.choice(list(slots))
        for name in order:
            most = counts[name]
            count = rng.randint(max(1, most - most // 4), most + most // 4)
            picked = [rng.choice(list(slots)) for _ in range(count - 1)] + [slot]
            seconds = workers[name].burst(picked) - workers[name].overhead_s
            samples[name].append(max(seconds, 1e-9) / count)
            after(number, name, slot)
        if number >= 4 and (stop(samples) or now_s() - start > chosen.limit_s):
            break
    return samples


def median(values: Sequence[float]) -> float:
    """The middle value (mean of the two middle ones)."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def compare(baseline: str, theirs: Sequence[float], ours: Sequence[float]) -> Comparison:
    """Candidate against baseline from paired times (s): the median of theirs/ours.

    The 95 % interval is a percentile bootstrap of that median over rounds (2,000 resamples, fixed
    seed), from 30 rounds on drawn in circular blocks of about the cube root of their number,
    because neighbours in time share a disturbance; with fewer rounds, blocks make the interval
    too narrow. `detectable` is its half-width on the log scale: the least effect
    that these samples would have shown. Efron, Tibshirani, "An Introduction to the Bootstrap",
    1993, ch. 13 and section 8.6. Raises BadInput when the samples are not pairs.
    """
    if len(theirs) != len(ours) or not len(ours):
        raise BadInput("times must come in pairs", f"{len(theirs)} against {len(ours)}")
    import numpy as np

    ratios = np.log(np.asarray(theirs, dtype=float) / np.asarray(ours, dtype=float))
    rounds = len(ratios)
    block = round(rounds ** (1 / 3)) if rounds >= 30 else 1
    starts = np.random.default_rng(7).integers(0, rounds, (RESAMPLES, -(-rounds // block), 1))
    draws = ((starts + np.arange(block)) % rounds).reshape(RESAMPLES, -1)[:, :rounds]
    medians = np.median(ratios[draws], axis=1)
    middle = float(np.median(ratios))
    low, high = (float(q) for q in np.quantile(medians, [0.025, 0.975]))
    low, high = min(low, middle), max(high, middle)
    bounds = math.exp(low), math.exp(middle), math.exp(high)
    outcome = "faster" if bounds[0] > 1 else "slower" if bounds[2] < 1 else "no evidence"
    return Comparison(
        baseline=baseline,
        time_s=median(theirs),
        speedup=bounds[1],
        low=bounds[0],
        high=bounds[2],
        outcome=outcome,
        detectable=math.expm1((high - low) / 2),
        pairs=len(ours),
    )


def drift(samples: Sequence[float]) -> float:
    """How much the second half differs from the first, as a ratio of medians minus one."""
    half = len(samples) // 2
    return median(samples[half:]) / median(samples[:half]) - 1 if half else 0.0
