"""Variants of a kernel timed side by side with the kernel as it is: ratios with intervals."""

from __future__ import annotations

import contextlib
import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from epitaxy import paired, timing
from epitaxy.errors import MachineFault
from epitaxy.machine import Job, WorkerFailure
from epitaxy.measure import AGAIN, OURS
from epitaxy.profiling.sampling import Sampler, Seen
from epitaxy.timing import Taken
from epitaxy.verdict import Comparison

SLOTS = (0, 1)
ROUNDS, MOST_ROUNDS = 20, 80
"""Rounds that are taken at least, and at most while an interval is wider than NARROW."""
LIMIT_S = 10.0
"""Seconds after which timing ends on a busy machine."""
NARROW = 0.05
"""Half the width that every interval shall have, as a share of its ratio."""
STEP = 5
"""Rounds between two looks at the intervals."""
FAST_END = 0.15
"""The quantile of its times that stands for a party."""
SAMPLED_S = 0.4
"""How long the kernel is watched."""
BURST_S = 0.05
"""A burst that is watched: so long that what is done before it weighs little."""
SETTLED, SETTLING_S = 4, 1.5
"""Bursts in a row without new memory that a kernel is given before it is watched, and for how
long."""
FAR_SLOWER, TRIALS = 8.0, 8
"""A variant this many times as slow in all of its trials is not timed on: they say enough."""


@dataclass
class Timings:
    """Seconds per call of each party by name, with `failed` variants and why they did."""

    taken: Taken
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str) -> Comparison | None:
        """The time of a variant divided by that of the kernel as it is; None where one was not
        timed. `speedup` is that ratio: below 1 the variant is faster.

        The kernel stands for itself by the faster of its two processes, where it has two, and the
        interval is widened by how much those differ: where memory happens to lie is no finding.
        """
        times = self.taken.times
        if not {name, OURS} <= set(times):
            return None
        ours = min((times[n] for n in (OURS, AGAIN) if n in times), key=fast_end)
        return of_fast_ends(name, times[name], ours, self.apart)

    @property
    def apart(self) -> float:
        """How far two processes of the same code are apart, as a logarithm; 0.0 for one."""
        times = self.taken.times
        if AGAIN not in times:
            return 0.0
        return abs(math.log(fast_end(times[AGAIN]) / fast_end(times[OURS])))

    @property
    def time_s(self) -> float:
        """The fast end of the kernel's times as it is (s)."""
        return min(fast_end(v) for n, v in self.taken.times.items() if n in (OURS, AGAIN))


def fast_end(times: Sequence[float]) -> float:
    """The FAST_END quantile of some times (s)."""
    return sorted(times)[int(FAST_END * len(times))]


def of_fast_ends(
    name: str, theirs: Sequence[float], ours: Sequence[float], more: float = 0.0
) -> Comparison:
    """The ratio of the FAST_END quantiles of two parties' times, its interval by bootstrap.

    Other processes only ever slow a call down, so that the fast end of its times is its own
    (Chen, Revels, "Robust benchmarking in noisy environments", 2016); the 99 % percentile interval
    is over resampled rounds (Efron, Tibshirani, 1993, ch. 13), widened by what processes differ:
    `paired.PRIOR`, and `more` (a logarithm).
    """
    import numpy as np

    pairs = np.log(np.asarray([theirs, ours], dtype=float))
    rng = np.random.default_rng(7)
    picked = rng.integers(0, pairs.shape[1], (paired.RESAMPLES, pairs.shape[1]))
    ends = np.quantile(pairs[:, picked], FAST_END, axis=2)
    found = np.quantile(pairs, FAST_END, axis=1)
    middle = float(found[0] - found[1])
    tail = (1 - paired.CONFIDENCE) / 2
    low, high = (float(q) for q in np.quantile(ends[0] - ends[1], [tail, 1 - tail]))
    apart = float(np.hypot(paired.student(paired.PRIOR.df) * paired.PRIOR.sd, more))
    low = middle - float(np.hypot(middle - min(low, middle), apart))
    high = middle + float(np.hypot(max(high, middle) - middle, apart))
    bounds = [float(np.exp(min(v, 700.0))) for v in (low, middle, high)]
    outcome = "faster" if bounds[0] > 1 else "slower" if bounds[2] < 1 else "no evidence"
    return Comparison(
        baseline=name, time_s=float(np.exp(found[0])), speedup=bounds[1], low=bounds[0],
        high=bounds[2], outcome=outcome, detectable=bounds[2] / bounds[1] - 1, pairs=len(ours),
        confidence=paired.CONFIDENCE,
    )  # fmt: skip


