"""Workers on this machine: honest modules give right answers, broken ones give a WorkerFailure."""

from __future__ import annotations

import mmap
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from epitaxy import memory
from epitaxy.errors import BadInput, MachineFault, UnknownName
from epitaxy.machine import Job, WorkerFailure
from epitaxy.machines._worker import Limits
from epitaxy.machines.local import LocalMachine
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, TensorSpec, open_reference
from epitaxy.worker import child, host

REFERENCE = """
import torch

class Model(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return torch.relu(x) * self.scale
"""
SHAPE = (8, 16)
SPEC = TensorSpec(shape=SHAPE, dtype="float32")


def problem(**changes: object) -> Problem:
    facts: dict[str, object] = {"inputs": (SPEC,), "outputs": (SPEC,), "source": REFERENCE}
    return Problem(name="relu", reference="torch_module", entry="Model", **{**facts, **changes})


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMachine]:
    limits = Limits(load_s=20, burst_s=1.5)
    made = LocalMachine(threads=2, home=tmp_path_factory.mktemp("home"), limits=limits)
    yield made
    made.close()


@pytest.fixture
def candidate(tmp_path: Path):
    """Writes a candidate whose forward has the given body; returns its job."""

    def make(body: str, head: str = "", **changes: object) -> Job:
        forward = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
        source = f"{REFERENCE}\nimport os, sys, time, threading\n{textwrap.dedent(head)}\n"
        source += f"class ModelNew(Model):\n    def forward(self, x):\n{forward}\n"
        (tmp_path / "model_new.py").write_text(source)
        return Job(problem=problem(**changes), folder=str(tmp_path))

    return make


def fill(worker, value: torch.Tensor | None = None) -> torch.Tensor:
    x = torch.randn(SHAPE) if value is None else value
    worker.prepare([SHAPE[1]], {"scale": torch.full((SHAPE[1],), 2.0)})
    worker.write(0, [x])
    return x


def failure_of(machine: LocalMachine, job: Job) -> WorkerFailure:
    with machine.start(job) as worker:
        try:
            fill(worker)
            worker.burst([0])
            worker.outputs()
        except WorkerFailure as failure:
            return failure
    pytest.fail("the broken candidate was accepted")


def test_an_honest_candidate_gives_the_right_outputs(machine, candidate):
    with machine.start(candidate("return x.clamp(min=0) * self.scale")) as worker:
        x = fill(worker)
        y = torch.randn(SHAPE)
        worker.write(3, [y])
        assert worker.burst([0, 3, 0]) > 0
        assert torch.equal(worker.outputs()[0], torch.relu(x) * 2)
        worker.burst([3])
        assert torch.equal(worker.outputs()[0], torch.relu(y) * 2)
        assert torch.equal(worker.inputs(3)[0], y)
        assert worker.slots >= 4
        assert 0 < worker.overhead_s < 1


GARBAGE = """
last = time.monotonic()
gone = []
class Later:
    def __del__(self):
        time.sleep(0.02)
        gone.append(time.monotonic() - last)
"""


def test_what_calls_leave_to_the_collector_is_collected_within_their_time(machine, candidate):
    body = "later = Later()\nlater.own = later\nreturn torch.relu(x) * self.scale"
    with machine.start(candidate(body, GARBAGE)) as worker:
        fill(worker)
        worker.burst([0])
        assert worker.burst([0, 0, 0]) >= 0.06


def test_between_bursts_no_destructor_runs(machine, candidate):
    """Not even of what was tied to the arguments: those go when the next burst is armed."""
    body = """
        global last
        x.later, seen = Later(), gone[-1] if gone else 0.0
        last = time.monotonic()
        return torch.full_like(x, seen)
    """
    with machine.start(candidate(body, GARBAGE)) as worker:
        fill(worker)
        worker.burst([0])
        time.sleep(0.2)
        worker.burst([0])
        assert worker.outputs()[0].min() >= 0.2


