"""A baseline's failure is the machine's fault, never the candidate's."""

import pytest

from epitaxy.errors import MachineFault
from epitaxy.machine import Trusted, WorkerFailure


class Busy:
    label = "busy"

    def burst(self, slots):
        if not slots:
            raise WorkerFailure("timeout", "it keeps running between its calls")
        return float(len(slots))


def test_what_fails_in_a_baseline_is_a_machine_fault_with_its_name():
    worker = Trusted(Busy(), "baseline eager")
    assert worker.burst([0, 1]) == 2.0
    assert worker.label == "busy"
    assert not worker.failed
    with pytest.raises(MachineFault, match="baseline eager: it keeps running"):
        worker.burst([])
    assert worker.failed
