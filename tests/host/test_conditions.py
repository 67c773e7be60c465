"""Judging on a busy machine, with cold caches, with one thread: the verdict says which it was."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys

import pytest
from relu_case import problem

from epitaxy import timing
from epitaxy.candidate import Candidate
from epitaxy.judge import Judge
from epitaxy.machine import Job
from epitaxy.machines.local import LocalMachine
from epitaxy.measure import OURS, Measurement
from epitaxy.proposers.grower.growth import grow_program

KERNEL = """
#include <cstdint>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
  for (int again = 0; again < TIMES; ++again) {
#pragma omp parallel for
    for (int64_t i = 0; i < 64 * 4096; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
  }
}
"""


@pytest.fixture
def judging(tmp_path):
    """A judge on a machine made as asked."""
    with contextlib.ExitStack() as stack:

        def make(**how) -> Judge:
            machine = LocalMachine(home=tmp_path, **how)
            stack.callback(machine.close)
            judge = Judge(problem(tmp_path), machine, baselines=["eager"])
            stack.callback(judge.close)
            return judge

        yield make


def candidate(judge: Judge, times: int = 1) -> Candidate:
    """The honest kernel, its work done `times` over."""
    forward = grow_program(judge.reference).forward
    kernel = KERNEL.replace("TIMES", str(times))
    return Candidate(
        problem=judge.problem.digest, toolchain="cpp", entry="forward.py", proposer="test",
        files={"kernel.cpp": kernel, "forward.py": forward},
    )  # fmt: skip


@contextlib.contextmanager
def hogs():
    """As many processes that only compute as there are cores."""
    count = len(os.sched_getaffinity(0))
    started = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_busy_machine_is_a_finding_and_takes_longer(judging):
    judge = judging()
    honest = candidate(judge)
    judge.baselines()
    judge.build(honest)
    with hogs():
        verdict = judge.judge(honest, "screen")
    assert verdict.status == "accepted", verdict.reason
    said = [f.message for f in verdict.findings if f.check == "contention"]
    assert any("other processes kept" in text for text in said), said
    assert verdict.metrics["others_cores"] > 0.5
    assert len(verdict.samples["candidate"]) != timing.plan("screen").rounds


def test_who_waits_for_a_processor_is_not_charged_for_it(judging):
    """The same code against itself among hogs, and no priority over them."""
    judge = judging()
    judge.machine.realtime = False
    job = Job(problem=judge.problem, folder=judge.build(candidate(judge)).folder)
    it = Measurement(timing.plan("screen"), judge.machine)
    with contextlib.ExitStack() as stack:
        workers = {n: stack.enter_context(judge.machine.start(job)) for n in (OURS, "same")}
        for worker in workers.values():
            worker.prepare(judge.reference.init_arguments(), judge.reference.state())
            for slot in (0, 1):
                worker.write(slot, judge.cases.get(slot).inputs)
        stack.enter_context(hogs())
        it.process(workers, [0, 1], random.Random(1))
    assert it.compare("same").outcome == "no evidence"
    assert it.metrics()["waited_share"] > 0


def test_a_hopeless_candidate_is_dismissed_after_a_few_rounds(judging):
    judge = judging(threads=1)  # so that what it waits for others is never more than it takes
    verdict = judge.judge(candidate(judge, times=40), "screen")
    assert verdict.status == "accepted", verdict.reason
    assert any("dismissed after" in f.message for f in verdict.findings)
    assert len(verdict.samples["candidate"]) < timing.plan("screen").rounds
    assert verdict.comparisons[0].outcome != "faster"


def test_cold_is_a_condition_of_its_own(judging):
    judge = judging(condition="cold", threads=1)
    verdict = judge.judge(candidate(judge), "screen")
    assert verdict.status == "accepted", verdict.reason
    assert (verdict.condition, verdict.threads) == ("cold", 1)
    assert judge.machine.fingerprint()["condition"] == "cold"


def test_one_thread_is_one_thread(judging):
    judge = judging(threads=1)
    job = Job(problem=judge.problem, folder=judge.build(candidate(judge)).folder)
    with judge.machine.start(job) as worker:
        worker.prepare(judge.reference.init_arguments(), judge.reference.state())
        worker.write(0, judge.cases.get(0).inputs)
        before = len(os.listdir(f"/proc/{worker.pid}/task"))
        worker.burst([0, 0])
        assert len(os.listdir(f"/proc/{worker.pid}/task")) == before


def test_the_broker_spins_not_beside_small_problems(judging):
    import torch

    reference = judging().reference
    usual = torch.get_num_threads()
    with reference.beside_timing():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == usual
