"""Watching a worker between its timed calls."""

from types import SimpleNamespace

import pytest

from epitaxy.guards import LOOK_S, Watch


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
