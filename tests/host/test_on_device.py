"""The worker's device layer and the judge's path through it, on a scripted stand-in of a GPU."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from device_case import EXAMPLE, FakeGpu
from generous import GENEROUS

from epitaxy.candidate import Candidate
from epitaxy.guards import Manners, Refused, Watch
from epitaxy.judge import Judge
from epitaxy.machine import WorkerFailure
from epitaxy.machines import _gpu
from epitaxy.machines.nvidia import NvidiaMachine
from epitaxy.measure import OURS
from epitaxy.problem import load
from epitaxy.toolchain import Availability
from epitaxy.worker import cuda
from epitaxy.worker.frames import Op
from epitaxy.worker.host import POISON


def test_the_clock_goes_around_the_calls_and_waits_for_every_stream(device):
    it, script = device
    it.ready()
    assert script.said == ["synchronize"]
    it.begin()
    seconds, aside = struct.unpack("<2d", it.end())
    assert script.said[1:] == ["record", "record", "synchronize"]
    assert seconds == pytest.approx(2.5e-3)
    assert aside == 0


def test_a_candidate_that_replaces_the_events_changes_nothing(device):
    it, script = device
    it.begin()
    script.Event.elapsed_time = lambda *_: 0.0
    script.synchronize = lambda: None
    assert struct.unpack("<2d", it.end())[0] == pytest.approx(2.5e-3)
    assert script.said[-1] == "synchronize"


def test_what_waits_for_the_device_is_taken_from_the_compiled_module(monkeypatch):
    """PyTorch's functions in Python would find what a candidate puts there."""
    said = []

    class Base:
        pass

    class Where:
        stream_id, device_index, device_type = 3, 0, 1

    def put(name, found):
        monkeypatch.setattr(torch._C, name, found, raising=False)

    monkeypatch.setattr(torch.cuda, "default_stream", Where)
    put("_CudaEventBase", Base)
    put("_cuda_synchronize", lambda: said.append("waits"))
    put("_cuda_sleep", lambda cycles: said.append(cycles))
    put("_cuda_setStream", lambda **there: said.append(there))
    api = cuda.driver()
    for name in ("_CudaEventBase", "_cuda_synchronize", "_cuda_sleep", "_cuda_setStream"):
        put(name, None)
    monkeypatch.setattr(torch.cuda, "synchronize", None)
    api.synchronize()
    api._sleep(5)
    api.set_stream(api.default_stream())
    assert said == ["waits", 5, {"stream_id": 3, "device_index": 0, "device_type": 1}]
    assert api.Event is Base


def test_every_call_has_inputs_of_its_own_with_the_slots_contents(device):
    it, _ = device
    contents = [torch.arange(4.0), "text"]
    it.stored(0, contents)
    contents[0].zero_()  # the shared memory changes; the device has its own
    it.arming(False)
    one, other = it.taken(0, contents), it.taken(0, contents)
    assert one[0].data_ptr() != other[0].data_ptr()
    assert torch.equal(one[0], torch.arange(4.0))
    assert one[1] == "text"
    it.stored(0, contents)
    it.arming(False)
    assert torch.equal(it.taken(0, contents)[0], torch.zeros(4))


def test_copies_are_shared_where_they_would_take_too_much(device, monkeypatch):
    it, _ = device
    monkeypatch.setattr(it, "_most", 40)
    it.arming(False)
    taken = [it.taken(0, [torch.arange(4.0), 1])[0].data_ptr() for _ in range(5)]
    assert len(set(taken)) == 2


def test_a_call_that_writes_to_its_inputs_is_seen(device):
    it, _ = device
    it.arming(False)
    first, second = (it.taken(0, [torch.arange(4.0), 1]) for _ in range(2))
    assert torch.equal(it.used(0)[0], torch.arange(4.0))
    second[0][2] = float("nan")
    assert it.used(0)[0].isnan().any()
    first[0][2] = 7.0
    assert it.used(0)[0][2] == 7.0


