"""The only clock, the plans of measurement, and the rounds in which times are taken."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from epitaxy.errors import BadInput
from epitaxy.record import Record, record
from epitaxy.verdict import CONDITIONS

BURST_S = 4e-3
"""A burst is about this long, so that the broker's clock and wake-up weigh little."""
LONGEST_BURST = 512
TRIALS, TRIAL_S = 10, 0.2
"""Bursts of one call, and seconds, after which it is known how many calls make a burst."""
LEAST_ROUNDS = 8
"""Rounds that are taken however long they last: an interval on fewer says nothing."""
LONGER = 2.0
"""How many times `limit_s` a disturbed process may be timed."""
_WORK = bytes(64 << 10)


def now_s() -> float:
    """Seconds on a monotonic clock, for durations."""
    return time.perf_counter()


def unix_s() -> float:
    """Seconds since 1970, for dates."""
    return time.time()


def pulse_s() -> float:
    """Seconds that a fixed piece of arithmetic takes: the processor's speed just now.

    The least of three, so that an interruption does not pass for a change of frequency.
    """
    times = []
    for _ in range(3):
        start = now_s()
        hashlib.sha256(_WORK).digest()
        times.append(now_s() - start)
    return min(times)


@record
class Plan(Record):
    """How much is measured: interleaved rounds in each of several fresh processes.

    `rounds` are taken on a quiet machine, up to `most` while the interval is wider than
    ±`precise` or the machine is disturbed. Of `processes`, those after the first `fewest` are
    started while the interval against the strongest baseline, all errors included, is wider than
    ±`narrow`. `cases` is how many input distributions are checked
    (0 = all); `rechecks` how many timed outputs per process are checked again; `limit_s` bounds
    the timing of one process. `condition` is "warm" or "cold" (see `verdict.CONDITIONS`).
    """

    name: str
    rounds: int
    processes: int
    cases: int
    rechecks: int
    limit_s: float
    most: int = 0
    precise: float = 0.01
    fewest: int = 1
    narrow: float = 0.0
    condition: str = "warm"


PLANS: Mapping[str, Plan] = {
    "screen": Plan(
        name="screen", rounds=15, processes=1, cases=2, rechecks=1, limit_s=1.5,
        most=30, precise=0.03,
    ),
    "full": Plan(
        name="full", rounds=40, processes=5, cases=0, rechecks=2, limit_s=6.0,
        most=120, precise=0.01, fewest=3, narrow=0.025,
    ),
}  # fmt: skip


def plan(name: str, condition: str = "warm") -> Plan:
    """The plan of that name under that condition. Raises BadInput."""
    if name not in PLANS:
        raise BadInput(f"unknown plan {name!r}", f"use one of {', '.join(PLANS)}")
    if condition not in CONDITIONS:
        raise BadInput(f"unknown condition {condition!r}", f"use {' or '.join(CONDITIONS)}")
    return PLANS[name].replace(condition=condition)


class Timed(Protocol):
    """What can be timed: a worker. `waited_s`, where it has one, is how long the threads of its
    last burst were ready to run and had no processor (s, summed over threads)."""

    overhead_s: float

    def burst(self, slots: Sequence[int]) -> float:
        """Seconds for one call per slot."""


@dataclasses.dataclass(frozen=True)
class Taken:
    """What rounds in one process gave: seconds per call of each worker, in the order taken, how
    long its threads waited for a processor meanwhile (s per call), and the pulse of each round."""

    times: dict[str, list[float]]
    waits: dict[str, list[float]]
    pulses: list[float]

    @property
    def rounds(self) -> int:
        """How many rounds."""
        return len(self.pulses)


class Pace(Protocol):
    """Decides after each round whether there have been enough."""

    def enough(self, taken: Taken, elapsed_s: float) -> bool:
        """Whether to stop; `elapsed_s` is since the first round."""


class Steady:
    """The planned rounds, fewer (but not fewer than LEAST_ROUNDS) when the time is up."""

    def __init__(self, chosen: Plan) -> None:
        self.plan = chosen

    def enough(self, taken: Taken, elapsed_s: float) -> bool:
        """Whether the rounds are done or the time is up."""
        late = elapsed_s > self.plan.limit_s and taken.rounds >= LEAST_ROUNDS
        return late or taken.rounds >= self.plan.rounds


def calls_per_burst(worker: Timed, slot: int, condition: str = "warm") -> int:
    """Calls that make a burst of about BURST_S, from trial bursts; one where caches are cold: the
    second call would find them warm.

    The shortest of several trials counts. The first calls of a process fetch memory from the
    system, some took ten times as long as those after them; and who for that reason was timed one
    call at a time paid for the waking of its threads with each (8 % of 1.2 ms, four threads).
    """
    worker.burst([slot])
    overhead_s = worker.overhead_s  # measured now if at all: its empty bursts drop the last outputs

    def call_s(count: int) -> float:
        return max(worker.burst([slot] * count) - overhead_s, 1e-7) / count

    least_s = spent_s = call_s(1)
    if condition == "cold":
        return 1
    for _ in range(TRIALS):
        if spent_s > TRIAL_S:
            break
        taken_s = call_s(1)
        least_s, spent_s = min(least_s, taken_s), spent_s + taken_s
    several = _fill(least_s)
    return _fill(min(least_s, call_s(several))) if several > 1 else 1


def _fill(call_s: float) -> int:
    """How many calls of `call_s` a burst has."""
    return max(1, min(LONGEST_BURST, math.ceil(BURST_S / call_s)))


def interleave(
    workers: Mapping[str, Timed],
    slots: Sequence[int],
    chosen: Plan,
    rng: random.Random,
    after: Callable[[int, str, int], Any] = lambda *_: None,
    pace: Pace | None = None,
) -> Taken:
    """One burst of each worker in every round until `pace` has enough.

    The order is random, and every second round has the one before reversed: of any two workers each
    goes first equally often. Burst lengths vary so that the last call cannot be foreseen.
    `after(round, name, slot)` may look at outputs.
    """
    pace = pace or Steady(chosen)
    counts = {n: calls_per_burst(w, slots[0], chosen.condition) for n, w in workers.items()}
    taken = Taken({name: [] for name in workers}, {name: [] for name in workers}, [])
    start, order = now_s(), list(workers)
    while not taken.rounds or not pace.enough(taken, now_s() - start):
        number = taken.rounds
        taken.pulses.append(pulse_s())
        order = order[::-1] if number % 2 else rng.sample(list(workers), len(workers))
        slot = rng.choice(list(slots))
        for name in order:
            most, worker = counts[name], workers[name]
            count = rng.randint(max(1, most - most // 4), most + most // 4)
            picked = [rng.choice(list(slots)) for _ in range(count - 1)] + [slot]
            seconds = worker.burst(picked) - worker.overhead_s
            taken.times[name].append(max(seconds, 1e-9) / count)
            taken.waits[name].append(getattr(worker, "waited_s", 0.0) / count)
            after(number, name, slot)
    return taken


def median(values: Sequence[float]) -> float:
    """The middle value (mean of the two middle ones)."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
