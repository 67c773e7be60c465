"""Baseline: torch.compile that tries hardest, without CUDA graphs, which copy their inputs."""

from __future__ import annotations

from epitaxy.baselines._inductor import Inductor


class MaxAutotuneNoGraphs(Inductor):
    """torch.compile(mode="max-autotune-no-cudagraphs") with Inductor's freezing; it tunes alone."""

    name = "max_autotune_no_graphs"
    devices = ("cuda",)
    alone = True
    mode = "max-autotune-no-cudagraphs"


def plugin() -> MaxAutotuneNoGraphs:
    """The baseline."""
    return MaxAutotuneNoGraphs()