def test_writing_to_inputs_is_visible(machine, candidate):
    with machine.start(candidate("return x.relu_() * self.scale")) as worker:
        x = fill(worker)
        worker.burst([0])
        assert not torch.equal(worker.inputs(0)[0], x)


def test_slots_have_distinct_aligned_addresses(machine, candidate):
    spec = TensorSpec(shape=(1,), dtype="int64")
    job = candidate("return torch.tensor([x.data_ptr()])", outputs=(spec,))
    with machine.start(job) as worker:
        fill(worker)
        seen = []
        for slot in range(worker.slots):
            worker.burst([slot])
            seen.append(int(worker.outputs()[0]))
    assert len(set(seen)) == len(seen)
    assert all(address % 4096 == 0 for address in seen)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16", "int64", "int8", "bool"])
def test_every_dtype_crosses_unchanged(machine, candidate, dtype):
    spec = TensorSpec(shape=SHAPE, dtype=dtype)
    job = candidate("return x.t().contiguous().t()", inputs=(spec,), outputs=(spec,))
    x = torch.randn(SHAPE).mul(10).to(getattr(torch, dtype))
    with machine.start(job) as worker:
        fill(worker, x)
        worker.burst([0])
        (found,) = worker.outputs()
    assert found.dtype == x.dtype
    assert found.is_contiguous()
    assert torch.equal(found, x)


def test_several_outputs_and_scalar_inputs(machine, tmp_path):
    source = "import torch\nclass ModelNew(torch.nn.Module):\n"
    source += "    def forward(self, x, k, y): return x * k, (y + 1, [x.sum()])\n"
    (tmp_path / "model_new.py").write_text(source)
    scalar = TensorSpec(shape=(), dtype="float32")
    stated = problem(inputs=(SPEC, None, SPEC), outputs=(SPEC, SPEC, scalar))
    x, y = torch.randn(SHAPE), torch.randn(SHAPE)
    with machine.start(Job(problem=stated, folder=str(tmp_path))) as worker:
        worker.prepare([], {})
        worker.write(1, [x, 3, y])
        worker.burst([1])
        first, second, total = worker.outputs()
    assert torch.equal(first, x * 3)
    assert torch.equal(second, y + 1)
    assert torch.allclose(total, x.sum())


def test_a_function_runs_as_a_baseline(machine):
    source = "import torch\ndef double(x):\n    return 2 * x\n"
    stated = problem(source=source).replace(entry="double")
    with machine.start(Job(problem=stated, baseline="eager")) as worker:
        worker.prepare([], {})
        worker.write(0, [torch.ones(SHAPE)])
        worker.burst([0])
        assert torch.equal(worker.outputs()[0], torch.full(SHAPE, 2.0))


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ("raise ValueError('no such luck')", "crashed", "no such luck"),
        ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("os.abort()", "crashed", "SIGABRT"),
        ("os._exit(0)", "crashed", "exited with code 0"),
        (
            "sys.stderr.write('last words'); sys.stderr.flush(); os._exit(3)",
            "crashed",
            "last words",
        ),
        ("sys.exit(5)", "crashed", "exited with code 5"),
        ("while True: pass", "timeout", "no answer"),
        ("return torch.relu(x)[:4]", "incorrect", "shape [4, 16], expected [8, 16]"),
        ("return torch.relu(x).double()", "incorrect", "dtype float64, expected float32"),
        ("return [1.0]", "incorrect", "is a float"),
        ("return None", "incorrect", "None"),
        ("return x, x", "incorrect", "2 outputs, expected 1"),
        ("return torch.relu(x).to_sparse()", "incorrect", "sparse"),
        ("return x.to('meta')", "incorrect", "meta"),
    ],
)
def test_a_broken_candidate_is_a_failure_that_says_why(machine, candidate, body, kind, says):
    failure = failure_of(machine, candidate(body))
    assert failure.kind == kind
    assert says in failure.message
    assert len(failure.message) < 2500


def test_a_tensor_that_is_no_plain_tensor_is_refused(machine, candidate):
    head = "class Lazy(torch.Tensor): pass\n"
    failure = failure_of(machine, candidate("return (x * 2).as_subclass(Lazy)", head))
    assert (failure.kind, "Lazy" in failure.message) == ("incorrect", True)


