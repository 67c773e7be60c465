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
    assert found["imbalance"] == pytest.approx(1 - 40 / 60 - 2 / 80**0.5)
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


def test_what_only_slows_some_calls_down_does_not_decide():
    ours = [1.0, 1.02, 1.01, 1.03] * 6
    theirs = [t / 2 * (9 if n % 2 else 1) for n, t in enumerate(ours)]  # half were disturbed
    taken = Taken({"candidate": ours, "v": theirs}, {}, [1e-6] * 24)
    ratio = Timings(taken).ratio("v")
    assert ratio.speedup == pytest.approx(0.5, rel=0.02)
    assert ratio.low < 0.5 < ratio.high < 0.6
    assert Timings(taken).time_s == pytest.approx(1.0, rel=0.02)
    assert Timings(taken).ratio("absent") is None


def test_times_that_jump_about_give_a_wide_interval():
    ours, theirs = [1.0, 5.0, 9.0, 2.0] * 3, [7.0, 1.0, 3.0, 8.0] * 3
    taken = Taken({"candidate": ours, "v": theirs}, {}, [1e-6] * 12)
    assert Timings(taken).ratio("v").half_width > 0.3


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
