"""How often the statistics err here: a kernel against itself, and against one 3 % slower.

    python benchmarks/calibrate.py [--runs 200] [--size short|medium]

Each run does what a full judgement does: fresh processes, interleaved rounds, a bootstrap interval
on the median of the paired ratios. Prints a row of a Markdown table: the share of runs that say
"faster" of a kernel against its copy (wanted: at most 1 %), that say "slower" of the planted
slowdown (wanted: at least 95 % on a quiet machine), and the width of the intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
from pathlib import Path

from epitaxy import paired, timing
from epitaxy.candidate import Candidate
from epitaxy.judge import Judge
from epitaxy.machine import Job
from epitaxy.machines.local import LocalMachine
from epitaxy.problem import load
from epitaxy.proposers.grower.growth import grow_program
from epitaxy.verdict import Comparison

SIZES = {"short": 3200, "medium": 1_024_000}
"""Elements; about 5 us and 1 ms for a chain of sines on one core and on four."""
SOURCE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.sin(x) + 0.5 * x
def get_inputs():
    return [torch.randn(SIZE)]
def get_init_inputs():
    return []
"""
KERNEL = """
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
#pragma omp parallel for if (SIZE > 65536)
  for (long block = 0; block < SIZE; block += BLOCK) {
    const long more = (block / BLOCK) % 100 < PERCENT ? 2 : 1;
    for (long again = 0; again < more; ++again) {
      for (long i = block; i < block + BLOCK; ++i) y[i] = std::sin(x[i]) + 0.5f * x[i];
      asm volatile("" ::: "memory");
    }
  }
}
"""


def built(judge: Judge, size: int, percent: int) -> str:
    """The folder of a kernel that does `percent` of its blocks twice."""
    kernel = (
        KERNEL.replace("SIZE", str(size))
        .replace("BLOCK", "32" if size < 65536 else "512")
        .replace("PERCENT", str(percent))
    )
    forward = grow_program(judge.reference).forward
    build = judge.build(
        Candidate(
            problem=judge.problem.digest, toolchain="cpp", entry="forward.py", proposer="hand",
            files={"kernel.cpp": kernel, "forward.py": forward},
        )
    )  # fmt: skip
    assert build.ok, build.log
    return build.folder


def compared(judge: Judge, machine: LocalMachine, ours: str, theirs: str) -> Comparison:
    """`ours` against `theirs` as a full judgement would."""
    chosen = timing.plan("full")
    samples: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(chosen.processes):
        with contextlib.ExitStack() as stack:
            workers = {}
            for name, folder in (("ours", ours), ("theirs", theirs)):
                job = Job(problem=judge.problem, folder=folder)
                workers[name] = stack.enter_context(machine.start(job))
                judge._prepare(workers[name])
            taken = timing.interleave(workers, [0, 1], chosen, random.Random()).times
        for name, times in taken.items():
            samples[name] += times
    return paired.compare("theirs", samples["theirs"], samples["ours"])


def main() -> None:
    """Print the row for one size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--size", choices=SIZES, default="medium")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "problem.py")
        file.write_text(SOURCE.replace("SIZE", str(size)))
        machine = LocalMachine(home=Path(folder))
        judge = Judge(load(file), machine, baselines=["eager"])
        plain, slow = built(judge, size, 0), built(judge, size, 3)
        same = [compared(judge, machine, plain, plain) for _ in range(arguments.runs)]
        planted = [compared(judge, machine, slow, plain) for _ in range(arguments.runs // 2)]
        judge.close()
        machine.close()
    widths = sorted(c.detectable for c in same)
    share = {o: sum(c.outcome == o for c in same) / len(same) for o in ("faster", "slower")}
    found = sum(c.outcome == "slower" for c in planted) / len(planted)
    time_s = timing.median([c.time_s for c in same])
    print(
        f"| {arguments.size} | {time_s * 1e6:.1f} us | {len(same)} | {share['faster']:.1%} "
        f"| {share['slower']:.1%} | {len(planted)} | {found:.1%} "
        f"| {widths[len(widths) // 2]:.2%} |"
    )


if __name__ == "__main__":
    main()