def test_witnessed_inputs_come_only_in_the_order_of_the_default_stream(device):
    it, script = device
    it.arming(True)
    early = it.taken(0, [torch.arange(4.0), 1])[0]
    assert (early.view(torch.uint8) == POISON).all()
    del script.said[:]
    it.before(0)
    assert script.said == ["to default", "record", "pause", "record"]
    assert torch.equal(early, torch.arange(4.0))


def test_witnessed_outputs_stay_on_the_device_until_the_clock_has_stopped(device):
    it, script = device
    script.clock = iter([0.0, 1.0, 101.0, 108.0, 110.0, 120.0])  # ms
    it.arming(True)
    it.taken(0, [torch.arange(4.0), 1])
    it.begin()
    it.before(0)
    made, target = torch.full((4,), 7.0), torch.zeros(4)
    it.keep(made, target)
    made.zero_()
    assert torch.equal(target, torch.zeros(4))
    whole, aside = struct.unpack("<2d", it.end())
    assert (whole, aside) == (pytest.approx(0.12), pytest.approx(0.102)), "pause and copies"
    it.bring()
    assert torch.equal(target, torch.full((4,), 7.0))


def test_what_the_pauses_and_copies_took_is_no_time_of_a_witnessed_call(judged):
    from epitaxy.machine import Job

    it = judged.judge_of
    folder = it.machine.home / "plain"
    folder.mkdir(parents=True)
    text = it.problem.source.replace("class Model", "class ModelNew")
    (folder / "model_new.py").write_text(text)
    it.machine.share = "1"
    with it.machine.start(Job(problem=it.problem, folder=str(folder))) as worker:
        it._prepare(worker)
        worker.burst([0])
        seconds = worker.witness([0, 1, 0])
        wall_s, device_s = worker.clocks_s
        assert seconds == wall_s - worker._aside_s
        assert 0 < worker._aside_s < device_s
        for number, slot in enumerate([0, 1, 0]):
            case = it.cases.get(slot)
            assert it.cases.error(worker.seen(number), case) <= it.cases.limit(case)


def test_outputs_must_be_memory_of_their_own(device):
    it, _ = device
    it.arming(False)
    mine = it.taken(0, [torch.arange(4.0), 1])[0]
    assert "view of an input" in it.borrowed([mine[1:]], [])
    fresh = mine + 1
    assert it.borrowed([fresh], []) == ""
    assert "before it" in it.borrowed([fresh], [fresh])


def test_recycled_memory_is_spoiled(device):
    it, _ = device
    seen = []
    it._spoiled = seen.append
    it.spoil()
    assert [x.shape for x in seen] == [(4,), (4,)]


def test_fences_stand_around_what_a_gpus_bundle_allocates(monkeypatch):
    from epitaxy.worker import fences

    monkeypatch.setattr(torch, "empty", torch.empty)
    monkeypatch.setattr(torch, "empty_like", torch.empty_like)
    it = fences.Fences()
    it._device = "cpu"
    it.install()
    it._install_empty(torch.empty_like)
    made = torch.empty((4, 8), dtype=torch.float32, device="cpu")
    assert made.shape == (4, 8)
    assert not it.broken()
    made = torch.empty((4, 8), dtype=torch.float32, device="cpu")
    made.as_strided((33,), (1,)).fill_(1.0)
    assert it.broken()


def test_energy_is_read_around_bursts_alone():
    from epitaxy.machines import _energy

    asked = []

    class Worker:
        def metered(self, slots, counter):
            asked.append(list(slots))
            return 4.0

    found = _energy.per_call_j(Worker(), (0, 1), 0.25, lambda: 0.0)
    assert found == 1.0
    assert asked == [[0, 1, 0, 1]] * _energy.BURSTS


def test_short_calls_are_metered_until_the_counter_has_moved():
    from epitaxy.machines import _energy

    asked = []

    class Worker:
        def metered(self, slots, counter):
            asked.append(len(slots))
            return 1.0

    _energy.per_call_j(Worker(), (0, 1), 5e-6, lambda: 0.0)
    assert sum(asked) * 5e-6 == pytest.approx(_energy.LEAST_S)


