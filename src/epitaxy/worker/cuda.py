"""Calls on a GPU that PyTorch drives as `cuda`, and what keeps them from cheating the clock.

Each call of a burst gets copies of its inputs of its own. The second-level cache is flushed and
the device is idle when the clock starts; when it stops, everything on every stream is done. Two
events on the default stream, the device's own clock, go around the burst: work that was not joined
to that stream lies outside them but inside the broker's wall clock, so that the two disagree. In
witnessed bursts the inputs hold a pattern until the device itself, after a pause, fills them in
the order of the default stream: whoever runs ahead of that stream, or replays what was captured
over other memory, computes with the pattern. Outputs are then copied in the order of that stream,
within the device, and brought to the host when the clock has stopped; the device's clock tells how
long the pauses and copies took, which are no part of the calls.

What waits, records and copies is taken from PyTorch's compiled module before a candidate is loaded:
its functions in Python look that up at every call, so that a candidate could replace it for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from epitaxy.worker.frames import Layout
from epitaxy.worker.host import POISON, Host
from epitaxy.worker.views import Memory, overlapping

COPIES_BYTES = 2 << 30
"""Copies of inputs for one burst; where they are more, calls take turns with those."""
WORKERS = 8
"""So many share the device: copies take no more than this part of what is free."""
SHARE = 0.25
"""Of the device's memory, what anybody may take."""
FULL_BYTES = 1 << 30
"""With less left, memory is lacking because the device is full."""
FLUSHED_BYTES = 256 << 20
"""More than the second-level cache of any GPU (50 MB on H100, 126 MB on B200)."""
PAUSE_CYCLES = 200_000
"""About a tenth of a millisecond: enough to launch a kernel that does not wait its turn."""


def driver() -> Any:
    """The compiled part of PyTorch's interface to the device; tests put another in its place.

    Starts CUDA. Names and arguments: torch/cuda/__init__.py, streams.py.
    """
    import torch

    stream, own = torch.cuda.default_stream(), torch._C
    names = ("stream_id", "device_index", "device_type")
    there = {name: getattr(stream, name) for name in names}
    switch = own._cuda_setStream
    return SimpleNamespace(
        Event=own._CudaEventBase, synchronize=own._cuda_synchronize, _sleep=own._cuda_sleep,
        default_stream=lambda: stream, set_stream=lambda _: switch(**there),
        memory=torch.cuda.mem_get_info, bound=torch.cuda.set_per_process_memory_fraction,
    )  # fmt: skip


