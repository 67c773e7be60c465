"""The NVIDIA GPU of this machine: workers of `local` whose calls are made there.

Everything else is as on the CPU: the same zygote, jail, shared memory, clock and judge. The jail
lets a worker control the GPU's device files and read what libcuda asks about; address space is not
limited, since CUDA reserves more of it than there is memory.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from epitaxy.chip import Chip
from epitaxy.chip_facts import load_all
from epitaxy.errors import BadEnvironment
from epitaxy.machine import Job
from epitaxy.machines import _gpu
from epitaxy.machines._energy import per_call_j
from epitaxy.machines._fingerprint import version_of
from epitaxy.machines._jail import folders_of
from epitaxy.machines._nvml import Nvml
from epitaxy.machines._worker import Limits, LocalWorker
from epitaxy.machines._zygote import Zygote
from epitaxy.machines.local import LocalMachine
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, Crossing, Resident, StandIn
from epitaxy.worker.cuda import SHARE

LIMITS = Limits(load_s=120.0, burst_s=60.0)
"""Starting CUDA takes seconds."""
LIMITED = {"memory_bytes": 0, "file_bytes": 1 << 30, "files": 1024}
"""CUDA reserves more addresses than there is memory, keeps files in memory, and opens each GPU."""
LAUNCHING = 4
"""Cores that are left to workers and broker."""
LEAST_BYTES, CONTEXT_BYTES = 8 << 30, 2 << 30
"""Of the GPU's memory: what a candidate may take at least, with the copies of its inputs, and what
CUDA and its libraries take for themselves."""
READY = (
    "install a C compiler and Python's headers (apt install gcc python3-dev); where `ldconfig -p` "
    "does not list libcuda.so.1, set TRITON_LIBCUDA_PATH to its folder"
)
FOLDER = "{folder}"
"""In a toolchain's variable: where the build lies."""


def plugin() -> NvidiaMachine:
    """The machine named `nvidia`."""
    return NvidiaMachine()


class NvidiaMachine(LocalMachine):
    """Workers on the GPU. `toolchains` are those that build for it and work here, and PyTorch."""

    name = "nvidia"
    device = "cuda"
    probed = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"limits": LIMITS, **options})
        self._residents: dict[str, StandIn] = {}
        self._nvml: Nvml | None = None

    @property
    def spare_cores(self) -> int:
        """A kernel's launches take one core, and the broker another: builds may run on others."""
        return max(0, len(os.sched_getaffinity(0)) - LAUNCHING)

    def present(self) -> Availability:
        """Whether the GPU can be used: where it can, `local` means this machine."""
        return _gpu.present(load_all())

    def chip(self) -> Chip:
        """The shipped chip of the GPU's name. Raises BadEnvironment where there is none."""
        found = _gpu.named(_gpu.chip_name(), load_all())
        if found is None:
            state = self.present()
            raise BadEnvironment(state.detail, state.mend)
        return found

    @functools.cached_property
    def toolchains(self) -> tuple[str, ...]:
        """Names; the judge aims each at the chip when it builds."""
        kinds, chip = plugins("toolchains"), self.chip()
        found = []
        for name in kinds.names():
            kind: Any = kinds.get(name)
            fits = isinstance(kind, Resident) and isinstance(kind, Crossing)
            if fits and kind.targets(chip) and kind.available().ok:
                self._residents[name] = kind.resident(chip)
                found.append(name)
        return (*found, "torch")

    @property
    def preload(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the toolchains want imported before a worker is confined."""
        _ = self.toolchains
        each = (name for it in self._residents.values() for name in it.preload)
        return tuple(dict.fromkeys(each))

    @property
    def environment(self) -> dict[str, str]:  # type: ignore[override]
        """Of all workers. PyTorch asks NVML whether a GPU is here: asking CUDA itself would spoil
        the process for forks."""
        _ = self.toolchains
        own = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "CUDA_CACHE_DISABLE": "1"}
        own |= {"CUDA_VISIBLE_DEVICES": _gpu.visible(), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        for it in self._residents.values():
            own |= {k: v for k, v in it.environment.items() if FOLDER not in v}
        return own

    def fingerprint(self) -> FrozenDict[str]:
        """As the CPU's, and the chip's id, the GPU, its driver, CUDA and Triton."""
        own = {
            "chip": self.chip().id, "gpu": _gpu.chip_name(), "driver": _gpu.driver_version(),
            "cuda": _gpu.cuda_build(), "triton": version_of("triton"), "machine": self.name,
        }  # fmt: skip
        return FrozenDict[str]({**super().fingerprint(), **own})

    def energy_j(self, worker: Any, call_s: float) -> float | Availability:
        """Joules of one call of `worker`, which takes `call_s`; why not, where there is no
        meter."""
        if not self._watched.counting.ok:
            return self._watched.counting
        return per_call_j(worker, (0, 1), call_s, self._watched.joules)

    @property
    def _watched(self) -> Nvml:
        self._nvml = self._nvml or Nvml(_gpu.visible())
        return self._nvml

    def room_bytes(self, job: Job) -> int:
        """Of the GPU's memory, what PyTorch may take for a candidate (`worker.cuda` makes it
        SHARE of the whole where that is more); baselines take what they need."""
        return LEAST_BYTES + 8 * job.problem.working_set_bytes if job.folder else 0

    def held(self, worker: Any, job: Job) -> tuple[int, int] | Availability:
        """Bytes of the GPU's memory that a candidate's worker holds, and those that it may; why
        not, where that cannot be read."""
        if not self._watched.state.ok:
            return self._watched.state
        found = self._watched.held_bytes(worker.pid)
        if found is None:
            return Availability(
                ok=False, detail="NVML does not tell what each process holds",
                mend="in a container, share the host's process numbers with it",
            )  # fmt: skip
        share = max(self.room_bytes(job), int(SHARE * self._watched.total_bytes))
        return found, share + CONTEXT_BYTES

    def zygote(self, flavour: str = "", preload: tuple[str, ...] = ()) -> Zygote:
        """As `local`'s. Raises BadEnvironment where a toolchain cannot be made ready."""
        found = super().zygote(flavour, preload)
        if found.trouble:
            raise BadEnvironment(found.trouble, READY)
        return found

    def open(self, job: Job) -> LocalWorker:
        """A worker for `job`; a candidate's has the variables that its toolchain wants."""
        own: dict[str, str] = {}
        if job.folder:
            _ = self.toolchains
            for it in self._residents.values():
                own |= {k: v.replace(FOLDER, job.folder) for k, v in it.environment.items()}
        return super().open(job.replace(environment=FrozenDict({**own, **job.environment})))

    def condition_caches(self) -> None:
        """The worker flushes the GPU's cache before every burst; the CPU's do not matter."""

    def _find_baselines(self) -> dict[str, Availability]:
        """Without flavours of the CPU's libraries."""
        return self._baselines_here()

    def _preload(self, baseline: str) -> tuple[str, ...]:
        """Baselines import for themselves: Inductor may look for a GPU as it is imported, and a
        process that did cannot fork others that use it."""
        return () if baseline else self.preload

    def _jail_of(self, folder: str, problem: Problem) -> dict[str, Any]:
        made = super()._jail_of(folder, problem)
        made["limits"] |= LIMITED
        made["devices"] = list(_gpu.nodes())
        packages = (p for it in self._residents.values() for p in it.packages)
        made["read_only"] += [*_gpu.READ, *_gpu.library_folders(), *folders_of(packages)]
        return made
