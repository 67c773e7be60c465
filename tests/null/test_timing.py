"""Times: how workers take turns, how long, and what plans there are."""

from __future__ import annotations

import itertools
import random

import pytest

from epitaxy import timing
from epitaxy.errors import BadInput
from epitaxy.timing import LEAST_ROUNDS, Plan, calls_per_burst, interleave, median


class FakeWorker:
    """Takes `call_s` for each call and `overhead_s` for each burst; remembers its bursts."""

    overhead_s = 1e-5

    def __init__(self, call_s: float, log: list[str] | None = None, name: str = "") -> None:
        self.call_s, self.log, self.name = call_s, log, name
        self.bursts: list[list[int]] = []

    def burst(self, slots):
        self.bursts.append(list(slots))
        if self.log is not None:
            self.log.append(self.name)
        return self.overhead_s + self.call_s * len(slots)


def plan(rounds: int = 20, limit_s: float = 60.0) -> Plan:
    return Plan(name="p", rounds=rounds, processes=1, cases=1, rechecks=1, limit_s=limit_s)


class TestInterleave:
    def test_each_takes_its_turn_in_every_round(self):
        log: list[str] = []
        workers = {name: FakeWorker(1e-3, log, name) for name in "abc"}
        samples = interleave(workers, [0, 1], plan(), random.Random(1)).times
        turns = log[-60:]  # what comes before are trials
        rounds = [tuple(turns[i : i + 3]) for i in range(0, 60, 3)]
        assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
        assert len(set(rounds)) > 2  # the order is not always the same
        for first, second in itertools.permutations("abc", 2):
            before = sum(r.index(first) < r.index(second) for r in rounds)
            assert before == len(rounds) / 2
        assert {name: len(s) for name, s in samples.items()} == {"a": 20, "b": 20, "c": 20}

    def test_seconds_are_per_call_without_overhead(self):
        workers = {"fast": FakeWorker(2e-5), "slow": FakeWorker(5e-3)}
        samples = interleave(workers, [0], plan(), random.Random(1)).times
        assert samples["fast"] == pytest.approx([2e-5] * 20)
        assert samples["slow"] == pytest.approx([5e-3] * 20)

    def test_all_end_a_round_on_the_same_slot(self):
        workers = {"a": FakeWorker(1e-4), "b": FakeWorker(1e-4)}
        seen: list[tuple[int, str, int]] = []
        chosen = plan(12)
        taken = interleave(workers, [0, 1], chosen, random.Random(4), lambda *at: seen.append(at))
        for number in range(12):
            assert len({slot for n, _, slot in seen if n == number}) == 1
        assert {slot for *_, slot in seen} == {0, 1}
        for name, worker in workers.items():
            lasts = [burst[-1] for burst in worker.bursts[-taken.rounds :]]
            assert lasts == [slot for _, n, slot in seen if n == name]

    def test_the_last_call_cannot_be_foreseen(self):
        worker = FakeWorker(1e-4)
        interleave({"a": worker}, [0, 1], plan(), random.Random(2))
        lengths = {len(burst) for burst in worker.bursts[2:]}
        assert len(lengths) > 1
        assert all(set(burst) <= {0, 1} for burst in worker.bursts)

    def test_it_stops_when_the_pace_says_so(self):
        class Three:
            def enough(self, taken, elapsed_s):
                return taken.rounds == 3 and elapsed_s >= 0

        taken = interleave({"a": FakeWorker(1e-3)}, [0], plan(), random.Random(1), pace=Three())
        assert len(taken.times["a"]) == len(taken.waits["a"]) == taken.rounds == 3

    def test_time_ends_it_but_not_too_early(self):
        late = interleave({"a": FakeWorker(1e-3)}, [0], plan(limit_s=0.0), random.Random(1))
        assert late.rounds == LEAST_ROUNDS

    def test_waits_are_per_call(self):
        worker = FakeWorker(1e-4)
        worker.waited_s = 1e-3
        taken = interleave({"a": worker}, [0], plan(), random.Random(1))
        calls = [len(burst) for burst in worker.bursts[-taken.rounds :]]
        assert taken.waits["a"] == pytest.approx([1e-3 / n for n in calls])

    def test_a_cold_call_is_a_burst_of_its_own(self):
        worker = FakeWorker(1e-6)
        interleave({"a": worker}, [0, 1], plan().replace(condition="cold"), random.Random(1))
        assert len(worker.bursts) == 22  # two trials
        assert {len(burst) for burst in worker.bursts} == {1}

    def test_a_clock_that_stands_still_gives_no_zero(self):
        worker = FakeWorker(0.0)
        assert min(interleave({"a": worker}, [0], plan(5), random.Random(1)).times["a"]) > 0


@pytest.mark.parametrize(
    ("call_s", "count"),
    [(1.0, 1), (timing.BURST_S, 1), (timing.BURST_S / 2.5, 3), (0.0, timing.LONGEST_BURST)],
)
def test_bursts_are_long_enough(call_s, count):
    worker = FakeWorker(call_s)
    assert calls_per_burst(worker, 1) == pytest.approx(count, abs=1 if call_s else 0)
    assert {slot for burst in worker.bursts for slot in burst} == {1}
    assert len(worker.bursts) <= timing.TRIALS + 3


def test_slow_first_calls_make_no_short_bursts():
    worker = FakeWorker(1e-4)
    steady, worker.burst = (
        worker.burst,
        lambda slots: steady(slots) + 6e-3 * (len(worker.bursts) < 6),
    )
    assert calls_per_burst(worker, 0) == pytest.approx(timing.BURST_S / 1e-4, abs=1)


def test_what_wakes_the_threads_does_not_pass_for_a_call():
    worker = FakeWorker(5e-6)
    calls_only, worker.burst = worker.burst, lambda slots: calls_only(slots) + 7e-5
    assert calls_per_burst(worker, 0) * 5e-6 > 0.5 * timing.BURST_S


def test_long_calls_are_not_tried_often():
    worker = FakeWorker(1.0)
    assert calls_per_burst(worker, 0) == 1
    assert len(worker.bursts) == 2


def test_medians():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert median([7.0]) == 7.0


def test_plans_go_by_name():
    assert timing.plan("full").processes > timing.plan("screen").processes == 1
    with pytest.raises(BadInput, match="splendid"):
        timing.plan("splendid")


def test_the_condition_is_part_of_the_plan():
    warm, cold = timing.plan("full"), timing.plan("full", "cold")
    assert (warm.condition, cold.condition) == ("warm", "cold")
    assert warm.digest != cold.digest
    with pytest.raises(BadInput, match="tepid"):
        timing.plan("full", "tepid")


def test_a_pulse_is_short():
    assert 0 < timing.pulse_s() < 0.1
