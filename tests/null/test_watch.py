"""Watching a worker between its timed calls."""

from types import SimpleNamespace

import pytest

from epitaxy.guards import EARLY_S, LOOK_S, Manners, Refused, Watch


class Slow:
    """A worker that notes how many calls each burst has."""

    slots = 16
    overhead_s = 0.0
    armed = (1, 1e-4)
    clocks_s = None

    def __init__(self):
        self.bursts = []

    def write(self, slot, contents):
        pass

    def burst(self, slots):
        self.bursts.append(len(slots))
        return 1.0


def cases():
    inputs = [SimpleNamespace(bytes=64)]
    return SimpleNamespace(
        problem=SimpleNamespace(inputs=inputs),
        unseen=lambda seed: SimpleNamespace(inputs=[]),
        get=lambda number: SimpleNamespace(inputs=[]),
    )


@pytest.mark.parametrize(
    ("call_s", "calls"), [(1e-5, 16), (LOOK_S / 4, 4), (10 * LOOK_S, 1)], ids=str
)
def test_a_look_at_slow_calls_is_short(call_s, calls):
    worker = Slow()
    Watch(cases(), worker, (0, 1), lambda name: name in ("repeats", "early"), call_s).look()
    assert worker.bursts == [calls, calls, 1]


def arming(seconds):
    """Manners of an honest worker whose bursts take so long to prepare."""
    made = Manners()
    made.armed = [(1, seconds), (4, seconds)]
    return made


def test_a_machine_that_became_busy_is_not_charged_to_a_candidate():
    """Preparing calls takes longer than an honest worker once took, and as long as it takes now."""
    worker, asked = Slow(), []
    worker.armed = (1, 20 * EARLY_S)
    kinds = ("early",)
    watch = Watch(cases(), worker, (0, 1), kinds.__contains__, 1e-3)
    watch.after(0, check=False, look=False)

    def now():
        asked.append(True)
        return arming(20 * EARLY_S)

    watch.conclude(1e-3, arming(1e-5), now)
    assert asked
    with pytest.raises(Refused, match="works before the clock"):
        watch.conclude(1e-3, arming(1e-5), lambda: arming(1e-5))


def test_nobody_asks_an_honest_worker_again_without_a_suspicion():
    worker = Slow()
    watch = Watch(cases(), worker, (0, 1), ("early",).__contains__, 1e-3)
    watch.after(0, check=False, look=False)
    watch.conclude(1e-3, arming(1e-4), lambda: pytest.fail("not needed"))