class _Narrow:
    """Rounds until every interval is narrow, or the time is up."""

    def enough(self, taken: Taken, elapsed_s: float) -> bool:
        """Whether to stop."""
        if taken.rounds < timing.LEAST_ROUNDS:
            return False
        if taken.rounds >= MOST_ROUNDS or elapsed_s > LIMIT_S:
            return True
        if taken.rounds < ROUNDS or taken.rounds % STEP:
            return False
        ratios = (Timings(taken).ratio(name) for name in taken.times if name not in (OURS, AGAIN))
        return all(r is None or r.half_width <= NARROW for r in ratios)


@dataclass
class Watched:
    """What was seen of the kernel as it is: samples, and pages that the system found per call."""

    seen: Seen
    faults: float


class Clock:
    """Workers on one machine with the problem's own inputs, timed in rounds. Use with `with`."""

    def __init__(self, machine: Any, reference: Any) -> None:
        self.machine, self.reference = machine, reference
        seed = secrets.randbits(40)
        self.inputs = [reference.inputs(seed + slot, "given") for slot in SLOTS]
        self.failed: dict[str, str] = {}
        self._workers: dict[str, Any] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, name: str, job: Job, even: bool = False) -> None:
        """Start a variant; `even`: its inputs have one value. One that fails at its first calls is
        noted in `failed`. Raises WorkerFailure where it is the kernel itself (OURS)."""
        worker = self._stack.enter_context(self.machine.start(job))
        try:
            worker.prepare(self.reference.init_arguments(), self.reference.state())
            for slot, values in zip(SLOTS, self.inputs, strict=True):
                worker.write(slot, [_even(v) for v in values] if even else values)
            worker.burst([*SLOTS, *SLOTS])
            self._workers[name] = worker
            self._not_far(name)
        except WorkerFailure as failure:
            if name == OURS:
                raise
            self._workers.pop(name, None)
            self.failed[name] = _ended(failure)

    def _not_far(self, name: str) -> None:
        """Drop a variant that is so slow that timing it would take most of the time."""
        ours = min(self._workers[OURS].burst(SLOTS) for _ in range(3))
        theirs = math.inf
        for _ in range(TRIALS):  # its heap may have to grow first
            theirs = min(theirs, self._workers[name].burst(SLOTS))
            if theirs <= max(FAR_SLOWER * ours, BURST_S):
                return
        del self._workers[name]
        self.failed[name] = f"about {theirs / ours:.0f} times as slow: not timed further"

    def watch(self) -> Watched:
        """Sample the kernel for a while, and count the pages that the system finds for it."""
        worker = self._workers[OURS]
        each = max(worker.burst([0]), 1e-6)
        count = max(1, min(timing.LONGEST_BURST, int(BURST_S / each)))
        slots = [SLOTS[n % len(SLOTS)] for n in range(count)]
        still, until = 0, timing.now_s() + SETTLING_S
        while still < SETTLED and timing.now_s() < until:  # its heap grows until all outputs fit
            before = faults(worker.pid)
            worker.burst(slots)
            still = still + 1 if faults(worker.pid) - before < len(slots) else 0
        sampler = Sampler(worker.pid)
        calls, before = 0, faults(worker.pid)
        until = timing.now_s() + SAMPLED_S
        with sampler.watching() as seen:
            while timing.now_s() < until:
                worker.burst(slots)
                calls += count
        return Watched(seen, (faults(worker.pid) - before) / calls)

    def time(self, condition: str = "warm", only: str = "") -> Timings:
        """All that were added, interleaved in rounds; `only` one of them where it is named.

        A variant that fails meanwhile is left out, with the reason.
        """
        plan = timing.plan("screen", condition).replace(name="profile")
        rng = random.Random(secrets.randbits(64))
        workers = {only: self._workers[only]} if only else self._workers
        with getattr(self.reference, "beside_timing", contextlib.nullcontext)():
            while True:
                try:
                    taken = timing.interleave(workers, SLOTS, plan, rng, pace=_Narrow())
                    return Timings(taken, self.failed)
                except WorkerFailure as failure:
                    dead = [n for n, w in workers.items() if n != OURS and not _alive(w)]
                    if not dead:
                        raise
                    for name in dead:
                        self.failed[name] = _ended(failure)
                        del self._workers[name]


def _even(value: Any) -> Any:
    """A floating-point tensor of ones; anything else as it is: an index must stay one."""
    floating = getattr(value, "is_floating_point", None)
    return value.new_ones(value.shape) if floating is not None and floating() else value


def _alive(worker: Any) -> bool:
    try:
        worker.burst([0])
    except (WorkerFailure, MachineFault):
        return False
    return True


def _ended(failure: WorkerFailure) -> str:
    return f"{failure.kind}: {failure.message.splitlines()[0][:160]}"


def faults(pid: int) -> int:
    """Pages that the system found for a process so far (minor faults, proc(5)); 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[7])
    except (OSError, IndexError, ValueError):
        return 0
