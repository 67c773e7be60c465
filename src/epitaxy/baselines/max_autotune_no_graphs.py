"""Baseline: torch.compile that tries hardest, without CUDA graphs, which copy their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.baselines import _inductor
from epitaxy.toolchain import Availability


class MaxAutotuneNoGraphs:
    """torch.compile(mode="max-autotune-no-cudagraphs") with Inductor's freezing."""

    name = "max_autotune_no_graphs"
    torch = True
    devices = ("cuda",)
    preload = _inductor.PRELOAD
    alone = True

    def available(self) -> Availability:
        """Whether Inductor has a C++ compiler."""
        return _inductor.available()

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """The compiled model, at its first call; let it run alone."""
        return _inductor.tuned(model, threads, "max-autotune-no-cudagraphs")


def plugin() -> MaxAutotuneNoGraphs:
    """The baseline."""
    return MaxAutotuneNoGraphs()
