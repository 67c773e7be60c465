"""The desk and the grower on a real problem: a start, a sweep, and what is refused.

Judging, profiling and exporting are in `test_mcp_session.py`, over the same methods.
"""

import threading
import time
from pathlib import Path

import pytest
from relu_case import problem

from epitaxy.desk import Desk
from epitaxy.errors import BadInput, Cancelled
from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.machine import Job


@pytest.fixture(scope="module")
def desk(tmp_path_factory, machine_of):
    folder = tmp_path_factory.mktemp("desk")
    with machine_of() as machine, Ledger(folder / "ledger.sqlite") as ledger:
        yield Desk(problem(folder), machine, ledger, author="test")


@pytest.fixture(scope="module")
def start(desk):
    card = desk.grow(count=1, plan="")
    assert card.decisions["region0.unroll"] == "1, 2, 4, 8"
    assert "accumulators" in card.meaning["unroll"]
    return card.grown[0]


def test_the_growers_start_is_recorded_and_can_be_changed(desk, start):
    kernel = desk.show(start.candidate).files["kernel.cpp"]
    child = desk.candidate({"kernel.cpp": f"// mine\n{kernel}"}, parent=start.candidate)
    assert child.files["forward.py"] == desk.show(start.candidate).files["forward.py"]
    desk.ledger.add_candidate(child)
    assert "+// mine" in desk.compare(child.id).diff
    assert desk.compare(child.id).other_status == "not judged"


def test_a_sweep_holds_what_was_written_and_varies_the_rest(desk):
    card = desk.grow("region0(unroll=2)", {"width": [4, 8]}, plan="")
    assert {("unroll=2" in g.genome) for g in card.grown} == {True}
    assert any("width=4" in g.genome for g in card.grown)
    assert any("width=8" in g.genome for g in card.grown)


@pytest.mark.parametrize(
    ("genome", "vary", "says"),
    [
        ("region0(unrol=2)", {}, "unknown decision 'unrol'"),
        ("region0(unroll=4096)", {}, "unroll=4096 is out of range"),
        ("region7(unroll=2)", {}, "says nothing of 'region7'"),
        ("nonsense", {}, "no region in genome"),
        ("", {"tile_m": [4]}, "'tile_m' decides nothing in region0"),
        ("", {"width": [10**9]}, "out of range"),
        ("", {"region9.width": []}, "there is no region 'region9'"),
    ],
)
def test_wrong_genomes_are_one_line(desk, genome, vary, says):
    with pytest.raises(BadInput, match=says):
        desk.grow(genome, vary, plan="")


ENDLESS = """
extern "C" void region0(const void* const*, void* const*) {
  for (volatile long i = 0;; ++i) {}
}
"""


def test_what_is_cancelled_ends_at_once_and_says_nothing(desk, start):
    """The process of the candidate is gone; baselines and what comes after are as before."""
    machine, cancelled, ended = desk.machine, threading.Event(), []
    desk._judge = Judge(desk.problem, machine, baselines=["eager"])

    def say(_):
        if cancelled.is_set():
            raise Cancelled("it was cancelled", "")

    def stop():
        for _ in range(600):
            if machine._candidates:
                break
            time.sleep(0.1)
        time.sleep(1.0)  # it computes by now
        (pid,) = machine._candidates
        cancelled.set()
        machine.stop()
        ended.append(not Path(f"/proc/{pid}").exists())

    it = desk.candidate({"kernel.cpp": ENDLESS}, parent=start.candidate)
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Cancelled):
        desk.judge(it, say=say)
    thread.join()
    assert ended == [True]
    assert [(k, b["candidate"]) for k, _, b in desk.ledger.events(it.problem)] == [
        ("cancelled", it.digest)
    ]
    assert desk.show(it.id).verdict is None
    with pytest.raises(Cancelled):
        machine.open(Job(problem=desk.problem, folder=str(desk._judge.build(it).folder)))
    machine.resume()
    assert desk.judge(start.candidate).accepted
    desk._judge.close()
