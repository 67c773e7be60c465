"""Tensors over shared memory, for both sides of it."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Container, Sequence
from typing import Any

from epitaxy.worker.frames import Place

Memory = mmap.mmap | memoryview
"""What both sides have mapped."""
HUGE_PAGE = 2 << 20
_ADVISE_HUGE, _COLLAPSE = 14, 25
"""MADV_HUGEPAGE and MADV_COLLAPSE of madvise(2)."""
_READ_WRITE, _SHARED_FIXED = 0x3, 0x11
_FAILED = ctypes.c_void_p(-1).value
_ALONE_BYTES = 4 << 20


def tensor_at(memory: Memory, place: Place) -> Any:
    """A tensor over `memory`, contiguous, of the place's shape and dtype; nothing is copied."""
    import torch

    dtype = getattr(torch, place.dtype)
    if place.numel == 0:
        return torch.empty(place.shape, dtype=dtype)
    flat = torch.frombuffer(memory, dtype=dtype, count=place.numel, offset=place.offset)
    return flat.reshape(place.shape)


def bytes_at(memory: Memory, start: int, stop: int) -> Any:
    """A uint8 tensor over part of `memory`."""
    import torch

    return torch.frombuffer(memory, dtype=torch.uint8, count=stop - start, offset=start)


def mapped(descriptor: int, fresh: bool = False) -> memoryview:
    """All of a memory file, in huge pages where the kernel has them.

    Without them a 64 MB input costs 16,384 TLB entries that the same tensor from the allocator
    would not. Most kernels give files huge pages only when asked to put them together, which is
    done for a `fresh` file; whoever maps it later has them too. A kernel that declines loses speed
    for everyone alike, nothing else. Raises OSError when there is no room.
    """
    memory = _aligned(descriptor)
    if fresh:
        for offset in range(0, len(memory), HUGE_PAGE):
            memory[offset] = 0  # where nothing is there is nothing to put together
    for advice in (_ADVISE_HUGE, _COLLAPSE)[: 1 + fresh]:
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(_address(memory)), ctypes.c_size_t(len(memory)), advice
        )
    return memory


def _aligned(descriptor: int) -> memoryview:
    """The file mapped where a huge page may begin, inside room that the view keeps."""
    size = os.fstat(descriptor).st_size
    room = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -_address(room) % HUGE_PAGE
    place = ctypes.c_void_p(_address(room) + start)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    file = (ctypes.c_int(descriptor), ctypes.c_long(0))
    if libc.mmap(place, ctypes.c_size_t(size), _READ_WRITE, _SHARED_FIXED, *file) == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"{size} bytes of shared memory cannot be mapped: {os.strerror(code)}")
    return memoryview(room)[start : start + size]


def _address(memory: Memory) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def copied(result: Any, target: Any) -> None:
    """Copy into `target`, without waking threads for what one copies as fast."""
    size = target.numel() * target.element_size()
    plain = result.dtype == target.dtype and result.is_contiguous() and not result.is_neg()
    if plain and result.shape == target.shape and not result.is_conj() and size <= _ALONE_BYTES:
        ctypes.memmove(target.data_ptr(), result.data_ptr(), size)
    else:
        target.copy_(result)


def leniently(result: Any, place: Place) -> Any:
    """`result` as far as it can be taken for an output at `place`."""
    dense = result if result.layout == _strided() else result.to_dense()
    return dense.reshape(place.shape)


def _strided() -> Any:
    import torch

    return torch.strided


def borrowed(results: Sequence[Any], memory: Memory, before: Sequence[Any]) -> str:
    """Why `results` are not memory of their own ("" when they are).

    They must not lie in the inputs' `memory`, nor in that of the outputs `before`, nor leave work
    to whoever reads them.
    """
    start = _address(memory)
    return _borrowed(results, range(start, start + len(memory)), before)


def overlapping(results: Sequence[Any], inputs: Sequence[Any], before: Sequence[Any]) -> str:
    """As `borrowed`, where every tensor of the inputs has storage of its own."""
    return _borrowed(results, {x.untyped_storage().data_ptr() for x in inputs}, before)


def _borrowed(results: Sequence[Any], inputs: Container[int], before: Sequence[Any]) -> str:
    taken = {r.untyped_storage().data_ptr() for r in before if r.layout == _strided()}
    for i, result in enumerate(results):
        if not result.numel() or result.layout != _strided():
            continue
        if result.is_neg() or result.is_conj():
            return f"output {i} is a lazy view: its values are made when it is read"
        address = result.untyped_storage().data_ptr()
        if address in inputs:
            return f"output {i} is a view of an input, not new memory"
        if address in taken:
            return f"output {i} lies where the outputs of the call before it lie"
    return ""


def mismatch(results: Sequence[Any], places: Sequence[Place], device: str = "cpu") -> str:
    """Why `results` cannot be the outputs that the problem states; "" when they can."""
    import torch

    if len(results) != len(places):
        return f"it returned {len(results)} outputs, expected {len(places)}"
    for i, (result, place) in enumerate(zip(results, places, strict=True)):
        kind = type(result)
        if kind is not torch.Tensor and kind is not torch.nn.Parameter:
            return f"output {i} is a {kind.__name__}, expected a plain torch.Tensor"
        if result.device.type != device or result.layout != torch.strided:
            where = "plain CPU memory" if device == "cpu" else f"plain memory of {device}"
            return f"output {i} is {result.layout} on {result.device}, expected {where}"
        dtype = str(result.dtype).removeprefix("torch.")
        if dtype != place.dtype:
            return f"output {i} has dtype {dtype}, expected {place.dtype}"
        if tuple(result.shape) != place.shape:
            return f"output {i} has shape {list(result.shape)}, expected {list(place.shape)}"
    return ""