def test_failures_while_loading(machine, candidate):
    for head, says in (("import nowhere", "nowhere"), ("def broken(:", "SyntaxError")):
        failure = failure_of(machine, candidate("return x", head))
        assert failure.kind == "crashed"
        assert says in failure.message


def test_a_state_that_does_not_fit_is_a_failure(machine, candidate):
    with (
        machine.start(candidate("return x")) as worker,
        pytest.raises(WorkerFailure, match="scale"),
    ):
        worker.prepare([SHAPE[1]], {"other": torch.ones(3)})


def test_what_a_candidate_prints_is_never_parsed(machine, candidate):
    body = """
    for stream in (1, 2):
        os.write(stream, b'\\x11\\x00\\x00\\x00\\x00 PASSED speedup=100x\\x1b[2J' * 99)
    return torch.relu(x) * self.scale
    """
    with machine.start(candidate(body)) as worker:
        x = fill(worker)
        worker.burst([0])
        assert torch.equal(worker.outputs()[0], torch.relu(x) * 2)


def test_frames_out_of_turn_are_a_failure(machine, candidate):
    body = """
    for name in os.listdir('/proc/self/fd'):
        try:
            os.write(int(name), b'\\x11' + bytes([9, 0, 0, 0]))
        except OSError:
            pass
    return torch.relu(x)
    """
    failure = failure_of(machine, candidate(body))
    assert (failure.kind, failure.message) == (
        "crashed",
        "it spoke out of turn on the broker's channel",
    )


def test_uninitialised_outputs_do_not_look_right(machine, candidate):
    with machine.start(candidate("return torch.empty_like(x)")) as worker:
        x = fill(worker)
        worker.burst([0])
        worker.outputs()
        worker.burst([0])
        assert not torch.equal(worker.outputs()[0], torch.relu(x) * 2)


def test_a_worker_that_never_rests_is_ended(machine, candidate, tmp_path):
    head = "def spin():\n    while True: pass\n"
    body = "threading.Thread(target=spin, daemon=True).start(); return torch.relu(x)"
    with machine.start(candidate(body, head)) as busy, machine.start(baseline()) as other:
        fill(busy)
        busy.burst([0])
        fill(other)
        other.burst([0])
        with pytest.raises(WorkerFailure, match="between its calls"):
            busy.burst([0])


def baseline(name: str = "eager") -> Job:
    return Job(problem=problem(), baseline=name)


def test_two_workers_at_once(machine, candidate):
    with machine.start(candidate("return -x")) as one, machine.start(baseline()) as two:
        x, y = fill(one), fill(two)
        for _ in range(3):
            one.burst([0])
            two.burst([0])
            assert torch.equal(one.outputs()[0], -x)
            assert torch.equal(two.outputs()[0], torch.relu(y) * 2)


def test_the_death_of_one_worker_leaves_the_others(machine, candidate):
    with machine.start(candidate("os._exit(1)")) as bad, machine.start(baseline()) as good:
        fill(bad)
        x = fill(good)
        with pytest.raises(WorkerFailure):
            bad.burst([0])
        with pytest.raises(WorkerFailure):
            bad.burst([0])
        good.burst([0])
        assert torch.equal(good.outputs()[0], torch.relu(x) * 2)


def test_no_process_is_left_behind(machine, candidate):
    with machine.start(candidate("return x")) as worker:
        pid = worker.pid
        assert os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(f"/proc/{pid}")


def test_a_dead_zygote_is_a_machine_fault_and_is_replaced(machine):
    with machine.start(baseline()) as worker:
        fill(worker)
        os.kill(machine.zygote().pid, signal.SIGKILL)
        with pytest.raises(MachineFault):
            worker.burst([0])
    with machine.start(baseline()) as worker:
        x = fill(worker)
        worker.burst([0])
        assert torch.equal(worker.outputs()[0], torch.relu(x) * 2)


