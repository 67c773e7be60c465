"""A GPU's memory: how it is shared out, whose fault it is when it is full, who took too much."""

from __future__ import annotations

import mmap
import sys

import pytest
import torch
from device_case import EXAMPLE, LAYOUT, FakeGpu

from epitaxy.errors import MachineFault
from epitaxy.guards import Refused
from epitaxy.machine import Job, WorkerFailure
from epitaxy.machines import _worker
from epitaxy.onchip import memory
from epitaxy.problem import load
from epitaxy.worker import cuda


def test_copies_and_a_candidate_take_a_part_of_what_there_is(device):
    _, script = device

    def made(room_bytes):
        script.share = 0.0
        return cuda.Cuda(mmap.mmap(-1, LAYOUT.bytes), LAYOUT, room_bytes)

    assert made(0)._most == cuda.COPIES_BYTES
    assert script.share == 0.0, "baselines take what they need"
    made(1 << 30)
    assert script.share == cuda.SHARE
    made(48 << 30)
    assert script.share == 0.75
    script.free = 8 << 30
    assert made(0)._most == (8 << 30) // cuda.WORKERS


def test_that_the_device_is_full_is_told_from_a_bound_that_was_reached(device):
    it, script = device
    error = torch.OutOfMemoryError("CUDA out of memory")
    assert not it.full(error)
    script.free = 1 << 20
    assert it.full(error)
    assert not it.full(RuntimeError("no such kernel"))


@pytest.mark.parametrize("baseline", ["", "eager"])
def test_a_full_device_is_the_machines_fault_and_no_candidates(baseline):
    it = _worker.LocalWorker.__new__(_worker.LocalWorker)
    it._job = Job(problem=load(EXAMPLE), folder="" if baseline else "/there", baseline=baseline)
    found = it._failed(b'["full", "CUDA out of memory"]')
    assert isinstance(found, WorkerFailure if baseline else MachineFault)
    assert "CUDA out of memory" in found.message
    assert it._failed(b'["incorrect", "no"]').kind == "incorrect"


class Nvml:
    """NVML, with one process that holds so much."""

    class Process:
        pid, usedGpuMemory = 7, 20 << 30  # noqa: N815 (NVML's name)

    class Memory:
        total = 64 << 30

    def __getattr__(self, name):
        found = {
            "nvmlDeviceGetComputeRunningProcesses": [self.Process],
            "nvmlDeviceGetMemoryInfo": self.Memory,
            "nvmlDeviceGetTotalEnergyConsumption": 2500,
        }
        return lambda *_: found.get(name)


def test_a_candidate_that_holds_more_than_its_share_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    machine = FakeGpu(home=tmp_path)
    job = Job(problem=load(EXAMPLE), folder="/there")

    class Worker:
        pid = 7

    facts = {"findings": []}
    with pytest.raises(Refused, match="holds 20480 MiB of the device's memory"):
        memory(machine, job, Worker, facts)
    monkeypatch.setattr(Nvml.Process, "usedGpuMemory", 3 << 30)
    memory(machine, job, Worker, facts)
    assert facts["findings"] == []
    monkeypatch.setattr(Nvml.Process, "pid", 8)
    memory(machine, job, Worker, facts)
    (said,) = facts["findings"]
    assert said.severity == "note"
    assert "NVML does not tell" in said.message
