"""Where a worker's calls are made: this machine's processors. `cuda.py` has the same for a GPU."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

from epitaxy.worker.frames import Layout
from epitaxy.worker.views import Memory, borrowed, copied

POISON = 0xFB
_PARALLEL_BYTES = 4 << 20
"""Waking threads to spoil less than this costs more than it saves."""
_SHIFT, _LINE, _PAGE = 256 << 10, 64, 4096
"""Bytes: more than the allocator's bins for small blocks hold; a cache line; a page."""
_GRAIN = 32768
"""Elements for which PyTorch employs one more thread (its GRAIN_SIZE)."""


class Host:
    """The device of a worker that is given no other: tensors lie in the shared memory itself."""

    kind = "cpu"
    """The type of PyTorch's device that calls take tensors of, and must answer with."""
    warm_ups = 2
    """Calls of a baseline before anything is timed: it compiles in the first."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self.memory, self.layout = memory, layout

    def place(self, model: Any) -> Any:
        """`model` where its calls are made."""
        return model

    def products(self, rounded: bool) -> None:
        """Whether products of float32 may be rounded to tf32 here; a CPU has none."""

    def stored(self, slot: int, contents: list[Any]) -> None:
        """The broker wrote new contents into a slot."""

    def arming(self, witnessed: bool) -> None:
        """The calls of the next burst are made from now on, and those of the last are done with."""

    def taken(self, slot: int, contents: list[Any]) -> list[Any]:
        """A call's arguments from a slot's contents in the shared memory."""
        return contents

    def used(self, slot: int) -> list[Any]:
        """What the last burst's calls left of a slot's contents; empty where that is the shared
        memory itself."""
        return []

    def spoil(self) -> None:
        """Spoil recycled memory of the outputs' sizes: uninitialised ones must not look right."""
        import torch

        kinds = [(p.numel, getattr(torch, p.dtype)) for p in self.layout.outputs]
        for tensor in [torch.empty(n, dtype=kind, device="cpu") for n, kind in kinds]:
            size = tensor.numel() * tensor.element_size()
            if size > _PARALLEL_BYTES:
                tensor.view(torch.uint8).fill_(POISON)
            else:
                ctypes.memset(tensor.data_ptr(), POISON, size)

    def shifted(self) -> Any:
        """A block of random size to hold during a burst, so that outputs lie elsewhere in their
        pages than in the burst before.

        Where memory happens to lie makes the same code faster or slower by percents for as long as
        its process lives; taken afresh for each burst it is noise, and the median sees through it:
        Curtsinger, Berger, "STABILIZER: statistically sound performance evaluation", 2013.
        """
        import torch

        size = _SHIFT + _LINE * random.randrange(_PAGE // _LINE)
        return torch.empty(size, dtype=torch.uint8, device=self.kind)

    def wake(self) -> None:
        """Have the threads that will compute awake when the clock starts."""
        if (work := _work()) is not None:
            work.fill_(0)

    def ready(self) -> None:
        """Everything is prepared: nothing may run any more when the clock starts."""

    def begin(self) -> None:
        """The clock has started."""

    def before(self, number: int) -> None:
        """Just before a call of a witnessed burst."""

    def keep(self, result: Any, target: Any) -> None:
        """Take an output of a witnessed call, in the order of the calls, for `target` in the shared
        memory."""
        copied(result, target)

    def end(self) -> bytes:
        """Every call is made: wait until all of it is done. Seconds by the device's own clock, of
        the burst and of what `before` and `keep` took of it (two little-endian doubles); nothing
        where it has none."""
        return b""

    def bring(self) -> None:
        """Have all that `keep` took in the shared memory."""

    def idle(self) -> None:
        """Wait until nothing is left of the last burst."""

    def fetch(self, result: Any, target: Any) -> None:
        """Copy an output into the shared memory."""
        copied(result, target)

    def full(self, error: Exception) -> bool:
        """Whether it says that the device's memory is full, through whomever."""
        return False

    def borrowed(self, results: Sequence[Any], before: Sequence[Any]) -> str:
        """Why `results` are not memory of their own; "" when they are."""
        return borrowed(results, self.memory, before)


def open_device(kind: str, memory: Memory, layout: Layout, room_bytes: int = 0) -> Host:
    """The device of that kind: "cpu" or "cuda"; of its own memory, what may be taken (0: all)."""
    if kind == "cpu":
        return Host(memory, layout)
    from epitaxy.worker.cuda import Cuda

    return Cuda(memory, layout, room_bytes)


@cache
def _work() -> Any:
    """Enough for all threads, in memory that is never given back; None for a single one."""
    import torch

    count = torch.get_num_threads()
    return torch.zeros(count * _GRAIN, dtype=torch.uint8) if count > 1 else None
