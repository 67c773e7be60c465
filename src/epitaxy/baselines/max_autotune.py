"""Baseline: torch.compile that tries hardest, with the weights folded in."""

from __future__ import annotations

from epitaxy.baselines._inductor import Inductor


class MaxAutotune(Inductor):
    """torch.compile(mode="max-autotune") with Inductor's freezing; it runs alone while it tunes."""

    name = "max_autotune"
    alone = True
    mode = "max-autotune"


def plugin() -> MaxAutotune:
    """The baseline."""
    return MaxAutotune()
