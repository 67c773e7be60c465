"""The last candidates of a search side by side."""

from __future__ import annotations

import contextlib

import fake_records
import pytest

from epitaxy.errors import MachineFault
from epitaxy.machine import WorkerFailure
from epitaxy.race import PROCESSES, ROUNDS, race
from epitaxy.toolchain import Build

PROBLEM = fake_records.problem()
FIRST, SECOND, THIRD = (fake_records.candidate(PROBLEM, step) for step in range(1, 4))


TRIALS = 2
"""Bursts of each before the rounds."""


class Weather:
    """What slows everything down by half from the middle of a race on, once one has had its turn:
    that one alone has more fair rounds than others."""

    def __init__(self):
        self.bursts, self.turns_at = 0, 3 * (TRIALS + ROUNDS // 2) + 1

    @property
    def factor(self):
        return 1.5 if self.bursts > self.turns_at else 1.0


class Runner:
    """A worker whose calls take `call_s` in fair weather."""

    overhead_s = 0.0

    def __init__(self, call_s, weather):
        self.call_s, self.weather = call_s, weather

    def burst(self, slots):
        if isinstance(self.call_s, Exception):
            raise self.call_s
        self.weather.bursts += 1
        return len(slots) * self.call_s * self.weather.factor


class Host:
    """Starts runners, and counts them."""

    def __init__(self, times):
        self.times, self.started_ones = times, []

    def build(self, candidate):
        return Build(ok=True, folder=candidate.digest)

    @contextlib.contextmanager
    def started(self, build):
        if len(self.started_ones) % len(self.times) == 0:
            self.weather = Weather()
        self.started_ones.append(build.folder)
        yield Runner(self.times[build.folder], self.weather)


def test_the_fastest_is_found_whatever_the_weather():
    host = Host({FIRST.digest: 1.02e-3, SECOND.digest: 1e-3, THIRD.digest: 1.1e-3})
    found = race(host, [FIRST, SECOND, THIRD], (0, 1))
    assert min(found, key=found.__getitem__) == SECOND.digest
    assert found[SECOND.digest] == 1.0
    assert found[FIRST.digest] == pytest.approx(1.02, rel=1e-6)
    assert found[THIRD.digest] == pytest.approx(1.1, rel=1e-6)
    assert len(host.started_ones) == 3 * PROCESSES


@pytest.mark.parametrize(
    "fault", [WorkerFailure("crashed", "it fell"), MachineFault("no room", "-")]
)
def test_nothing_is_said_where_one_fails(fault):
    assert race(Host({FIRST.digest: 1e-3, SECOND.digest: fault}), [FIRST, SECOND], (0, 1)) == {}
