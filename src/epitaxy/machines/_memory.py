"""The memory that broker and worker share: input slots and an outputs area in one sealed file."""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import struct
from collections.abc import Sequence
from typing import Any

from epitaxy.errors import BadInput, MachineFault
from epitaxy.memory import available_bytes
from epitaxy.problem import ITEM_BYTES, Problem, TensorSpec
from epitaxy.worker.frames import Layout, Place, aligned
from epitaxy.worker.host import POISON
from epitaxy.worker.views import bytes_at, mapped, tensor_at

ROTATION_BYTES = 128 << 20
"""Inputs worth this much make every call's inputs cold (PERFORMANCE §5)."""

LEAST_SLOTS, MOST_SLOTS = 4, 16
WITNESS_BYTES = 8 << 20
"""Room for the outputs of several calls at once; a single call's always fit."""
MOST_WITNESSED = 16
_SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
_ADD_SEALS = 1033


def slot_count(problem: Problem) -> int:
    """How many input slots a worker gets: enough to rotate, as memory allows.

    Raises MachineFault when not even two fit.
    """
    each = sum(s.bytes for s in problem.inputs if s is not None) or 1
    wanted = max(LEAST_SLOTS, min(MOST_SLOTS, ROTATION_BYTES // each + 1))
    room = (available_bytes() // 4 - sum(s.bytes for s in problem.outputs)) // each
    if room < 2:
        raise MachineFault(
            f"the inputs of {problem.name} ({each >> 20} MiB) do not fit this machine's memory",
            "use smaller shapes, or free memory",
        )
    return int(min(wanted, room))


def make_layout(problem: Problem, slots: int) -> Layout:
    """Where everything lies: each tensor on its own page."""
    offset = 0

    def put(spec: TensorSpec) -> Place:
        nonlocal offset
        place = Place(offset, spec.dtype, spec.shape)
        offset = aligned(offset + spec.bytes)
        return place

    inputs = tuple(
        tuple(None if s is None else put(s) for s in problem.inputs) for _ in range(slots)
    )
    start = offset
    outputs = tuple(put(s) for s in problem.outputs)
    stride = offset - start
    sets = max(1, min(MOST_WITNESSED, WITNESS_BYTES // max(stride, 1)))
    return Layout(inputs, outputs, start, max(start + sets * stride, mmap.PAGESIZE), sets, stride)


def sealed_file(name: str, size: int) -> int:
    """A memory file of fixed size: a worker that shrank it could crash the broker."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
    return descriptor


class Arena:
    """The broker's side of one worker's shared memory."""

    def __init__(self, problem: Problem) -> None:
        self.layout = make_layout(problem, slot_count(problem))
        self.descriptor = sealed_file("epitaxy-arena", self.layout.bytes)
        self.memory = mapped(self.descriptor, fresh=True)
        for place in (p for places in self.layout.slots for p in places if p):
            self._fence(place)

    def _fence(self, place: Place) -> None:
        """NaN up to the end of the page: who reads beyond an input is found out."""
        end = place.offset + place.numel * ITEM_BYTES[place.dtype]
        if end < aligned(end):
            bytes_at(self.memory, end, aligned(end)).fill_(0xFF)

    @property
    def slots(self) -> int:
        """Number of input slots."""
        return len(self.layout.slots)

    def write(self, slot: int, inputs: Sequence[Any]) -> list[Any]:
        """Copy the tensors among `inputs` into `slot`; the rest is returned, in order.

        Raises BadInput when they are not what the problem states.
        """
        places = self.layout.slots[slot]
        if len(inputs) != len(places):
            raise BadInput(
                f"{len(inputs)} inputs for {len(places)}", "pass what the problem states"
            )
        rest = []
        for value, place in zip(inputs, places, strict=True):
            if place is None:
                rest.append(value)
            else:
                _copy(value, place, tensor_at(self.memory, place))
        return rest

    def read(self, slot: int) -> list[Any]:
        """Copies of the tensors in `slot`; None where an input is none."""
        return [p and tensor_at(self.memory, p).clone() for p in self.layout.slots[slot]]

    def poison(self, sets: int = 1) -> None:
        """Fill the first areas for outputs with a pattern that is no sensible output."""
        start = self.layout.outputs_at
        stop = min(self.layout.bytes, start + sets * self.layout.stride)
        if stop > start:
            bytes_at(self.memory, start, stop).fill_(POISON)

    def outputs(self, number: int = 0) -> list[Any]:
        """Copies of what lies in one area for outputs."""
        return [tensor_at(self.memory, p).clone() for p in self.layout.outputs_of(number)]

    def close(self) -> None:
        """Let the memory go; views that still exist keep it alive until they end."""
        os.close(self.descriptor)
        self.memory = memoryview(bytearray())


def _copy(value: Any, place: Place, target: Any) -> None:
    import torch

    tensor = torch.as_tensor(value)
    found = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    if found != (place.dtype, place.shape):
        raise BadInput(
            f"an input is {found[0]}{list(found[1])}, expected {place.dtype}{list(place.shape)}",
            "pass what the problem states",
        )
    target.copy_(tensor.detach())


def state_file(init: Sequence[Any], state: dict[str, Any]) -> int:
    """A memory file with init arguments and parameters, for the worker only; its descriptor."""
    import torch

    tensors = {n: torch.as_tensor(v).detach().contiguous() for n, v in state.items()}
    places = {n: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in tensors.items()}
    # Offsets are fixed-width in the pickle only by luck, so lay out once with generous room.
    room = aligned(
        len(pickle.dumps((list(init), {n: (1 << 60, *p) for n, p in places.items()}))) + 64
    )
    table, offset = {}, room
    for name, tensor in tensors.items():
        table[name] = (offset, *places[name])
        offset = aligned(offset + tensor.numel() * tensor.element_size(), 64)
    head = pickle.dumps((list(init), table))
    descriptor = sealed_file("epitaxy-state", aligned(offset))
    memory = mmap.mmap(descriptor, aligned(offset))
    memory[: 8 + len(head)] = struct.pack("<Q", len(head)) + head
    for name, tensor in tensors.items():
        if tensor.numel():
            tensor_at(memory, Place(*table[name])).copy_(tensor)
    return descriptor
