"""Fences around a kernel's outputs: bytes before and behind them that no honest code touches.

Only a process of its own has them, which is never timed: a fenced tensor costs more to make.
"""

from __future__ import annotations

from typing import Any

WIDTH = 4096
"""Bytes on each side; a multiple of every vector's size, so that alignment stays."""
MARK = 0xA7


class Fences:
    """Makes `torch.empty_like`, by which bundles allocate their kernels' outputs, fence them."""

    def __init__(self) -> None:
        self._made: list[Any] = []

    def install(self) -> None:
        """From now on; before the bundle is loaded, which keeps the function it finds."""
        import torch

        plain = torch.empty_like

        def fenced(like: Any, **options: Any) -> Any:
            if options or like.device.type != "cpu" or not like.is_contiguous():
                return plain(like, **options)
            size = like.numel() * like.element_size()
            whole = torch.empty(size + 2 * WIDTH, dtype=torch.uint8)
            whole[:WIDTH] = whole[WIDTH + size :] = MARK
            self._made.append(whole)
            return whole[WIDTH : WIDTH + size].view(like.dtype).view(like.shape)

        setattr(torch, plain.__name__, fenced)  # torch declares another signature

    def broken(self) -> bool:
        """Whether anything made so far was written beyond its ends; forgets it all."""
        made, self._made = self._made, []
        return any(
            bool((whole[:WIDTH] != MARK).any() or (whole[-WIDTH:] != MARK).any()) for whole in made
        )
