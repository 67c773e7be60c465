"""How long is measured: quiet runs keep to the plan, busy ones take longer, hopeless ones end."""

from __future__ import annotations

import random

import pytest

from epitaxy import timing
from epitaxy.measure import AGAIN, OURS, Measurement
from epitaxy.quiet import Activity
from epitaxy.timing import Plan

SCREEN = timing.PLANS["screen"].replace(limit_s=60.0)
FULL = timing.PLANS["full"].replace(limit_s=60.0)


class Worker:
    """Takes `call_s` for a call, with noise; each burst makes its threads wait `waited_s`."""

    overhead_s = 0.0

    def __init__(self, call_s: float, noise: float = 0.005, waited_s: float = 0.0) -> None:
        self.call_s, self.noise, self.waited_s = call_s, noise, waited_s
        self.rng = random.Random(3)

    def burst(self, slots):
        return len(slots) * self.call_s * self.rng.lognormvariate(0, self.noise)


class Machine:
    """Every look at it finds that others used `others` processors since the last."""

    def __init__(self, others: float = 0.0) -> None:
        self.now_s, self.others = 0.0, others

    def activity(self) -> Activity:
        self.now_s += 1.0
        busy = self.now_s * (1 + self.others)
        return Activity(wall_s=self.now_s, cores=4, busy_s=busy, stolen_s=0.0, own_s=self.now_s)


def steady(monkeypatch):
    """The processor's own speed shall not depend on who else runs tests here."""
    monkeypatch.setattr(timing, "pulse_s", lambda: 3e-5)


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    steady(monkeypatch)


def measured(plan: Plan, ours: Worker, theirs: Worker, machine=None) -> Measurement:
    it = Measurement(plan, machine or Machine())
    while not it.enough:
        workers = {OURS: ours, "eager": theirs}
        if plan.processes > 1:
            workers[AGAIN] = Worker(ours.call_s, ours.noise)
        it.process(workers, [0, 1], random.Random(1))
    return it


def rounds(it: Measurement) -> list[int]:
    return [taken.rounds for taken in it.taken]


def test_a_quiet_run_keeps_to_the_plan():
    assert rounds(measured(SCREEN, Worker(1e-3), Worker(1e-3))) == [15]
    it = measured(FULL, Worker(1e-3), Worker(1e-3))
    assert rounds(it) == [FULL.rounds] * FULL.fewest
    assert it.findings() == []
    assert it.metrics()["rounds"] == FULL.rounds * FULL.fewest


def test_a_wide_interval_takes_more_processes():
    it = measured(FULL, Worker(1e-3, noise=0.2), Worker(1e-3))
    assert len(rounds(it)) == FULL.processes


def test_a_busy_run_takes_longer_and_says_so():
    it = measured(SCREEN, Worker(1e-3), Worker(1e-3), Machine(others=2.0))
    assert rounds(it) == [SCREEN.most]
    assert "other processes kept 2.0 of 4 processors busy" in it.findings()[0].message
    assert it.metrics()["others_cores"] == pytest.approx(2.0)


def test_noise_takes_longer():
    assert rounds(measured(SCREEN, Worker(1e-3, noise=0.3), Worker(1e-3))) == [SCREEN.most]


def test_a_busy_run_ends_all_the_same():
    hasty = SCREEN.replace(limit_s=0.0)
    assert rounds(measured(hasty, Worker(1e-3), Worker(1e-3), Machine(2.0))) == [
        timing.LEAST_ROUNDS
    ]


def test_a_hopeless_candidate_is_dismissed_by_a_screening():
    it = measured(SCREEN, Worker(3e-3), Worker(1e-3))
    assert rounds(it) == [3]
    assert it.dismissed
    assert it.compare("eager").outcome == "slower"
    assert "dismissed after 3 rounds" in it.findings()[-1].message


def test_a_hopeless_candidate_is_judged_in_full_when_asked():
    it = measured(FULL, Worker(3e-3), Worker(1e-3))
    assert rounds(it) == [FULL.rounds] * FULL.fewest
    assert not it.dismissed


def test_a_candidate_far_behind_what_is_known_goes_early():
    it = Measurement(SCREEN, Machine(), hopeless=0.6)
    it.process({OURS: Worker(0.9e-3), "eager": Worker(1e-3)}, [0], random.Random(1))
    assert it.dismissed
    assert "more than 0.6 times as long" in it.findings()[-1].message


def test_who_is_clearly_behind_is_timed_no_more():
    theirs = {"fast": Worker(1e-3), "near": Worker(1.03e-3), "slow": Worker(1.2e-3)}
    it = Measurement(FULL, Machine())
    while not it.enough:
        ours = {name: Worker(0.8e-3) for name in (OURS, AGAIN)}
        it.process({**ours, **theirs}, [0, 1], random.Random(1))
        theirs = {name: theirs[name] for name in it.contenders(theirs)}
    assert set(theirs) == {"fast", "near"}
    pairs = {c.baseline: c.pairs for c in it.comparisons()}
    assert pairs["slow"] == FULL.rounds < pairs["near"] == pairs["fast"]
    ratios = {c.baseline: c.speedup for c in it.comparisons()}
    assert ratios["slow"] == pytest.approx(1.5, rel=0.02)
    assert "fewer processes: slow" in it.findings()[-1].message


def test_times_side_by_side_tell_the_ratio_where_the_machine_changed_its_speed():
    it = Measurement(FULL, Machine())
    for factor, parties in ((1, ("fast", "slow")), (1.6, ("fast",)), (1.6, ("fast",))):
        calls = {OURS: 0.8e-3, AGAIN: 0.8e-3, "fast": 1e-3, "slow": 1.2e-3}
        workers = {n: Worker(calls[n] * factor) for n in (OURS, AGAIN, *parties)}
        it.process(workers, [0, 1], random.Random(1))
    ours = timing.median(it.times(OURS))
    assert ours == pytest.approx(1.6 * 0.8e-3, rel=0.02)
    for found in it.comparisons():
        assert found.time_s / ours == pytest.approx(found.speedup, rel=0.03), found.baseline


def test_slow_baselines_are_timed_again_only_where_there_is_time():
    it = Measurement(FULL, object())
    theirs = {"first": Worker(10.0), "like it": Worker(10.0)}
    it.process({OURS: Worker(1e-3), **theirs}, [0, 1], random.Random(1))
    assert len(it.contenders(theirs)) == 1


def test_who_waits_for_a_processor_is_not_hopeless_nor_slower():
    ours = Worker(3e-3, waited_s=4.5e-3)  # a burst is one call here
    it = measured(SCREEN, ours, Worker(1e-3))
    assert rounds(it) == [SCREEN.most]
    assert it.compare("eager").outcome == "no evidence"
    assert "waited for a processor" in it.findings()[0].message


def test_the_control_is_no_baseline():
    it = measured(FULL, Worker(1e-3), Worker(2e-3))
    assert set(it.samples) == {OURS, "eager"}
    assert [c.baseline for c in it.comparisons()] == ["eager"]
    assert it.metrics()["control_ratio"] == pytest.approx(1, abs=0.02)


def test_a_machine_without_accounts_will_do():
    assert measured(SCREEN, Worker(1e-3), Worker(1e-3), object()).findings() == []


def test_the_outcome_does_not_decide_how_long_it_takes():
    """Twice as fast, as slow, or the same: on a quiet machine all get the same rounds."""
    for ours in (0.5e-3, 1e-3, 1.9e-3):
        assert rounds(measured(SCREEN, Worker(ours), Worker(1e-3))) == [15]
