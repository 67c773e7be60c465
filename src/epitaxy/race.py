"""Race: the best of a search side by side, so that none wins for having met a quiet moment.

Each was measured at a time of its own. The best of several uncertain figures is too good on
average, and where candidates are close it is often that of another one.
"""

from __future__ import annotations

import contextlib
import math
import random
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from epitaxy import timing
from epitaxy.candidate import Candidate
from epitaxy.errors import MachineFault
from epitaxy.machine import WorkerFailure
from epitaxy.toolchain import Build
from epitaxy.verdict import Verdict

RACERS, CLOSE = 3, 1.15
"""How many are raced at most, and by what factor they may be apart: what a screening on a busy
machine errs by."""
PROCESSES = 2
"""Fresh processes of each: they differ by a few per cent."""
ROUNDS, LIMIT_S = 40, 3.0
"""Rounds of one process, fewer where they take longer."""


Screened = tuple[Candidate, Verdict]


def contenders(best: Sequence[Screened]) -> list[Candidate]:
    """Those of `best`, the best first, that a race should tell apart; none where their order is
    not a matter of times taken one after the other."""
    close = [p for p in best[:RACERS] if p[1].merit * CLOSE >= best[0][1].merit]
    timed = all(v.plan == "screen" and v.basis == "measured" for _, v in close)
    return [c for c, _ in close] if timed and len(close) > 1 else []


def ranked(best: Sequence[Screened], ratios: Mapping[str, float]) -> list[Screened]:
    """`best` with those first that were raced, the fastest of them before the others."""
    return sorted(best, key=lambda p: ratios.get(p[0].digest, math.inf if ratios else 0.0))


class Host(Protocol):
    """Who starts candidates: the judge."""

    def build(self, candidate: Candidate) -> Build:
        """What was built of `candidate`, or why it cannot be built again."""

    def started(self, build: Build) -> AbstractContextManager[Any]:
        """A confined worker of what was built, with the inputs in it."""


def race(
    host: Host, candidates: Sequence[Candidate], slots: Sequence[int], condition: str = "warm"
) -> dict[str, float]:
    """How many times as long as the fastest each takes, by digest: of rounds in which all take
    turns, the median, and of PROCESSES processes of each the geometric mean. Empty where one of
    them fails: judging it says why."""
    chosen = timing.plan("screen", condition).replace(rounds=ROUNDS, limit_s=LIMIT_S)
    rng = random.Random(secrets.randbits(64))
    logs = {c.digest: 0.0 for c in candidates}
    try:
        builds = {c.digest: host.build(c) for c in candidates}
        if not all(build.ok for build in builds.values()):
            return {}
        for _ in range(PROCESSES):
            with contextlib.ExitStack() as stack:
                workers = {n: stack.enter_context(host.started(b)) for n, b in builds.items()}
                times = timing.interleave(workers, slots, chosen, rng).times
            for name, ratios in _beside(times).items():
                logs[name] += timing.median(ratios) / PROCESSES
    except (WorkerFailure, MachineFault):
        return {}
    first = min(logs.values())
    return {name: math.exp(value - first) for name, value in logs.items()}


def _beside(times: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Logarithms of each time against the geometric mean of all in its round."""
    logs = {name: [math.log(t) for t in own] for name, own in times.items()}
    means = [math.fsum(found) / len(found) for found in zip(*logs.values(), strict=True)]
    return {n: [t - m for t, m in zip(own, means, strict=True)] for n, own in logs.items()}
