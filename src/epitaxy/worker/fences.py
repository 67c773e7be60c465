"""Fences around a kernel's tensors: bytes before and behind them that no honest code touches.

Those of the outputs must stay as they are; those of the inputs change from call to call, and
the outputs must not follow; in two calls there is no memory at all behind or before the inputs.
Only a process of its own has fences, which is never timed: a fenced tensor costs more to make.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Callable, Sequence
from typing import Any

WIDTH = 4096
"""Bytes on each side; a multiple of every vector's size, so that alignment stays."""
MARK = 0xA7
MARGINS = (0xFF, 0x7F, 0xFE)
"""What surrounds the inputs of one call after the other: as floats NaN, 3e38 and -2e38."""
LINE = 64
"""Bytes to which a walled tensor is aligned, as PyTorch's are; reading up to there harms nobody."""
SURROUNDINGS = len(MARGINS) + 2
"""How many calls it takes to see them all."""
_M_PERTURB, _SPOIL = -6, 0x01
"""glibc's mallopt: fresh memory holds the complement of that byte, as floats -2e38."""


class Fences:
    """Makes `torch.empty_like`, by which bundles allocate their kernels' outputs, fence them."""

    def __init__(self, without: Sequence[str] = (), device: str = "cpu") -> None:
        self._device = device
        self._made: list[Any] = []
        self._calls = 0
        self.count = 0
        """Outputs that were fenced so far."""
        self._off = "fences" in without

    def around(self, inputs: list[Any]) -> list[Any]:
        """Copies of a call's contiguous tensors, with other surroundings at every call."""
        if self._off:
            return inputs
        turn = self._calls % SURROUNDINGS
        self._calls += 1
        return [_surrounded(x, turn) if hasattr(x, "dtype") else x for x in inputs]

    def install(self) -> None:
        """From now on; before the bundle is loaded, which keeps the function it finds."""
        import torch

        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_PERTURB, _SPOIL)
        if self._off:
            return

        plain = torch.empty_like

        def fenced(like: Any, **options: Any) -> Any:
            if options or like.device.type != self._device or not like.is_contiguous():
                return plain(like, **options)
            whole, part = _fenced(like, MARK)
            self._made.append(whole)
            self.count += 1
            return part

        setattr(torch, plain.__name__, fenced)  # torch declares another signature
        if self._device != "cpu":
            self._install_empty(fenced)

    def _install_empty(self, fenced: Callable[[Any], Any]) -> None:
        """Bundles of kernels for GPUs allocate by shape and device."""
        import torch

        def made(*size: Any, **options: Any) -> Any:
            like = _empty(*size, **options)
            own = set(options) <= {"dtype", "device"} and like.numel()
            return fenced(like) if own else like

        torch.empty = made

    def broken(self) -> bool:
        """Whether anything made so far was written beyond its ends; forgets it all."""
        made, self._made = self._made, []
        return any(
            bool((whole[:WIDTH] != MARK).any() or (whole[-WIDTH:] != MARK).any()) for whole in made
        )


def _empty(*size: Any, **options: Any) -> Any:
    """PyTorch's own function, whatever stands in its place."""
    import torch

    return torch._C._VariableFunctions.empty(*size, **options)


def _fenced(like: Any, byte: int) -> tuple[Any, Any]:
    """Memory whose ends hold `byte`, and the tensor like `like` between them, not filled."""
    import torch

    size = like.numel() * like.element_size()
    whole = _empty(size + 2 * WIDTH, dtype=torch.uint8, device=like.device)
    whole[:WIDTH] = whole[WIDTH + size :] = byte
    return whole, whole[WIDTH : WIDTH + size].view(like.dtype).view(like.shape)


def _surrounded(tensor: Any, turn: int) -> Any:
    """A copy, with the turn's margins or a wall behind it, then before it; a GPU has no walls."""
    if turn < len(MARGINS) or tensor.device.type != "cpu":
        return _fenced(tensor, MARGINS[turn % len(MARGINS)])[1].copy_(tensor)
    return _walled(tensor, behind=turn == len(MARGINS)).copy_(tensor)


def _walled(like: Any, behind: bool) -> Any:
    """A tensor like `like`, not filled, that ends or begins where memory does."""
    import torch

    size, page = like.numel() * like.element_size(), mmap.PAGESIZE
    if not size:
        return torch.empty_like(like)
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for wall in (first, first + page + room):
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(wall), ctypes.c_size_t(page), 0):
            raise MemoryError("a page could not be closed")
    start = page + (room - -(-size // LINE) * LINE if behind else 0)
    whole = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start)
    return whole.view(like.dtype).view(like.shape)
