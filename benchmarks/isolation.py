"""What the jail costs inside the timed region: the same kernel in it and out of it, side by side.

    python benchmarks/isolation.py [--processes 5] [--rounds 40] [--out docs/results/isolation.md]

In each fresh set of processes one kernel runs unconfined, confined, and confined once more (the
control), in interleaved rounds; the ratio unconfined / confined is 1 where the jail costs nothing,
and its interval is that of every verdict (`paired.py`). Also the time that a process takes to
start and load the kernel, which is not part of any kernel's time. Takes less than a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernels import Bench

from epitaxy import paired, sandbox, timing
from epitaxy.machine import Job
from epitaxy.machines.local import LocalMachine

ROWS = (("short", 1), ("medium", 1), ("medium", 0))
KINDS = {"free": ("sandbox",), "confined": (), "confined again": ()}
HEAD = (
    "| kernel | threads | unconfined | confined | unconfined / confined, 99 % interval "
    "| says | control | start unconfined | start confined |\n" + "|---" * 9 + "|"
)


@contextlib.contextmanager
def worker(
    bench: Bench, folder: str, without: tuple[str, ...], starts: list[float]
) -> Iterator[Any]:
    """A process of a built kernel; how long it took to start goes to `starts` (s)."""
    before = time.perf_counter()
    with bench.machine.start(Job(problem=bench.problem, folder=folder, without=without)) as made:
        made.prepare(bench.reference.init_arguments(), bench.reference.state())
        starts.append(time.perf_counter() - before)
        for slot in (0, 1):
            made.write(slot, bench.reference.inputs(slot))
        yield made


def row(size: str, threads: int, processes: int, rounds: int) -> str:
    """One line of the table."""
    rng = random.Random()
    times: dict[str, list[float]] = {name: [] for name in KINDS}
    starts: dict[str, list[float]] = {name: [] for name in KINDS}
    chosen = timing.PLANS["full"].replace(rounds=rounds, limit_s=20.0)
    with tempfile.TemporaryDirectory() as home, _machine(Path(home), threads) as machine:
        bench = Bench(size, machine)
        folder = bench.pair(0.5).plain
        for _ in range(processes):
            with contextlib.ExitStack() as stack:
                workers = {
                    name: stack.enter_context(worker(bench, folder, name, starts[name]))
                    for name in rng.sample(list(KINDS), len(KINDS))
                }
                taken = timing.interleave(workers, [0, 1], chosen, rng)
            for name, found in taken.times.items():
                times[name].extend(found)
    same = paired.compare(
        "free", times["free"], times["confined"], again=times["confined again"],
        rounds=[rounds] * processes, spread=paired.PRIOR,
    )  # fmt: skip
    control = paired.compare("again", times["confined again"], times["confined"])
    middles = {name: timing.median(found) for name, found in times.items()}
    begun = {name: timing.median(found) for name, found in starts.items()}
    return (
        f"| {bench.target_s * 1e6:.0f} µs | {threads or os.cpu_count()} "
        f"| {middles['free'] * 1e6:.2f} µs | {middles['confined'] * 1e6:.2f} µs "
        f"| {same.speedup:.4f} ({same.low:.4f} to {same.high:.4f}) | {same.outcome} "
        f"| {control.speedup:.4f} "
        f"| {begun['free'] * 1e3:.0f} ms | {begun['confined'] * 1e3:.0f} ms |"
    )


@contextlib.contextmanager
def _machine(home: Path, threads: int) -> Iterator[LocalMachine]:
    made = LocalMachine(home=home, threads=threads)
    try:
        yield made
    finally:
        made.close()


def main() -> None:
    """Print the table, and write it where --out says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sandbox.require()
    lines = [HEAD]
    print(HEAD, flush=True)
    for size, threads in ROWS:
        lines.append(row(size, threads, given.processes, given.rounds))
        print(lines[-1], flush=True)
    if given.out:
        layers = ", ".join(sandbox.available())
        text = f"# The jail's cost inside the timed region\n\n{given.processes} sets of processes, "
        text += f"{given.rounds} rounds each; load {os.getloadavg()[0]:.1f} at the end; "
        text += f"{os.cpu_count()} cores, Linux {platform.release()}; layers: {layers}.\n\n"
        given.out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
