"""Times: what the statistics find, how workers take turns, and what is refused."""

from __future__ import annotations

import random

import pytest

from epitaxy import timing
from epitaxy.errors import BadInput
from epitaxy.timing import Plan, calls_per_burst, compare, drift, interleave, median


def noisy(count: int, scale: float, seed: int) -> tuple[list[float], list[float]]:
    """Paired times of 1 ms against 1 ms / `scale`: 2 % noise, and slow moments that both share."""
    rng = random.Random(seed)
    shared = [1e-3 * rng.choice((1, 1, 1, 1.4)) for _ in range(count)]
    theirs = [s * rng.lognormvariate(0, 0.02) for s in shared]
    ours = [s / scale * rng.lognormvariate(0, 0.02) for s in shared]
    return theirs, ours


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


class TestCompare:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_planted_gain_of_3_percent_is_found(self, seed):
        found = compare("eager", *noisy(100, 1.03, seed))
        assert found.outcome == "faster"
        assert found.speedup == pytest.approx(1.03, abs=0.012)
        assert found.low <= found.speedup <= found.high
        assert found.detectable < 0.03
        assert found.pairs == 100

    @pytest.mark.parametrize("seed", range(5))
    def test_a_planted_loss_is_found(self, seed):
        assert compare("eager", *noisy(100, 1 / 1.03, seed)).outcome == "slower"

    def test_the_same_code_gives_no_evidence(self):
        outcomes = [compare("eager", *noisy(60, 1.0, seed)).outcome for seed in range(40)]
        assert outcomes.count("no evidence") >= 34  # the interval is of 95 %: 38 expected

    def test_equal_times_are_no_evidence(self):
        found = compare("eager", [1e-3] * 10, [1e-3] * 10)
        assert (found.speedup, found.low, found.high) == (1, 1, 1)
        assert found.outcome == "no evidence"
        assert found.detectable == 0

    def test_it_is_repeatable(self):
        times = noisy(30, 1.1, 3)
        assert compare("eager", *times) == compare("eager", *times)

    def test_swapping_the_parties_inverts_it(self):
        theirs, ours = noisy(51, 1.2, 1)
        forth, back = compare("a", theirs, ours), compare("b", ours, theirs)
        assert back.speedup == pytest.approx(1 / forth.speedup)
        assert back.outcome == "slower"

    def test_shared_slow_moments_do_not_matter(self):
        theirs, ours = noisy(40, 1.1, 2)
        slow = [10.0 if i % 3 == 0 else 1.0 for i in range(40)]
        loud = compare(
            "eager",
            [t * s for t, s in zip(theirs, slow, strict=True)],
            [t * s for t, s in zip(ours, slow, strict=True)],
        )
        assert loud.speedup == pytest.approx(compare("eager", theirs, ours).speedup)

    def test_its_time_is_the_baselines(self):
        assert compare("eager", [3.0, 1.0, 2.0], [1.0, 1.0, 1.0]).time_s == 2.0

    def test_one_pair_makes_a_comparison(self):
        assert compare("eager", [2.0], [1.0]).speedup == pytest.approx(2)

    @pytest.mark.parametrize(("theirs", "ours"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0])])
    def test_what_is_not_paired_is_refused(self, theirs, ours):
        with pytest.raises(BadInput, match="pairs"):
            compare("eager", theirs, ours)


class TestInterleave:
    def test_each_takes_its_turn_in_every_round(self):
        log: list[str] = []
        workers = {name: FakeWorker(1e-3, log, name) for name in "abc"}
        samples = interleave(workers, [0, 1], plan(), random.Random(1))
        turns = log[-60:]  # what comes before are trials
        rounds = [tuple(turns[i : i + 3]) for i in range(0, 60, 3)]
        assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
        assert len(set(rounds)) > 1  # the order is not always the same
        assert {name: len(s) for name, s in samples.items()} == {"a": 20, "b": 20, "c": 20}

    def test_seconds_are_per_call_without_overhead(self):
        workers = {"fast": FakeWorker(2e-5), "slow": FakeWorker(5e-3)}
        samples = interleave(workers, [0], plan(), random.Random(1))
        assert samples["fast"] == pytest.approx([2e-5] * 20)
        assert samples["slow"] == pytest.approx([5e-3] * 20)

    def test_all_end_a_round_on_the_same_slot(self):
        workers = {"a": FakeWorker(1e-4), "b": FakeWorker(1e-4)}
        seen: list[tuple[int, str, int]] = []
        chosen = plan(12)
        interleave(workers, [0, 1], chosen, random.Random(4), lambda *at: seen.append(at))
        for number in range(12):
            assert len({slot for n, _, slot in seen if n == number}) == 1
        assert {slot for *_, slot in seen} == {0, 1}
        for name, worker in workers.items():
            lasts = [burst[-1] for burst in worker.bursts[2:]]
            assert lasts == [slot for _, n, slot in seen if n == name]

    def test_the_last_call_cannot_be_foreseen(self):
        worker = FakeWorker(1e-4)
        interleave({"a": worker}, [0, 1], plan(), random.Random(2))
        lengths = {len(burst) for burst in worker.bursts[2:]}
        assert len(lengths) > 1
        assert all(set(burst) <= {0, 1} for burst in worker.bursts)

    def test_it_stops_early_but_not_too_early(self):
        stopped = interleave({"a": FakeWorker(1e-3)}, [0], plan(), random.Random(1), stop=bool)
        late = interleave({"a": FakeWorker(1e-3)}, [0], plan(limit_s=0.0), random.Random(1))
        assert len(stopped["a"]) == len(late["a"]) == 5

    def test_a_clock_that_stands_still_gives_no_zero(self):
        worker = FakeWorker(0.0)
        assert min(interleave({"a": worker}, [0], plan(5), random.Random(1))["a"]) > 0


@pytest.mark.parametrize(
    ("call_s", "count"),
    [(1.0, 1), (timing.BURST_S, 1), (timing.BURST_S / 2.5, 3), (0.0, timing.LONGEST_BURST)],
)
def test_bursts_are_long_enough(call_s, count):
    worker = FakeWorker(call_s)
    assert calls_per_burst(worker, 1) == pytest.approx(count, abs=1 if call_s else 0)
    assert worker.bursts == [[1], [1]]


def test_medians():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert median([7.0]) == 7.0


def test_drift_compares_the_halves():
    assert drift([1.0] * 10 + [1.1] * 10) == pytest.approx(0.1)
    assert drift([1.0]) == 0.0


def test_plans_go_by_name():
    assert timing.plan("full").processes > timing.plan("screen").processes == 1
    with pytest.raises(BadInput, match="splendid"):
        timing.plan("splendid")
