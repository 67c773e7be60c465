"""NVML, NVIDIA's library to watch GPUs with: what the broker asks of it. It starts no CUDA."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from epitaxy.toolchain import Availability

MEND = "pip install 'epitaxy[nvidia]' (NVML), on a GPU that counts energy (Volta or later)"


class Nvml:
    """NVML's view of the GPU `which`: its number, or its name that begins with GPU-.

    `state` says whether there is one, `counting` whether it counts energy.
    """

    def __init__(self, which: str = "0") -> None:
        self._library: Any = None
        self._gpu: Any = None
        self.state = self._opened(which)
        self.counting = self._counts() if self.state.ok else self.state

    def _opened(self, which: str) -> Availability:
        try:
            import pynvml

            pynvml.nvmlInit()
            if which.isdigit():
                self._gpu = pynvml.nvmlDeviceGetHandleByIndex(int(which))
            else:
                self._gpu = pynvml.nvmlDeviceGetHandleByUUID(which)
        except ImportError:
            return Availability(ok=False, detail="no NVML for Python", mend=MEND)
        except Exception as error:  # NVMLError, which exists only where the package does
            return Availability(ok=False, detail=f"NVML: {error}", mend=MEND)
        self._library = pynvml
        return Availability(ok=True, detail="NVML")

    def _counts(self) -> Availability:
        try:
            self.joules()
        except Exception as error:  # NVMLError
            return Availability(ok=False, detail=f"NVML: {error}", mend=MEND)
        return Availability(ok=True, detail="NVML's counter of energy")

    def joules(self) -> float:
        """What the counter of energy says now (J). Raises NVMLError where there is none."""
        if self._library is None:
            return math.nan
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._gpu)) / 1e3

    @property
    def total_bytes(self) -> int:
        """The GPU's memory. Raises NVMLError."""
        return int(self._library.nvmlDeviceGetMemoryInfo(self._gpu).total)

    def held_bytes(self, pid: int) -> int | None:
        """The GPU's memory that a process holds; None where NVML does not tell, as in containers
        with process numbers of their own."""
        with contextlib.suppress(Exception):  # NVMLError
            for process in self._library.nvmlDeviceGetComputeRunningProcesses(self._gpu):
                if process.pid == pid and process.usedGpuMemory is not None:
                    return int(process.usedGpuMemory)
        return None
