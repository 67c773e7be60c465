"""Joules of a call, from the GPU's own counter of energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from epitaxy.toolchain import Availability

MEND = "pip install 'epitaxy[nvidia]' (NVML), on a GPU that counts energy (Volta or later)"
LEAST_S = 1.0
"""A burst is so long: the counter moves every few hundredths of a second."""
MOST_CALLS = 20_000
BURSTS, MOST_BURSTS = 3, 100


class Meter:
    """NVML's counter of the GPU `which`: its number, or its name that begins with GPU-."""

    def __init__(self, which: str = "0") -> None:
        self._read: Callable[[], float] | None = None
        self.state = self._open(which)

    def _open(self, which: str) -> Availability:
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = (
                pynvml.nvmlDeviceGetHandleByIndex(int(which))
                if which.isdigit()
                else pynvml.nvmlDeviceGetHandleByUUID(which)
            )
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except ImportError:
            return Availability(ok=False, detail="no NVML for Python", mend=MEND)
        except Exception as error:  # NVMLError, which exists only where the package does
            return Availability(ok=False, detail=f"NVML: {error}", mend=MEND)
        self._read = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        return Availability(ok=True, detail="NVML's counter of energy")

    def joules(self) -> float:
        """What the counter says now (J)."""
        return self._read() if self._read is not None else math.nan


def per_call_j(
    worker: Any, slots: Sequence[int], call_s: float, joules: Callable[[], float]
) -> float:
    """Joules of one call of `worker`, which takes `call_s` seconds: the whole GPU's, idle power
    included, during bursts of LEAST_S seconds, or as many shorter ones as that takes. What prepares
    them is not counted."""
    calls = max(1, min(MOST_CALLS, math.ceil(LEAST_S / max(call_s, 1e-9))))
    picked = [slots[i % len(slots)] for i in range(calls)]
    bursts = max(BURSTS, min(MOST_BURSTS, math.ceil(LEAST_S / max(calls * call_s, 1e-9))))
    spent = 0.0
    for _ in range(bursts):
        spent += worker.metered(picked, joules)
    return spent / (bursts * calls)
