"""Baseline: the reference as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.toolchain import Availability


class Eager:
    """PyTorch's eager mode."""

    name = "eager"
    torch = True
    devices = ("cpu", "cuda")

    def available(self) -> Availability:
        """Always."""
        return Availability(ok=True, detail="PyTorch")

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """The model itself."""
        return model


def plugin() -> Eager:
    """The baseline."""
    return Eager()