@pytest.mark.parametrize("fault", [WorkerFailure("timeout", "no answer"), RuntimeError("NVML")])
def test_a_meter_that_fails_is_a_note_and_no_verdict(fault):
    from epitaxy.onchip import energy

    class Broken:
        def energy_j(self, worker, call_s):
            raise fault

    class Taken:
        def times(self, name):
            return [1e-3]

    facts = {"findings": []}
    energy(Broken(), {OURS: None}, Taken(), facts)
    (found,) = facts["findings"]
    assert found.severity == "note"
    assert str(fault) in found.message
    assert "energy_j" not in facts


def test_bounds_that_nothing_checks_on_a_gpu_are_a_note():
    from epitaxy.correct import _folder

    class Place:
        machine = FakeGpu.__new__(FakeGpu)

    class Written:
        toolchain = "cuda"

    folder, (said,) = _folder(Place(), Written(), Path())
    assert folder == ""
    assert said.severity == "note"
    assert "on the device itself" in said.message


def test_without_a_meter_the_mend_is_said():
    from epitaxy.machines._nvml import Nvml

    state = Nvml().counting
    assert state.ok or (state.detail and "epitaxy[nvidia]" in state.mend)


class Elsewhere:
    """The broker's side of a worker whose device is busy for so many seconds when asked."""

    def __new__(cls, seconds):
        from epitaxy.machines import _worker

        it = _worker.LocalWorker.__new__(_worker.LocalWorker)
        it._late, it._condemned, it._closed, it.pid = 0, "", False, 0
        it._machine = FakeGpu.__new__(FakeGpu)

        def ask(op, payload, limit_s):
            assert op == Op.IDLE
            if seconds >= limit_s:
                raise WorkerFailure("timeout", "no answer")
            time.sleep(seconds)

        it._ask = ask
        return it


def test_whoever_is_next_waits_for_the_device_of_the_worker_before(monkeypatch):
    from epitaxy.machines import _worker

    monkeypatch.setattr(_worker._realtime, "wait_at_rest", lambda pid, limit_s: 0.0)
    monkeypatch.setattr(_worker, "LATE_S", 0.5)
    honest, late, stuck = Elsewhere(0.0), Elsewhere(0.01), Elsewhere(1.0)
    for it in (honest, stuck):
        for _ in range(2 * _worker.LATE_TURNS):
            it.rest()
    assert honest._condemned == ""
    assert stuck._condemned == "its device is busy after its calls"
    monkeypatch.setattr(_worker, "LATE_S", 0.001)
    for _ in range(_worker.LATE_TURNS - 1):
        late.rest()
    assert late._condemned == ""
    late.rest()
    assert "again and again" in late._condemned


def test_a_worker_is_asked_to_rest_when_another_has_its_turn(tmp_path):
    machine = FakeGpu(home=tmp_path)
    asked = []

    class Seen:
        def rest(self):
            asked.append(self)

    one, other = Seen(), Seen()
    with machine.turn(one):
        pass
    with machine.turn(other):
        pass
    assert asked == [one]


def test_a_device_at_rest_has_done_everything(device):
    it, script = device
    it.idle()
    assert script.said == ["synchronize"]


# -- the guard ------------------------------------------------------------------------------------


def _watch(clocks):
    found = Watch.__new__(Watch)
    found.manners, found.on = Manners(), lambda name: True
    found.manners.clocks = clocks
    return found


def test_two_clocks_that_always_disagree_are_a_reason_to_refuse():
    honest = Manners()
    honest.clocks = [(4.03e-3, 4e-3), (4.04e-3, 4e-3)]
    assert _watch([(5e-3, 4.96e-3), (5e-3, 4.8e-3)])._apart(honest) is None
    assert _watch([(5e-3, 3e-3), (5e-3, 4.9e-3)])._apart(honest) is None, "a disturbance passes"
    refused = _watch([(5e-3, 2e-3), (5e-3, 2.1e-3)])._apart(honest)
    assert isinstance(refused, Refused)
    assert "2100.0 us by the device's own clock" in refused.reason
    now_and_then = [(5e-3, 2e-3)] * 9 + [(5e-3, 4.9e-3)] * 3
    assert _watch(now_and_then)._apart(honest) is not None, "that excuses nothing"


