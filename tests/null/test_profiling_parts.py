"""Parts of the profile that need neither compiler nor clock: samples, counters, pairs of times."""

import os
import subprocess
import sys
import time

import pytest

from epitaxy.candidate import Candidate
from epitaxy.errors import BadCandidate
from epitaxy.profiling import counters
from epitaxy.profiling.ablations import CATALOGUE, dynamic
from epitaxy.profiling.clock import Timings
from epitaxy.profiling.sampling import Sampler, Seen
from epitaxy.timing import Taken

REFUSED = """
{"counter-value" : "<not supported>", "unit" : "", "event" : "cycles", "event-runtime" : 0}
{"counter-value" : "<not supported>", "unit" : "", "event" : "instructions", "event-runtime" : 0}
"""
COUNTED = '{"counter-value" : "731940.000000", "unit" : "", "event" : "cycles"}\n'


def test_absent_counters_are_said_and_never_made_up():
    found = counters.read(REFUSED)
    assert found.usable == ()
    assert "cycles not supported" in found.why
    assert counters.read(COUNTED).usable == ("cycles",)
    assert "no such tool" in counters.read("no such tool\n").why


def test_samples_say_who_worked_and_how_unevenly():
    seen = Seen()
    seen.places.update(kernel=80, waiting=10, system=10)
    seen.by_thread.update({7: 60, 8: 20})
    found = seen.figures(2)
    assert found["kernel_share"] == 0.8
    assert found["waiting_share"] == 0.1
    assert found["threads"] == 2
    assert found["imbalance"] == pytest.approx(1 - 40 / 60)
    assert Seen().figures(2) == {}


def test_a_process_that_computes_is_seen_or_the_reason_is():
    busy = subprocess.Popen([sys.executable, "-c", "while 1: pass"])
    try:
        time.sleep(0.2)
        sampler = Sampler(busy.pid)
        with sampler.watching() as seen:
            time.sleep(0.2)
        assert seen.why or seen.places["framework"] > 0
        assert os.path.isdir(f"/proc/{busy.pid}/task")
    finally:
        busy.kill()
        busy.wait()


def taken(waits):
    ours = [1.0, 1.1] * 8
    return Taken({"candidate": ours, "v": [t / 2 for t in ours]}, waits, [1e-6] * 16)


def test_rounds_that_waited_for_a_processor_are_left_out():
    calm = {"candidate": [0.0] * 16, "v": [0.0] * 16}
    ratio = Timings(taken(calm)).ratio("v")
    assert ratio.speedup == pytest.approx(0.5)
    assert ratio.high < 0.6
    few = {"candidate": [0.9] * 10 + [0.0] * 6, "v": [0.0] * 16}
    assert Timings(taken(few)).calm("v") == list(range(10, 16))
    assert Timings(taken(few)).ratio("v").pairs == 16  # too few calm ones: all, and wider
    assert Timings(taken(few)).ratio("absent") is None


def candidate(kernel):
    return Candidate(
        problem="0" * 64, toolchain="cpp", entry="forward.py", proposer="test",
        files={"kernel.cpp": kernel, "forward.py": "pass\n"},
    )  # fmt: skip


def test_shares_are_handed_out_one_by_one():
    text = "#pragma omp parallel for schedule(static) if(1)\nfor(;;);\n"
    made = dynamic(candidate(text)).files["kernel.cpp"]
    assert made.startswith("#pragma omp parallel for schedule(dynamic, 1) ")
    assert "static" not in made
    with pytest.raises(BadCandidate):
        dynamic(candidate("#pragma omp parallel for simd\n"))


def test_an_ablation_with_nothing_to_leave_out_says_so():
    divides = CATALOGUE["cheap_divides"]
    assert "static.divides is 0" in divides.pointless({"static.divides": 0.0})
    assert divides.pointless({"static.divides": 2.0}) == ""
    assert divides.pointless({}) == ""
