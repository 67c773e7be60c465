"""A scripted stand-in of a GPU for the worker's device layer, and a machine of it for the judge."""

from __future__ import annotations

import mmap
from pathlib import Path

from generous import GENEROUS

from epitaxy.machines.nvidia import NvidiaMachine
from epitaxy.toolchain import Availability
from epitaxy.worker import cuda
from epitaxy.worker.frames import Layout, Place

EXAMPLE = Path(__file__).parents[2] / "examples" / "gelu_chain.py"
PLACE = Place(0, "float32", (4,))
LAYOUT = Layout(((PLACE, None),), (PLACE,), 4096, 8192)


class Script:
    """`torch.cuda` that writes down what is asked of it; events show the times of `times`."""

    def __init__(self, times):
        self.said, self.clock, self.free = [], iter(times), 32 << 30
        script = self

        class Event:
            def __init__(self, enable_timing):
                self.at = 0.0

            def record(self, stream):
                script.said.append("record")
                self.at = next(script.clock)

            def elapsed_time(self, other):
                return other.at - self.at

        self.Event = Event

    def synchronize(self):
        self.said.append("synchronize")

    def set_stream(self, stream):
        self.said.append(f"to {stream}")

    def default_stream(self):
        return "default"

    def _sleep(self, cycles):
        self.said.append("pause")

    def memory(self):
        return self.free, 64 << 30

    def bound(self, share):
        self.share = share


def scripted(monkeypatch):
    """(the device, its script)"""
    script = Script([1.0, 3.5])
    monkeypatch.setattr(cuda, "driver", lambda: script)
    monkeypatch.setattr(cuda, "FLUSHED_BYTES", 64)
    monkeypatch.setattr(cuda.Cuda, "kind", "cpu")
    return cuda.Cuda(mmap.mmap(-1, LAYOUT.bytes), LAYOUT), script


class FakeGpu(NvidiaMachine):
    """Everything of the GPU's machine but the GPU."""

    toolchains = ("torch",)
    preload = ("fake_gpu",)
    share = "1"

    @property
    def environment(self):
        import os

        return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *_path()])}

    def chip(self):
        return GENEROUS

    def _preload(self, baseline):
        return self.preload

    def open(self, job):
        own = {"FAKE_CLOCK": self.share} if job.folder else {}
        return super().open(job.replace(environment=own))

    def energy_j(self, worker, call_s):
        return Availability(ok=False, detail="no meter", mend="get one")


def _path():
    from epitaxy.machines._zygote import _import_path

    return _import_path()
