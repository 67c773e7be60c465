"""Kernels of a chosen length, and the same kernels made slower by a chosen share."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from epitaxy import timing
from epitaxy.candidate import Candidate
from epitaxy.machine import Job
from epitaxy.machines.local import LocalMachine
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, load, open_reference
from epitaxy.proposers.grower.growth import grow_program

SIZES: Mapping[str, tuple[int, float]] = {
    "short": (400, 5e-6),
    "medium": (100_000, 1e-3),
    "long": (1_024_000, 100e-3),
}
"""Elements, and the seconds that a call shall take."""
BLOCKS = 400
"""Pieces of work, some of which are done twice: a share is planted to a quarter of a percent."""
SOURCE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        v = x
        for _ in range(DEPTH):
            v = torch.sin(v) + 0.5 * x
        return v
def get_inputs():
    return [torch.randn(SIZE)]
def get_init_inputs():
    return []
"""
KERNEL = """
#include <cmath>
// Block k is done twice where floor((k + 1) * share) > floor(k * share), which spreads them evenly.
static long twice(long block) {
  return static_cast<long>((block + 1) * SHARE) > static_cast<long>(block * SHARE) ? 2 : 1;
}
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
#pragma omp parallel for schedule(static) if (SIZE > 65536)
  for (long block = 0; block < BLOCKS; ++block) {
    for (volatile long again = twice(block); again > 0; again = again - 1) {
      for (long i = block * SIZE / BLOCKS; i < (block + 1) * SIZE / BLOCKS; ++i) {
        float v = x[i];
        for (int deep = 0; deep < DEPTH; ++deep) v = std::sin(v) + 0.5f * x[i];
        y[i] = v;
      }
    }
  }
}
"""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Folders of a kernel, of one that takes `planted` longer (a ratio), and their time (s)."""

    plain: str
    slower: str
    planted: float
    time_s: float


class Bench:
    """One problem of a size on one machine: a chain of `depth` sines for each element."""

    def __init__(self, size: str, machine: LocalMachine, depth: int = 1) -> None:
        self.elements, self.target_s = SIZES[size]
        self.machine = machine
        file = Path(machine.home, f"{size}.py")
        file.write_text(SOURCE.replace("SIZE", str(self.elements)).replace("DEPTH", str(depth)))
        self.problem: Problem = load(file)
        self.reference = open_reference(self.problem)
        self.forward = grow_program(self.reference).forward

    def candidate(self, share: float = 0.0, depth: int = 1, note: str = "") -> Candidate:
        """The kernel with `share` of its blocks done twice and a chain of `depth` sines."""
        values = {"SHARE": f"{share:.6f}", "DEPTH": depth, "BLOCKS": BLOCKS, "SIZE": self.elements}
        kernel = KERNEL + (f"// {note}\n" if note else "")
        for name, value in values.items():
            kernel = kernel.replace(name, str(value))
        return Candidate(
            problem=self.problem.digest, toolchain="cpp", entry="forward.py", proposer="hand",
            files={"kernel.cpp": kernel, "forward.py": self.forward}, intent=note,
        )  # fmt: skip

    def built(self, share: float, depth: int) -> str:
        """The folder of that kernel. Raises RuntimeError when it does not compile."""
        cache = Path(self.machine.home) / "build"
        toolchain = plugins("toolchains").get("cpp")
        build = toolchain.build(self.candidate(share, depth), self.problem, cache)
        if not build.ok:
            raise RuntimeError(build.log)
        return str(build.folder)

    @contextlib.contextmanager
    def worker(self, folder: str) -> Iterator[Any]:
        """A warm process of a built kernel, with its inputs in place."""
        with self.machine.start(Job(problem=self.problem, folder=folder)) as worker:
            worker.prepare(self.reference.init_arguments(), self.reference.state())
            for slot in (0, 1):
                worker.write(slot, self.reference.inputs(slot))
            yield worker

    def times(self, folders: Mapping[str, str], rounds: int = 9) -> dict[str, float]:
        """Median seconds per call of each, side by side."""
        chosen = timing.PLANS["screen"].replace(rounds=rounds, limit_s=20.0)
        chosen = chosen.replace(condition=self.machine.condition)
        with contextlib.ExitStack() as stack:
            workers = {n: stack.enter_context(self.worker(f)) for n, f in folders.items()}
            taken = timing.interleave(workers, [0, 1], chosen, random.Random(1))
        return {name: timing.median(times) for name, times in taken.times.items()}

    def pair(self, planted: float) -> Pair:
        """A kernel near the target's time, and its twin that takes `planted` longer.

        Both the depth and the share of doubled blocks come from straight lines through two
        measured points; part of a call is not the kernel's.
        """
        one, nine = self.built(0.0, 1), self.built(0.0, 9)
        found = self.times({"one": one, "nine": nine})
        step_s = max((found["nine"] - found["one"]) / 8, 1e-9)
        depth = max(1, round(1 + (self.target_s - found["one"]) / step_s))
        plain = self.built(0.0, depth)
        found = self.times({"plain": plain, "double": self.built(1.0, depth)})
        gain = max(found["double"] / found["plain"] - 1, planted)
        share = math.ceil(planted / gain * BLOCKS) / BLOCKS
        return Pair(plain, self.built(share, depth), share * gain, found["plain"])
