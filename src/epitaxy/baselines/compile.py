"""Baseline: torch.compile as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.baselines import _inductor
from epitaxy.toolchain import Availability


class Compile:
    """torch.compile with its default mode (Inductor)."""

    name = "compile"
    torch = True
    devices = ("cpu", "cuda")
    preload = _inductor.PRELOAD

    def available(self) -> Availability:
        """Whether Inductor has a C++ compiler."""
        return _inductor.available()

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """The compiled model; it compiles at its first call."""
        import torch

        _inductor.settle(threads)
        return torch.compile(model)


def plugin() -> Compile:
    """The baseline."""
    return Compile()
