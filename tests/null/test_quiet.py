"""Detectors of drift and contention, on simulated streams: trouble is said, quiet is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epitaxy import quiet
from epitaxy.machines._activity import read_stat
from epitaxy.machines._cold import UNKNOWN_BYTES, Evictor, last_level_bytes
from epitaxy.paired import PRIOR, compare
from epitaxy.quiet import Activity
from epitaxy.timing import Taken


def activity(others_s: float = 0.0, stolen_s: float = 0.0) -> Activity:
    """A second on four cores of which two were ours."""
    return Activity(wall_s=1.0, cores=4, busy_s=2.0 + others_s, stolen_s=stolen_s, own_s=2.0)


def taken(rounds: int = 20, seed: int = 1, **changes) -> Taken:
    """Rounds of a quiet machine: 1 ms each, 1 % noise."""
    rng = random.Random(seed)

    def draws(middle: float) -> list[float]:
        return [middle * rng.lognormvariate(0, 0.01) for _ in range(rounds)]

    times = {"candidate": draws(1e-3), "eager": draws(1e-3)}
    waits = {name: [0.0] * rounds for name in times}
    facts = {"times": times, "waits": waits, "pulses": draws(3e-5), **changes}
    return Taken(**facts)


def texts(each: Taken, *activities: Activity, control=None) -> str:
    found = quiet.findings([each], activities, control)
    assert all(f.severity == "warning" and f.check in ("contention", "drift") for f in found)
    return "\n".join(f.message for f in found)


def rising(count: int, top: float, seed: int = 3) -> list[float]:
    rng = random.Random(seed)
    return [1e-3 * (1 + top * i / count) * rng.lognormvariate(0, 0.01) for i in range(count)]


class TestQuietMachine:
    @pytest.mark.parametrize("seed", range(30))
    def test_nothing_is_said(self, seed):
        each = taken(seed=seed)
        assert texts(each, activity()) == ""
        assert not quiet.disturbed(activity(), each)

    def test_nothing_is_said_where_the_kernel_says_nothing(self):
        assert texts(taken()) == ""
        assert not quiet.disturbed(None, taken())


class TestContention:
    def test_other_processes_are_told_with_their_share(self):
        assert "other processes kept 1.5 of 4 processors" in texts(taken(), activity(others_s=1.5))
        assert quiet.disturbed(activity(others_s=1.5), taken())

    def test_a_stolen_processor_is_told(self):
        assert "hypervisor took 10 %" in texts(taken(), activity(stolen_s=0.4)).replace("%", " %")
        assert quiet.disturbed(activity(stolen_s=0.4), taken())

    def test_ticks_are_too_coarse_for_a_short_stretch(self):
        short = Activity(wall_s=0.05, cores=4, busy_s=0.24, stolen_s=0.0, own_s=0.2)
        assert short.others == 0.0

    def test_waiting_for_a_processor_is_told(self):
        each = taken()
        each.waits["candidate"][:] = [4e-4] * 20
        assert "for 40% of a typical call" in texts(each)
        assert quiet.disturbed(None, each)

    def test_a_control_that_differs_is_told(self):
        times = taken(60).times
        same = compare("again", times["candidate"], times["eager"], spread=PRIOR)
        other = compare("again", [2 * t for t in times["candidate"]], times["eager"])
        assert texts(taken(), control=same) == ""
        assert "second process of the candidate is faster" in texts(taken(), control=other)

    def test_what_was_done_between_two_accounts(self):
        late = Activity(wall_s=7.0, cores=4, busy_s=9.0, stolen_s=1.0, own_s=3.0)
        stretch = late.since(Activity(wall_s=5.0, cores=4, busy_s=5.0, stolen_s=0.2, own_s=2.0))
        assert stretch.others == pytest.approx(1.5)
        assert stretch.stolen == pytest.approx(0.1)


class TestDrift:
    def test_a_rise_is_found_with_its_size(self):
        change, z = quiet.trend(rising(20, 0.2))
        assert change == pytest.approx(0.1, abs=0.03)
        assert z > quiet.DRIFT_Z

    def test_a_fall_has_its_sign(self):
        assert quiet.drifts(rising(20, 0.3)[::-1]) < -quiet.DRIFT

    def test_times_that_drift_are_told(self):
        both = rising(20, 0.3)
        each = taken(times={"candidate": both, "eager": both}, waits={"candidate": [], "eager": []})
        assert "the times of the candidate drifted by +14%" in texts(each)

    def test_a_drift_that_both_share_does_not_call_for_more_rounds(self):
        both = rising(20, 0.3)
        each = taken(times={"candidate": both, "eager": both}, waits={"candidate": [], "eager": []})
        assert not quiet.disturbed(None, each)

    def test_a_drift_of_the_ratio_does(self):
        times = {"candidate": rising(20, 0.3), "eager": [1e-3] * 20}
        each = taken(times=times, waits={"candidate": [], "eager": []})
        assert quiet.disturbed(None, each)
        assert "candidate over baseline drifted" in texts(each)

    def test_half_speed_is_told(self):
        each = taken(pulses=[3e-5] * 12 + [6e-5] * 8)
        assert "speed changed 2.00-fold" in texts(each)
        assert quiet.disturbed(None, each)

    def test_one_slow_pulse_is_not_a_change_of_speed(self):
        assert quiet.speed_change([3e-5] * 19 + [9e-5]) == 1.0

    def test_false_alarms_are_rare(self):
        rng = random.Random(5)
        series = [[rng.lognormvariate(0, 0.05) for _ in range(20)] for _ in range(1000)]
        assert sum(bool(quiet.drifts(values)) for values in series) <= 10

    @given(st.lists(st.floats(1e-6, 1.0), max_size=30))
    def test_any_series_has_an_answer(self, values):
        change, z = quiet.trend(values)
        assert change > -1
        back = quiet.trend(values[::-1])[1]
        assert z == pytest.approx(-back)


STAT = """cpu  100 10 50 800 5 0 1 7 0 0
cpu0 60 5 20 400 2 1 2 3 9 0
cpu1 40 5 30 400 3 0 1 4 0 0
intr 123 0 0
"""


def test_the_account_of_the_processors_at_hand():
    assert read_stat(STAT.splitlines(), [0, 1]) == (88 + 76, 7, 2)
    assert read_stat(STAT.splitlines(), [1]) == (76, 4, 1)
    with pytest.raises(ValueError, match="no processor"):
        read_stat(STAT.splitlines(), [7])


def make_caches(folder, *levels: tuple[int, int, str, str]):
    """(cpu, level, size, shared with) as the system lists them."""
    for number, (cpu, level, size, shared) in enumerate(levels):
        index = folder / f"cpu{cpu}" / "cache" / f"index{number}"
        index.mkdir(parents=True)
        for name, text in (("level", str(level)), ("size", size), ("shared_cpu_list", shared)):
            (index / name).write_text(f"{text}\n")


def test_last_level_caches_are_counted_once_each(tmp_path):
    for cpu in range(4):
        make_caches(tmp_path, (cpu, 2, "1M", f"{cpu}"), (cpu, 3, "16384K", f"{cpu // 2}"))
    assert last_level_bytes(tmp_path, [0, 1, 2, 3]) == 2 * (16 << 20)
    assert last_level_bytes(tmp_path, [0, 1]) == 16 << 20
    assert last_level_bytes(tmp_path / "none", [0]) == UNKNOWN_BYTES


def test_every_core_reads_its_share(tmp_path):
    make_caches(tmp_path, (0, 3, "8192K", "0"))
    evictor = Evictor(tmp_path)
    assert evictor.evict() == evictor.cpus == evictor.evict()
    assert evictor.share * len(evictor.cpus) >= 2 * (8 << 20)