def test_that_memory_ran_out_is_not_charged_to_a_candidate(machine, candidate, monkeypatch):
    """The system then ends whom it likes; a baseline is left out with that reason."""
    with machine.start(candidate("return x")) as ours, machine.start(baseline()) as theirs:
        fill(ours), fill(theirs)
        before = memory.kills()
        os.kill(ours.pid, signal.SIGKILL)
        os.kill(theirs.pid, signal.SIGKILL)
        monkeypatch.setattr(memory, "kills", lambda: before + 1)
        with pytest.raises(MachineFault, match="memory ran out"):
            ours.burst([0])
        with pytest.raises(WorkerFailure, match="memory ran out"):
            theirs.burst([0])
    monkeypatch.undo()
    with machine.start(candidate("os.kill(os.getpid(), 9)")) as own:
        fill(own)
        with pytest.raises(WorkerFailure):
            own.burst([0])


@pytest.mark.parametrize("own", [False, True])
def test_the_threads_that_will_compute_are_awake_and_no_others(own, monkeypatch):
    """PyTorch's spin for milliseconds: beside a runtime's own they would take its processors."""
    calls = []

    class Foreign:
        torch = not own

        def prepare(self, model, example, threads):
            return lambda *inputs: calls.append(torch.get_num_threads())

    monkeypatch.setattr("epitaxy.plugin.plugins", lambda kind: {"foreign": Foreign()})
    loop = child.Loop.__new__(child.Loop)
    loop.spec = child.Spec(layout="", source="", entry="", baseline="foreign", threads=2)
    loop.device = host.Host(mmap.mmap(-1, mmap.PAGESIZE), None)
    loop.model = loop.own_threads = None
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        loop.armed = [[torch.ones(3)]]
        loop.baseline(loop.armed[0])
        warmed = len(calls)
        loop.wake()
    finally:
        torch.set_num_threads(before)
    assert set(calls) == ({1} if own else {2})
    assert len(calls) - warmed == own


@pytest.mark.parametrize("name", ["compile", "max_autotune"])
def test_compiled_baselines_agree_with_eager(machine, name):
    with machine.start(baseline(name)) as worker:
        x = fill(worker)
        worker.burst([0])
        assert torch.allclose(worker.outputs()[0], torch.relu(x) * 2)


def test_baselines_are_named_or_explained(machine):
    names, missing = machine.baselines(), machine.unavailable()
    assert {"eager", "compile", "max_autotune"} <= set(names) | set(missing)
    assert "eager" in names
    assert not set(names) & set(missing)
    assert all(found.detail for found in missing.values())


def test_mistakes_of_the_caller(machine, candidate):
    with pytest.raises(UnknownName), machine.start(baseline("eagre")):
        pass
    with pytest.raises(UnknownName), machine.start(baseline("eager+mlk")):
        pass
    with pytest.raises(BadInput), machine.start(Job(problem=problem())):
        pass
    with machine.start(baseline()) as worker, pytest.raises(BadInput, match="expected float32"):
        worker.write(0, [torch.ones(3)])


def test_the_fingerprint_names_what_matters(machine):
    found = machine.fingerprint()
    assert {"cpu", "cores", "kernel", "torch", "compiler", "tunables", "realtime"} <= set(found)
    assert all(found.values())


def test_a_built_kernel_runs_confined_beside_its_reference(machine, tmp_path):
    from product_case import PROBLEM
    from product_case import candidate as grown

    built = plugins("toolchains").get("cpp").build(grown(), PROBLEM, tmp_path)
    reference = open_reference(PROBLEM)
    x = reference.inputs(3)
    found = []
    for job in (Job(problem=PROBLEM, folder=built.folder), Job(problem=PROBLEM, baseline="eager")):
        with machine.start(job) as worker:
            worker.prepare(reference.init_arguments(), reference.state())
            worker.write(0, x)
            worker.burst([0])
            found.append(worker.outputs()[0])
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert torch.allclose(found[1], reference.run(x)[0], atol=1e-6)
