"""How often the statistics err here: a kernel against itself, and against one 3 % slower.

    python benchmarks/calibrate.py [--sizes short,medium,long] [--threads 1,0] [--conditions warm]
        [--runs 200] [--minutes 20] [--out docs/results/calibration]

Each run is what a full judgement does: a warm baseline process, five fresh processes of the
candidate with a control in each, interleaved rounds, the interval of `paired.py`. The time is
shared evenly between the cells (size, threads, condition, same or slower), so that a run that is
cut off by --minutes or Ctrl-C has something to say about each. Runs are kept line by line in
OUT.jsonl; the same command goes on where it stopped. At the end it writes OUT.json, OUT.md and
OUT.svg; --report only does that. Wanted on a quiet machine: at most 1 % of the runs say "faster"
of a kernel against its copy, at least 95 % say "slower" of the planted slowdown.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibration_report import write
from kernels import SIZES, Bench, Pair

from epitaxy import timing
from epitaxy.errors import BadInput
from epitaxy.machines.local import LocalMachine
from epitaxy.measure import AGAIN, OURS, Measurement

PLANTED = 0.03
KINDS = {"same": 1.0, "slower": 0.5}
"""Runs of each kind, as a share of --runs."""
Cell = tuple[str, int, str]


class Cells:
    """The benches of all cells, each made when first wanted."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._machines: dict[tuple[int, str], LocalMachine] = {}
        self._made: dict[Cell, tuple[Bench, Pair]] = {}

    def get(self, cell: Cell) -> tuple[Bench, Pair]:
        """The bench of a cell and its two kernels."""
        size, threads, condition = cell
        if cell not in self._made:
            key = (threads, condition)
            if key not in self._machines:
                home = self.home / f"{threads}-{condition}"
                home.mkdir()
                made = LocalMachine(home=home, threads=threads, condition=condition)
                self._machines[key] = made
            bench = Bench(size, self._machines[key])
            self._made[cell] = bench, bench.pair(PLANTED)
        return self._made[cell]

    def close(self) -> None:
        """End all processes."""
        for machine in self._machines.values():
            machine.close()


def judged(bench: Bench, ours: str, theirs: str) -> tuple[Measurement, float]:
    """`ours` against `theirs` as a full judgement would measure them, and the seconds it took."""
    start = time.monotonic()
    it = Measurement(timing.plan("full", bench.machine.condition), bench.machine)
    with bench.worker(theirs) as baseline:
        for _ in range(it.plan.processes):
            with bench.worker(ours) as worker, bench.worker(ours) as twin:
                workers = {OURS: worker, "theirs": baseline, AGAIN: twin}
                it.process(workers, [0, 1], random.Random())
    return it, time.monotonic() - start


def row(cell: Cell, kind: str, pair: Pair, it: Measurement, seconds: float) -> dict[str, Any]:
    """One line of the record."""
    found, metrics = it.compare("theirs"), it.metrics()
    names = ("outcome", "speedup", "low", "high", "detectable", "time_s")
    processes = [_median_ratio(t.times["theirs"], t.times[OURS]) for t in it.taken]
    twins = [_median_ratio(t.times[AGAIN], t.times[OURS]) for t in it.taken]
    return {
        "cell": "/".join(map(str, cell)), "kind": kind, **{n: getattr(found, n) for n in names},
        "planted": pair.planted if kind == "slower" else 0.0, "processes": processes,
        "twins": twins, "rounds": metrics["rounds"], "seconds": seconds,
        "others_cores": metrics.get("others_cores"), "waited_share": metrics["waited_share"],
        "stolen_share": metrics.get("stolen_share"), "speed_change": metrics["speed_change"],
        "unix_s": time.time(),
    }  # fmt: skip


def _median_ratio(above: list[float], below: list[float]) -> float:
    return timing.median([a / b for a, b in zip(above, below, strict=True)])


def kept(path: Path) -> list[dict[str, Any]]:
    """The runs recorded so far; a line that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def turns(
    cells: list[Cell], runs: int, rows: list[dict[str, Any]], until_s: float = float("inf")
) -> Iterator[tuple[Cell, str]]:
    """The next cell and kind to run, again and again: of those not finished, the one that has had
    the least time. `rows` may grow meanwhile; ends when all are done or the clock passes."""
    while time.monotonic() < until_s:
        spent: dict[tuple[Cell, str], float] = {}
        for cell, kind in itertools.product(cells, KINDS):
            name = "/".join(map(str, cell))
            own = [r["seconds"] for r in rows if (r["cell"], r["kind"]) == (name, kind)]
            if len(own) < runs * KINDS[kind]:
                spent[cell, kind] = sum(own) / KINDS[kind]
        if not spent:
            return
        yield min(spent, key=spent.__getitem__)


def run(arguments: argparse.Namespace, cells: list[Cell]) -> None:
    """Measure until everything is done, the time is up, or Ctrl-C."""
    path = Path(f"{arguments.out}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = kept(path)
    until_s = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory() as home, path.open("a") as out:
        benches = Cells(Path(home))
        try:
            for cell, kind in turns(cells, arguments.runs, rows, until_s):
                bench, pair = benches.get(cell)
                ours = pair.slower if kind == "slower" else pair.plain
                it, seconds = judged(bench, ours, pair.plain)
                rows.append(row(cell, kind, pair, it, seconds))
                print(json.dumps(rows[-1]), file=out, flush=True)
                said = {k: rows[-1][k] for k in ("cell", "kind", "outcome", "speedup")}
                print(f"{len(rows)}: {said}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted: the runs so far are kept", file=sys.stderr)
        finally:
            benches.close()


def wanted(arguments: argparse.Namespace) -> list[Cell]:
    """The cells asked for. Raises BadInput."""
    sizes, conditions = arguments.sizes.split(","), arguments.conditions.split(",")
    for size in sizes:
        if size not in SIZES:
            raise BadInput(f"unknown size {size!r}", f"use {', '.join(SIZES)}")
    for condition in conditions:
        timing.plan("full", condition)
    counts = [int(n) for n in arguments.threads.split(",")]
    return [(s, n, c) for c in conditions for s in sizes for n in counts]


def main(argv: list[str] | None = None) -> None:
    """Run, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="short,medium,long")
    parser.add_argument("--threads", default="1,0", help="0 is one per core")
    parser.add_argument("--conditions", default="warm", help="warm,cold")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out", default="docs/results/calibration")
    parser.add_argument("--report", action="store_true", help="only write what is recorded")
    arguments = parser.parse_args(argv)
    cells = wanted(arguments)
    if not arguments.report:
        run(arguments, cells)
    machine = {**LocalMachine().fingerprint(), "cores_used": str(len(os.sched_getaffinity(0)))}
    rows = kept(Path(f"{arguments.out}.jsonl"))
    if not rows:
        raise SystemExit("no runs yet: run without --report first")
    print(write(rows, machine, Path(arguments.out)))


if __name__ == "__main__":
    main()
