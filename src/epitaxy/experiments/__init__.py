"""Controlled micro-experiments on this machine: `epitaxy explore`.

    catalogue/*.toml  hypotheses, each with the pair of kernels that can refute it
    recipe.py         what such a file may say
    building.py       the real compiler, and the check of what it wrote
    gpu.py            the same for CUDA C++, by nvcc
    process.py        one fresh, confined process with both kernels
    gate.py           both must compute the same
    verdicts.py       paired times to confirmed, refuted, inconclusive
    running.py        all of it, in order

Results are kept beside the measured chip (probe/explored.py).
"""

from epitaxy.experiments.recipe import Experiment, catalogue, find, find_listed, parse
from epitaxy.experiments.running import check, explore, impossible, overview

__all__ = [
    "Experiment",
    "catalogue",
    "check",
    "explore",
    "find",
    "find_listed",
    "impossible",
    "overview",
    "parse",
]
