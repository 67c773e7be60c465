"""Baseline: torch.compile that tries hardest, with the weights folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.baselines import _inductor
from epitaxy.toolchain import Availability


class MaxAutotune:
    """torch.compile(mode="max-autotune") with Inductor's freezing."""

    name = "max_autotune"
    torch = True
    devices = ("cpu", "cuda")
    preload = _inductor.PRELOAD
    alone = True

    def available(self) -> Availability:
        """Whether Inductor has a C++ compiler."""
        return _inductor.available()

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """The compiled model, at its first call; let it run alone."""
        return _inductor.tuned(model, threads, "max-autotune")


def plugin() -> MaxAutotune:
    """The baseline."""
    return MaxAutotune()
