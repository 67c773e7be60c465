"""Baseline: torch.compile as it comes."""

from __future__ import annotations

from epitaxy.baselines._inductor import Inductor


class Compile(Inductor):
    """torch.compile with its default mode (Inductor)."""

    name = "compile"


def plugin() -> Compile:
    """The baseline."""
    return Compile()
