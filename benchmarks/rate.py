"""Candidates judged per minute, end to end, for a kernel of 1 ms; nothing is built beforehand.

    python benchmarks/rate.py [--candidates 40] [--slow 0] [--wrong 0] [--threads 0]
        [--out docs/results/rate]

A study judges generated candidates, each with a source of its own, in an empty folder, so that no
build is read back from the cache. `--slow` and `--wrong` are shares of candidates that do their
work four times and that give wrong results. Baselines are prepared before the clock starts, and the
final judgement in full comes after it stops, as in a search. Prints candidates per minute and where
the time went; --out adds OUT.json and OUT.md. Aim: 40 per minute on 4 quiet cores.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kernels import Bench

from epitaxy import timing
from epitaxy.candidate import Candidate
from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.machines.local import LocalMachine
from epitaxy.proposers.scripted import Scripted
from epitaxy.study import Budget, Study
from epitaxy.verdict import Verdict

SLOW_SHARE = 3.0
"""A slow candidate does its work so many times more: it takes about four times as long."""


class Clocked:
    """A judge whose stages are timed: seconds by stage, and when each screening ended."""

    def __init__(self, judge: Judge) -> None:
        self.judge_, self.spent = judge, Counter[str]()
        self.rounds: list[float] = []
        self.screened_s: list[float] = []
        self.notes = judge.notes

    def baselines(self) -> dict[str, float]:
        """Seconds per call of each baseline."""
        return self.judge_.baselines()

    def build(self, candidate: Candidate) -> Any:
        """Build ahead."""
        return self._timed("building", lambda: self.judge_.build(candidate))

    def judge(self, candidate: Candidate, plan: str, best: float = 0.0) -> Verdict:
        """The verdict."""
        verdict: Verdict = self._timed(plan, lambda: self.judge_.judge(candidate, plan, best))
        if plan == "screen":
            self.screened_s.append(time.monotonic())
            self.rounds.append(verdict.metrics.get("rounds", 0.0))
        return verdict

    def close(self) -> None:
        """End its processes."""
        self.judge_.close()

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        start = time.monotonic()
        try:
            return work()
        finally:
            self.spent[stage] += time.monotonic() - start


def candidates(bench: Bench, depth: int, count: int, slow: float, wrong: float) -> list[Candidate]:
    """`count` kernels with sources of their own, good, slow and wrong ones mixed."""
    rng = random.Random(1)
    made = []
    for number in range(count):
        chance = rng.random()
        kind = "wrong" if chance < wrong else "slow" if chance < wrong + slow else "good"
        one = bench.candidate(depth=depth, note=f"{kind} {number}")
        kernel = one.files["kernel.cpp"]
        if kind == "wrong":
            kernel = kernel.replace("y[i] = v;", "y[i] = v + 0.01f;")
        if kind == "slow":
            again = f"twice(block) + {SLOW_SHARE:g} * 1"
            kernel = kernel.replace("= twice(block)", f"= static_cast<long>({again})")
        made.append(one.replace(files={**one.files, "kernel.cpp": kernel}))
    return made


def measure(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Run the study; the figures."""
    machine = LocalMachine(home=home, threads=arguments.threads)
    bench = Bench(arguments.size, machine, depth=arguments.depth)
    made = candidates(bench, arguments.depth, arguments.candidates, arguments.slow, arguments.wrong)
    judge = Clocked(Judge(bench.problem, machine, baselines=["eager"], cache=home / "build"))
    ledger = Ledger(home / "ledger.sqlite")
    budget = Budget(candidates=arguments.candidates)
    study = Study(bench.problem, machine, Scripted(made), ledger, budget, judge=judge)
    starts: list[float] = []

    def on_progress(progress: Any) -> None:
        if not starts and progress.phase == "building":
            starts.append(time.monotonic())

    study.optimize([on_progress])
    machine.close()
    seconds = judge.screened_s[-1] - starts[0]
    verdicts = [v for _, v in study.known.values()]
    return {
        "per_minute": 60 * len(judge.screened_s) / seconds, "seconds": seconds,
        "judged": len(judge.screened_s), "building_s": judge.spent["building"],
        "screening_s": judge.spent["screen"], "stopped": study.stop_reason,
        "rounds_median": timing.median(judge.rounds), "kernel_s": _typical(verdicts),
        "statuses": dict(Counter(v.status for v in verdicts)),
        "dismissed": sum(any("dismissed" in f.message for f in v.findings) for v in verdicts),
        "busy_runs": sum(v.metrics.get("others_cores", 0.0) > 0.2 for v in verdicts),
        "slow": arguments.slow, "wrong": arguments.wrong, "threads": arguments.threads,
        "machine": dict(machine.fingerprint()),
    }  # fmt: skip


def _typical(verdicts: Sequence[Verdict]) -> float | None:
    times = [v.time_s for v in verdicts if v.time_s]
    return timing.median(times) if times else None


def markdown(found: dict[str, Any]) -> str:
    """The figures in a few lines."""
    kernel = f"{found['kernel_s'] * 1e3:.2f} ms" if found["kernel_s"] else "unknown"
    machine = found["machine"]
    return "\n".join(
        [
            "# Candidates judged per minute",
            "",
            f"{time.strftime('%Y-%m-%d', time.gmtime())}; {machine['cpu']}, {machine['cores']} "
            f"cores; a kernel of {kernel}; no build was there before.",
            "",
            "| judged | seconds | per minute | building (all cores) | screening | rounds, median "
            "| dismissed | busy runs |",
            "|" + "---|" * 8,
            f"| {found['judged']} | {found['seconds']:.1f} | **{found['per_minute']:.0f}** "
            f"| {found['building_s']:.1f} s | {found['screening_s']:.1f} s "
            f"| {found['rounds_median']:g} | {found['dismissed']} | {found['busy_runs']} |",
            "",
            f"Statuses: {', '.join(f'{n} {s}' for s, n in found['statuses'].items())}. "
            f"Of the candidates, {found['slow']:.0%} did their work four times and "
            f"{found['wrong']:.0%} gave wrong results.",
            "",
        ]
    )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--wrong", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=0, help="0 is one per core")
    parser.add_argument("--size", default="medium")
    parser.add_argument("--depth", type=int, default=5, help="sines per element: sets the time")
    parser.add_argument("--out", default="")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as home:
        found = measure(arguments, Path(home))
    if arguments.out:
        Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{arguments.out}.json").write_text(json.dumps(found, indent=1) + "\n")
        Path(f"{arguments.out}.md").write_text(markdown(found))
    print(markdown(found))
    return found


if __name__ == "__main__":
    main()