def test_short_looks_say_nothing_about_two_clocks():
    class Worker:
        overhead_s, armed, slots, clocks_s = 0.0, (3, 1e-4), 2, (1e-3, 1e-3)
        said: ClassVar[list[int]] = []

        def burst(self, slots):
            self.said.append(len(slots))
            return 1e-3

        def write(self, slot, contents):
            pass

    class Contents:
        inputs = ()

        def get(self, number):
            return self

        def unseen(self, number):
            return ()

    cases = Contents()
    cases.problem = cases
    it = Watch(cases, Worker(), (0, 1), lambda name: name == "repeats", 1e-4)
    it.manners.timed = [(7, 1e-4)]
    it.look()
    assert Worker.said == [2, 2, 7]
    assert len(it.manners.clocks) == 1, "only of the burst that is as long as the timed ones"


NONSENSE = [(float("nan"), 0.0), (-1.0, 0.0), (1.0, 2.0), (1.0, -1.0), (1.0, float("nan"))]


@pytest.mark.parametrize("answer", [b"", b"1234", *(struct.pack("<2d", *x) for x in NONSENSE)])
def test_a_worker_that_tells_no_time_of_its_device_fails(answer):
    from epitaxy.machines._worker import _clock

    with pytest.raises(WorkerFailure, match="device's own clock"):
        _clock(answer)
    assert _clock(struct.pack("<2d", 0.25, 0.125)) == (0.25, 0.125)


def test_a_device_clock_that_shows_more_than_the_wall_is_refused_too():
    assert _watch([(5e-3, 7e-3)])._apart(Manners()) is not None


# -- the whole path -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "ramp.py").write_text(
        "import torch\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x * 2 + 1\n\n\ndef get_inputs():\n    return [torch.randn(64, 512)]\n\n\n"
        "def get_init_inputs():\n    return []\n"
    )
    machine = FakeGpu(home=folder / "home")
    it = Judge(load(folder / "ramp.py"), machine, baselines=["eager"])

    def judge(body, share="1", plan="screen"):
        machine.share = share
        text = (
            f"import torch\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n{body}"
        )
        return it.judge(
            Candidate(
                problem=it.problem.digest, toolchain="torch", files={"model_new.py": text},
                entry="model_new.py", proposer="test",
            ), plan,
        )  # fmt: skip

    judge.judge_of = it
    yield judge
    it.close()
    machine.close()


def test_the_whole_path_ends_in_a_measured_verdict(judged):
    verdict = judged("        return torch.add(x, x) + 1\n")
    assert verdict.accepted, verdict.reason
    assert verdict.basis == "measured"
    assert verdict.time_s > 0


def test_a_device_clock_that_tells_less_is_refused(judged):
    verdict = judged("        return x * 2 + 1\n", share="0.3")
    assert verdict.reason.startswith("device_clock"), verdict.reason


def test_a_device_that_does_not_start_is_the_machines_fault(tmp_path, monkeypatch):
    from epitaxy.errors import MachineFault
    from epitaxy.machine import Job

    machine = FakeGpu(home=tmp_path / "home")
    broken = {**machine.environment, "FAKE_BROKEN": "1"}
    monkeypatch.setattr(FakeGpu, "environment", broken)
    problem = load(EXAMPLE)
    (tmp_path / "model_new.py").write_text("class ModelNew: pass\n")
    try:
        with (
            pytest.raises(MachineFault, match="CUDA error 304"),
            machine.start(Job(problem=problem, folder=str(tmp_path))),
        ):
            pass
    finally:
        machine.close()


def test_outputs_that_no_fence_surrounds_are_told(judged, machine_of, tmp_path):
    from epitaxy.machine import Job

    problem = judged.judge_of.problem
    with machine_of(1) as machine:
        for number, (result, unfenced) in enumerate(
            (("torch.empty_like(x).zero_()", False), ("x * 2", True))
        ):
            folder = tmp_path / str(number)
            folder.mkdir()
            text = f"import torch\n\ndef ModelNew(x):\n    return {result}\n"
            (folder / "model_new.py").write_text(text)
            job = Job(problem=problem, folder=str(folder), fenced=True)
            with machine.start(job) as worker:
                worker.prepare([], {})
                worker.write(0, judged.judge_of.cases.get(0).inputs)
                worker.burst([0])
                worker.outputs()
                assert worker.unfenced == unfenced