class Cuda(Host):
    """The current GPU. Made before the candidate is loaded, in the process that runs it."""

    kind = "cuda"
    warm_ups = 4  # CUDA graphs are recorded in the second and third

    def __init__(self, memory: Memory, layout: Layout, room_bytes: int = 0) -> None:
        super().__init__(memory, layout)
        import torch

        api = driver()
        self._left = api.memory
        free, total = api.memory()
        self._most = min(COPIES_BYTES, free // WORKERS)
        if room_bytes:
            api.bound(min(1.0, max(SHARE, room_bytes / total)))
        self._synchronize, self._set_stream = api.synchronize, api.set_stream
        self._pause = api._sleep
        self._record, self._elapsed = api.Event.record, api.Event.elapsed_time
        self._equal, self._empty, self._copy = torch.equal, torch.empty_like, torch.Tensor.copy_
        self._stream = api.default_stream()
        self._event = partial(api.Event, enable_timing=True)
        self._first, self._last = self._event(), self._event()
        self._cache = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device=self.kind)
        self._fill = torch.Tensor.fill_
        self._masters: dict[int, list[Any]] = {}
        self._sets: dict[int, list[list[Any]]] = {}
        self._order: list[tuple[int, list[Any]]] = []
        self._areas: list[Any] = []
        self._kept: list[tuple[Any, Any]] = []
        self._events: list[Any] = []
        self._aside: list[tuple[Any, Any]] = []
        self._bytes = self._turn = 0
        self._witnessed = False

    def place(self, model: Any) -> Any:
        """The module on the device; a function as it is."""
        return model.to(self.kind) if hasattr(model, "state_dict") else model

    def products(self, rounded: bool) -> None:
        """PyTorch's own settings round convolutions and not matrix products: one policy for both,
        and for candidates and baselines alike."""
        import torch

        torch.set_float32_matmul_precision("high" if rounded else "highest")
        torch.backends.cudnn.allow_tf32 = rounded

    def stored(self, slot: int, contents: list[Any]) -> None:
        """Bring a slot's new contents to the device, where calls get copies of them."""
        self._set_stream(self._stream)
        self._masters[slot] = [x.to(self.kind, copy=True) if _tensor(x) else x for x in contents]
        self._synchronize()

    def arming(self, witnessed: bool) -> None:
        """Let the last burst's copies go."""
        self._set_stream(self._stream)
        self._sets, self._order, self._bytes, self._turn = {}, [], 0, 0
        self._areas, self._kept, self._events, self._aside = [], [], [], []
        self._witnessed = witnessed

    def taken(self, slot: int, contents: list[Any]) -> list[Any]:
        """A copy for this call, or, where copies would take too much, one of an earlier call."""
        if slot not in self._masters:
            self.stored(slot, contents)
        master, sets = self._masters[slot], self._sets.setdefault(slot, [])
        each = sum(x.numel() * x.element_size() for x in master if _tensor(x))
        if self._witnessed or not sets or self._bytes + each <= self._most:
            made = [self._empty(x) if _tensor(x) else x for x in master]
            for new, old in _pairs(made, master):
                self._spoiled(new) if self._witnessed else self._copy(new, old)
            if self._witnessed:
                self._prepare_witness()
            sets.append(made)
            self._bytes += each
            self._order.append((slot, made))
            return list(made)
        self._turn += 1
        return list(sets[self._turn % len(sets)])

    def used(self, slot: int) -> list[Any]:
        """The slot's contents as the calls left them: those of one that changed them, if any."""
        master = self._masters.get(slot, [])
        for made in self._sets.get(slot, ()):
            for new, old in _pairs(made, master):
                if not self._equal(_bits(new), _bits(old)):
                    return made
        return master

    def spoil(self) -> None:
        """As on the host, in the device's memory; two of each, since two calls take turns."""
        import torch

        kinds = [(p.numel, getattr(torch, p.dtype)) for p in self.layout.outputs * 2]
        for tensor in [torch.empty(n, dtype=kind, device=self.kind) for n, kind in kinds]:
            self._spoiled(tensor)

    def wake(self) -> None:
        """Nothing of the host computes."""

    def ready(self) -> None:
        """Flush the second-level cache; then nothing runs on the device."""
        self._fill(self._cache, POISON)
        self._synchronize()

    def begin(self) -> None:
        """The device's clock starts."""
        self._record(self._first, self._stream)

    def before(self, number: int) -> None:
        """Only now, after a pause on the default stream, its inputs are there."""
        if not self._witnessed:
            return
        slot, made = self._order[number]
        self._set_stream(self._stream)
        first = self._marked()
        self._pause(PAUSE_CYCLES)
        for new, old in _pairs(made, self._masters[slot]):
            self._copy(new, old)
        self._aside.append((first, self._marked()))

    def keep(self, result: Any, target: Any) -> None:
        """A copy within the device."""
        if not self._witnessed:
            self.fetch(result, target)
            return
        area = self._areas[len(self._kept)]
        self._set_stream(self._stream)
        first = self._marked()
        self._copy(area, result)
        self._aside.append((first, self._marked()))
        self._kept.append((area, target))

    def bring(self) -> None:
        """Now that no clock runs."""
        for area, target in self._kept:
            self.fetch(area, target)
        self._kept = []

    def end(self) -> bytes:
        """The device's clock stops, and everything on every stream is done."""
        self._record(self._last, self._stream)
        self._synchronize()
        aside_ms = sum(self._elapsed(*pair) for pair in self._aside)
        return struct.pack("<2d", self._elapsed(self._first, self._last) / 1e3, aside_ms / 1e3)

    def idle(self) -> None:
        """Wait for every stream."""
        self._synchronize()

    def fetch(self, result: Any, target: Any) -> None:
        """Copy an output, in the order of the default stream."""
        self._set_stream(self._stream)
        self._copy(target, result)

    def full(self, error: Exception) -> bool:
        """Else this process has had all that it may take."""
        import torch

        return isinstance(error, torch.OutOfMemoryError) and self._left()[0] < FULL_BYTES

    def borrowed(self, results: Sequence[Any], before: Sequence[Any]) -> str:
        """As on the host; the inputs are the device's copies."""
        inputs = [x for sets in self._sets.values() for made in sets for x in made if _tensor(x)]
        return overlapping(results, inputs, before)

    def _prepare_witness(self) -> None:
        """Areas for the outputs of one more call, and events around what is not its own."""
        import torch

        for place in self.layout.outputs:
            kind = getattr(torch, place.dtype)
            self._areas.append(torch.empty(place.shape, dtype=kind, device=self.kind))
        self._events += [self._event() for _ in range(2 + 2 * len(self.layout.outputs))]

    def _marked(self) -> Any:
        """An event on the default stream, after all that was asked of it so far."""
        event = self._events.pop()
        self._record(event, self._stream)
        return event

    def _spoiled(self, tensor: Any) -> None:
        if tensor.numel():
            self._fill(_bits(tensor), POISON)


def _tensor(value: Any) -> bool:
    return hasattr(value, "dtype")


def _pairs(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(a, b) for a, b in zip(one, other, strict=True) if _tensor(a)]


def _bits(tensor: Any) -> Any:
    """Its bytes: NaN equals itself there. Copies are contiguous."""
    import torch

    return tensor.reshape(-1).view(torch.uint8)
