"""profile and disassemble at the command line, with a real compiler."""

import json

import pytest
from generous import GENEROUS

from epitaxy.cli import DONE, UNUSABLE, main

SOURCE = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2.0 + 1.0

def get_inputs():
    return [torch.randn(512, 512)]

def get_init_inputs():
    return []
"""
KERNEL = """
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 512; i++) y[i] = x[i] * 2.0f + 1.0f;
}
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    (tmp_path / "p.py").write_text(SOURCE)
    (tmp_path / "k.cpp").write_text(KERNEL)
    return str(tmp_path / "k.cpp"), str(tmp_path / "p.py")


def test_the_hot_loop_is_shown_with_its_source(files, capsys):
    kernel, problem = files
    assert main(["disassemble", kernel, "--problem", problem, "--json"]) == DONE
    shown = json.loads(capsys.readouterr().out)
    assert shown["function"] == "region0._omp_fn.0"
    assert shown["source"] == "kernel.cpp:6"
    assert shown["figures"]["vector_share"] == 1
    assert any("y[i] = x[i]" in text for text in shown["code"].values())
    assert main(["disassemble", kernel, "--problem", problem, "--function", "nosuch"]) == UNUSABLE
    assert "known: region0._omp_fn.0" in capsys.readouterr().err


def test_sources_need_their_problem(files, capsys):
    assert main(["disassemble", files[0]]) == UNUSABLE
    assert "give --problem" in capsys.readouterr().err


def test_a_profile_says_what_was_measured_and_what_was_not(files, capsys, monkeypatch):
    """One run from the command line, with few ablations, on a chip that needs no probing."""
    from epitaxy.machines.local import LocalMachine

    monkeypatch.setattr(LocalMachine, "chip", lambda self: GENEROUS)
    kernel, problem = files
    few = "one_thread,without_stores,not_streaming,cheap_divides"
    asked = ["profile", kernel, "--problem", problem, "--ablations", few, "--json"]
    assert main(asked) == DONE
    found = json.loads(capsys.readouterr().out)
    metrics = {m["id"]: m["value"] for m in found["profile"]["metrics"]}
    assert 0 < metrics["ablation.one_thread.low"] <= metrics["ablation.one_thread.time_ratio"]
    assert metrics["ablation.without_stores.time_ratio"] > 0
    assert metrics["static.vector_share"] == 1
    assert metrics["probe.time_s"] == found["profile"]["time_s"] > 0
    assert set(found["failed"]) == {"not_streaming", "cheap_divides"}
    assert "no streaming stores" in found["failed"]["not_streaming"]
    assert "ablation.not_streaming.time_ratio" in found["profile"]["unreadable"]
    assert found["loop"]["function"] == "region0._omp_fn.0"
    assert found["profile"]["notes"]
    asked = {u["rule"] for u in found["diagnosis"]["kernels"][0]["unevaluated"]}
    assert "streaming_misused" in asked  # a rule whose ablation could not be made
    assert main(["profile", kernel, "--problem", problem, "--ablations", "nosuch"]) == UNUSABLE
    assert "one_thread" in capsys.readouterr().err


def test_edited_builds_run_in_the_same_jail_and_compute_something_else(files, tmp_path):
    """Without its stores a kernel leaves its output as it was: a variant is never a candidate."""
    from pathlib import Path

    import torch

    from epitaxy.machine import Job
    from epitaxy.machines.local import LocalMachine
    from epitaxy.problem import load
    from epitaxy.profiling import edits
    from epitaxy.profiling.target import from_cpp
    from epitaxy.toolchain import Variant
    from epitaxy.toolchains.cpp import Cpp

    problem = load(files[1])
    candidate = from_cpp(Path(files[0]), problem)
    plain = Cpp().build(candidate, problem, tmp_path)
    variant = Variant("without_stores 1", (), edits.without_stores)
    edited = Cpp().build_variant(candidate, problem, tmp_path, variant)
    assert plain.ok
    assert edited.ok, edited.log
    assert plain.folder != edited.folder
    x = torch.randn(512, 512)
    right = {}
    machine = LocalMachine(home=tmp_path)
    for build in (plain, edited):
        with machine.start(Job(problem=problem, folder=build.folder)) as worker:
            assert worker.layers
            worker.prepare([], {})
            worker.write(0, [x])
            worker.burst([0])
            right[build.folder] = torch.equal(worker.outputs()[0], x * 2 + 1)
    machine.close()
    assert right == {plain.folder: True, edited.folder: False}


def test_real_time_priority_is_given_back_as_it_was():
    """Also to a caller that had one itself, as under `chrt`."""
    import os

    from epitaxy.machines import _realtime

    if not _realtime.permitted():
        pytest.skip("real-time priority is not permitted here")
    before, level = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(3))
        assert _realtime.permitted()
        with _realtime.priority(os.getpid()):
            pass
        # The worker (here the same process) ends calm, then its caller gets back what it had.
        assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == (
            os.SCHED_FIFO, 3,
        )  # fmt: skip
    finally:
        os.sched_setscheduler(0, before, level)