def test_a_call_that_changes_its_inputs_is_refused(judged):
    verdict = judged("        return x.mul_(2) + 1\n")
    assert verdict.reason.startswith("inputs"), verdict.reason


def test_kernels_for_the_cpu_are_refused_where_calls_are_made_on_a_gpu(judged):
    from epitaxy.onchip import at_home

    machine = FakeGpu()
    with pytest.raises(Refused, match="cpp builds for the CPU"):
        at_home("cpp", machine)
    at_home("torch", machine)


# -- finding it -----------------------------------------------------------------------------------


def test_the_driver_names_the_chip():
    from epitaxy.chip_facts import load_all

    chips = load_all()
    assert _gpu.named("NVIDIA H100 80GB HBM3", chips).id == "h100_sxm"
    assert _gpu.named("NVIDIA H200", chips).id == "h200_sxm"
    assert _gpu.named("NVIDIA A100-SXM4-80GB", chips).id == "a100_sxm80"
    others = (
        "NVIDIA GeForce GTX 280", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H200 NVL",
        "NVIDIA A100-SXM4-40GB", "NVIDIA A100 80GB PCIe", "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    )  # fmt: skip
    assert [name for name in others if _gpu.named(name, chips)] == []


def test_a_slice_of_a_gpu_is_not_the_chip(tmp_path, monkeypatch):
    monkeypatch.setattr(_gpu, "here", lambda: True)
    monkeypatch.setattr(_gpu, "cuda_build", lambda: "12.8")
    monkeypatch.setattr(_gpu, "chip_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(_gpu, "DRIVER", tmp_path)
    monkeypatch.setattr(_gpu, "UVM", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    from epitaxy.chip_facts import load_all

    chips = load_all()
    assert _gpu.present(chips).ok
    monkeypatch.setattr(_gpu, "UVM", tmp_path / "none")
    assert "nvidia-modprobe" in _gpu.present(chips).mend
    monkeypatch.setattr(_gpu, "UVM", tmp_path)
    (tmp_path / "capabilities" / "gpu0" / "mig" / "gi1").mkdir(parents=True)
    assert "MIG" in _gpu.present(chips).detail
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "hides" in _gpu.present(chips).detail
    monkeypatch.setattr(_gpu, "DRIVER", tmp_path / "none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert not _gpu.present(chips).ok


def test_of_several_gpus_the_visible_one_is_named(tmp_path, monkeypatch):
    for bus, uuid, model in (("0000:01", "GPU-a1", "NVIDIA H200"), ("0000:41", "GPU-b2", "B200")):
        folder = tmp_path / "gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nGPU UUID: \t {uuid}\n")
    monkeypatch.setattr(_gpu, "DRIVER", tmp_path)
    monkeypatch.setattr(_gpu, "_asked", lambda field: f"asked for {field}")
    read = _gpu.chip_name.__wrapped__
    for which, model in (("", "NVIDIA H200"), ("1", "B200"), ("GPU-b2", "B200"), ("1,0", "B200")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", which)
        assert read() == model
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert read() == "asked for name"


def test_what_cannot_be_made_ready_for_the_gpu_is_said_with_its_mend(tmp_path, monkeypatch):
    from epitaxy.errors import BadEnvironment

    (tmp_path / "unready.py").write_text("TROUBLE = 'no headers'\n")
    path = f"{tmp_path}:{FakeGpu(home=tmp_path).environment['PYTHONPATH']}"
    monkeypatch.setattr(FakeGpu, "environment", {"PYTHONPATH": path})
    machine = FakeGpu(home=tmp_path / "home")
    try:
        with pytest.raises(BadEnvironment, match="no headers") as said:
            machine.zygote(preload=("unready",))
        assert "python3-dev" in said.value.mend
    finally:
        machine.close()


def test_without_a_gpu_local_means_the_processors():
    from epitaxy.machine import accelerator, open_machine

    if _gpu.here():
        pytest.skip("a GPU is here")
    assert accelerator() is None
    assert open_machine("local").device == "cpu"
    assert not NvidiaMachine().present().ok


def test_with_a_gpu_local_and_its_name_mean_it(monkeypatch):
    from epitaxy.chip_facts import find
    from epitaxy.commands.run import open_machine
    from epitaxy.plugin import plugins

    it = plugins("machines").get("nvidia")
    state = Availability(ok=True, detail="scripted")
    monkeypatch.setattr(type(it), "present", lambda self: state)
    monkeypatch.setattr(type(it), "chip", lambda self: find("h100"))
    assert open_machine("local") is it
    assert open_machine("h100") is it
    assert open_machine("cpu").device == "cpu"


def test_the_jail_of_a_gpus_worker_lets_it_control_the_gpu_only(tmp_path, monkeypatch):
    monkeypatch.setattr(_gpu, "nodes", lambda: ("/dev/nvidia0",))
    it = FakeGpu(home=tmp_path)
    problem = load(EXAMPLE)
    made = it._jail_of(str(tmp_path), problem)
    assert made["devices"] == ["/dev/nvidia0"]
    assert made["writable"] == []
    assert made["limits"]["memory_bytes"] == 0


def test_what_a_gpu_judged_is_found_by_its_chip(tmp_path, monkeypatch):
    from epitaxy.chip_facts import find
    from epitaxy.commands.run import machine_like
    from epitaxy.lessons import chip_of
    from epitaxy.plugin import plugins

    it = FakeGpu(home=tmp_path)
    assert chip_of(it.fingerprint()) == GENEROUS.id
    gpu = plugins("machines").get("nvidia")
    monkeypatch.setattr(type(gpu), "present", lambda self: Availability(ok=True, detail="here"))
    monkeypatch.setattr(type(gpu), "chip", lambda self: find("h100"))
    monkeypatch.setattr(type(gpu), "toolchains", ("torch",))
    assert machine_like({"chip": "h100_sxm"}, "torch") is gpu
    assert machine_like({}, "triton_nvidia") is gpu
    assert machine_like({}, "cpp").device == "cpu", "though a GPU is here"
    assert machine_like({"cpu": "Xeon"}, "torch").device == "cpu"


def test_only_kernels_for_processors_are_profiled_here(monkeypatch):
    from epitaxy.commands.profiling import _at_home
    from epitaxy.errors import BadInput
    from epitaxy.plugin import plugins

    files = {"model_new.py": "x"}
    it = Candidate(
        problem="p", toolchain="torch", files=files, entry="model_new.py", proposer="test"
    )
    cpu = plugins("machines").get("cpu")
    _at_home(it, cpu)
    with pytest.raises(BadInput, match="does not build for processors"):
        _at_home(it.replace(toolchain="triton_nvidia"), cpu)


def test_every_build_is_for_the_chip_of_its_judge(tmp_path, monkeypatch):
    """A toolchain is one object for all machines of the process."""
    from epitaxy.chip import find_chip
    from epitaxy.plugin import plugins

    shared = plugins("toolchains").get("triton_nvidia")
    monkeypatch.setattr(shared, "_chip", None)
    monkeypatch.setattr(type(shared), "build", lambda self, *_: self._chip.id)

    def judge(chip):
        it = Judge.__new__(Judge)
        it._off, it.machine, it.problem, it._cache = frozenset(["sandbox"]), None, None, tmp_path
        it.chip = find_chip(chip)
        return it

    class Written:
        toolchain = "triton_nvidia"

    one, other = judge("h100_sxm"), judge("h200_sxm")
    assert [it.build(Written()) for it in (one, other, one)] == [
        "h100_sxm",
        "h200_sxm",
        "h100_sxm",
    ]


# -- Triton in a jail -----------------------------------------------------------------------------

RELU = """import torch
import triton
import triton.language as tl


@triton.jit
def _relu(x, y, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.maximum(tl.load(x + i), 0.0))


def _region0(x):
    y = torch.empty((64, 512), dtype=torch.float32, device=x.device)
    _relu[(32,)](x, y, BLOCK=1024, num_warps=4)
    return [y]
"""
FORWARD = """class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(('float32', (64, 512)),))
    def forward(x):
        y, = _region0(x)
        return y
"""


@pytest.mark.parametrize("own", [False, True])
def test_what_launches_a_kernel_is_built_with_it_where_that_is_c_for_each_signature(
    monkeypatch, own
):
    import sys
    from types import ModuleType, SimpleNamespace

    from epitaxy.toolchains import _triton_build

    driver, made = ModuleType("driver"), []
    driver.CudaLauncher = lambda src, metadata: made.append((src, metadata))
    if own:  # as in Triton 3.6
        driver.make_launcher = None
    for name in ("triton", "triton.backends", "triton.backends.nvidia"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "triton.backends.nvidia.driver", driver)
    _triton_build._with_launcher(SimpleNamespace(src="source", metadata="facts"))
    assert made == ([("source", "facts")] if own else [])


def test_a_toolchain_whose_chip_is_here_builds_its_launchers_and_finds_its_driver(monkeypatch):
    from epitaxy.chip import find_chip
    from epitaxy.toolchains.triton_nvidia import TritonNvidia

    monkeypatch.setenv("TRITON_LIBCUDA_PATH", "/opt/driver")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    toolchain, chip = TritonNvidia(), find_chip("h100_sxm")
    assert not toolchain.job(chip)["launched"]
    assert toolchain.reads() == ()
    assert "TRITON_LIBCUDA_PATH" not in toolchain.environment(Path("/made"))
    toolchain.resident(chip)
    assert toolchain.job(chip)["launched"]
    assert toolchain.reads() == ("/opt/driver",)
    assert toolchain.environment(Path("/made"))["TRITON_LIBCUDA_PATH"] == "/opt/driver"


def test_a_confined_worker_finds_what_the_build_compiled_for_triton(tmp_path):
    """It may start neither ptxas nor a C compiler: whatever the build did not leave would fail."""
    import os
    from ctypes.util import find_library

    pytest.importorskip("triton", reason="Triton is not installed: .[triton]")
    from triton.backends.nvidia import driver

    known = find_library("cuda") or os.environ.get("TRITON_LIBCUDA_PATH")
    if hasattr(driver, "make_launcher") and not known:
        pytest.skip("this Triton links what launches a kernel against libcuda, which is not here")
    from epitaxy.chip import find_chip
    from epitaxy.machine import Job
    from epitaxy.problem import open_reference
    from epitaxy.toolchains.triton_nvidia import TritonNvidia

    (tmp_path / "relu.py").write_text(
        "import torch\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.relu(x)\n\n\ndef get_inputs():\n    return [torch.randn(64, 512)]\n\n"
        "def get_init_inputs():\n    return []\n"
    )
    problem = load(tmp_path / "relu.py")
    toolchain, chip = TritonNvidia(), find_chip("h100_sxm")
    toolchain.aim(chip)
    here = toolchain.resident(chip)
    build = toolchain.build(
        Candidate(
            problem=problem.digest, toolchain="triton_nvidia", entry="forward.py",
            files={"kernels.py": RELU, "forward.py": FORWARD}, proposer="test",
        ), problem, tmp_path / "cache",
    )  # fmt: skip
    assert build.ok, build.log
    bundle = Path(build.folder, "model_new.py")
    bundle.write_text(bundle.read_text().replace('else "cuda"', 'else "cpu"'))

    class Resident(FakeGpu):
        preload = ("fake_triton_gpu",)

        @property
        def environment(self):
            return {**super().environment, **self._common()}

        def _common(self):
            return {k: v for k, v in here.environment.items() if "{folder}" not in v}

        def open(self, job):
            own = {k: v.replace("{folder}", job.folder) for k, v in here.environment.items()}
            return NvidiaMachine.open(self, job.replace(environment=own))

    machine = Resident(home=tmp_path / "home")
    machine._residents = {"triton_nvidia": here}
    reference = open_reference(problem)
    try:
        with machine.start(Job(problem=problem, folder=build.folder)) as worker:
            worker.prepare(reference.init_arguments(), reference.state())
            worker.write(0, reference.inputs(1, "given"))
            with pytest.raises(WorkerFailure, match="would launch _relu in a grid of 32"):
                worker.burst([0])
    finally:
        machine.close()
