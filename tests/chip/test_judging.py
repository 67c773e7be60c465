"""The judge on the GPU that is here: the jail lets CUDA start, honest code passes, cheats do not.

`make gpu-check` runs this before the attacks and the benchmarks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from epitaxy.attacks import Range, chosen, row
from epitaxy.machine import Job, accelerator, open_machine
from epitaxy.problem import load, open_reference

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def machine(gpu):
    it = accelerator()
    assert it is not None, open_machine("nvidia").present()
    yield it
    it.close()


def test_local_and_the_chips_name_mean_the_gpu(machine):
    assert open_machine("local").device == "cuda"
    assert machine.chip().kind == "gpu"


def test_a_confined_worker_uses_the_gpu(machine, tmp_path):
    """Without this nothing else can work: see what the worker wrote, and `machines/_gpu.READ`."""
    problem = load(ROOT / "examples" / "softmax.py")
    reference = open_reference(problem)
    (tmp_path / "model_new.py").write_text(problem.source.replace("class Model", "class ModelNew"))
    with machine.start(Job(problem=problem, folder=str(tmp_path))) as worker:
        worker.prepare(reference.init_arguments(), reference.state())
        inputs = reference.inputs(1, "given")
        worker.write(0, inputs)
        worker.burst([0, 0, 0])
        wall_s, device_s = worker.clocks_s
        print(f"layers {worker.layers}, wall {wall_s * 1e6:.1f} us, events {device_s * 1e6:.1f} us")
        assert 0 < device_s <= wall_s
        right = reference.oracle(inputs)
        error = reference.error(worker.outputs(), right, right)
        assert error < 1e-5


@pytest.mark.parametrize("name", ["gpu_torch_broad", "gpu_side_stream", "gpu_runs_ahead"])
def test_honest_code_passes_and_streams_do_not(machine, name, tmp_path):
    place = Range(tmp_path, machine)
    outcome = place.fire(*chosen([name]))
    assert not outcome.fault, row(outcome)


def test_grown_kernels_are_timed_on_the_chip(machine, tmp_path):
    """The whole loop: grown, built, launched from its own cache in the jail, timed, proven."""
    from epitaxy.study import create_study

    study = create_study(
        ROOT / "examples" / "softmax.py", machine=machine, budget="3", ledger=tmp_path / "l.db"
    )
    study.optimize()
    assert study.best is not None, [v.reason for _, v in study.view().judged()]
    _, verdict = study.best
    print(f"{verdict.time_s * 1e6:.1f} us, {verdict.speedup:.2f}x, energy {verdict.energy_j}")
    assert verdict.basis == "measured"
    assert verdict.plan == "full"


def test_two_runs_of_one_kernel_agree(machine, tmp_path):
    """An A/A control: printed, judged by nobody."""
    place = Range(tmp_path, machine)
    (it,) = chosen(["gpu_torch_broad"])
    times = [place.judge(it).time_s for _ in range(2)]
    print(f"the same kernel twice: {times[0] * 1e6:.1f} and {times[1] * 1e6:.1f} us")
    assert all(times)
