"""Mutation score of the judge: `make fuzz`, or `python tests/host/fuzz_run.py --help`.

Every mutant goes down the judge's own path: what the full plan refuses without a clock first
(`Judge.refuse`), and whoever gets past it the whole of that plan. One whose machine code is that
of the honest kernel is equivalent. Another that is accepted in full survives, unless its outputs
are bit for bit the honest ones on every input distribution and a rule of `fuzz_rules.toml` says
why they must be. Exits 1 below the wanted score.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fuzz_kernels

from epitaxy import mutate
from epitaxy.candidate import Candidate
from epitaxy.judge import Judge
from epitaxy.machine import Job, WorkerFailure
from epitaxy.machines.local import LocalMachine
from epitaxy.plugin import plugins
from epitaxy.record import FrozenDict, digest_text

KILLED = ("incorrect", "crashed", "timeout", "refused")
OUTCOMES = ("build_failed", *KILLED, "equivalent", "survived")
WANTED = 0.99
THREADS = 2
"""Of each candidate: as few as a race needs, for nothing is timed."""
RULES = tomllib.loads(Path(__file__).with_name("fuzz_rules.toml").read_text())["rule"]


@dataclass(frozen=True)
class Fate:
    """What became of one mutant, and why."""

    kernel: str
    operator: str
    line: int
    before: str
    after: str
    outcome: str
    reason: str = ""
    key: str = ""


class HonestRefusedError(Exception):
    """The judge refuses the kernel itself: nothing can be learnt from its mutants."""


class Bench:
    """One kernel's judge, its honest candidate and the code that this compiles to."""

    def __init__(self, name: str, folder: Path, timed: bool = True) -> None:
        """`timed`: whether the whole full plan judges what its untimed part lets through."""
        self.name, self.timed = name, timed
        problem = fuzz_kernels.problem(name, folder)
        self.machine = LocalMachine(home=folder, threads=THREADS)
        self.cache = folder / "build"
        self.judge = Judge(problem, self.machine, baselines=["eager"], cache=self.cache)
        self.honest = fuzz_kernels.honest(name, problem)
        verdict = self.judge.refuse(self.honest)
        if verdict is not None:
            self.close()
            raise HonestRefusedError(f"{name} is {verdict.status}: {verdict.reason}")
        self.code = self._code(self.honest)

    def fate(self, mutant: mutate.Mutant) -> Fate:
        """Build and judge one mutant."""
        it = self.candidate(mutant.text)
        build = self.judge.build(it)
        told = partial(
            Fate, self.name, mutant.operator, mutant.line, mutant.before, mutant.after,
            key=key(self.name, mutant),
        )  # fmt: skip
        if not build.ok:
            return told("build_failed", build.log[:200])
        if code(build.folder) == self.code[0] and self._code(it) == self.code:
            return told("equivalent", "the same machine code")
        verdict = self.judge.refuse(it)
        if verdict is None and self.timed:
            verdict = self.judge.judge(it, "full")
        if verdict is not None and not verdict.accepted:
            return told(verdict.status, verdict.reason[:300])
        rule = self._rule(mutant)
        same = self._same_bits(build.folder)
        worst = max((row.error / row.limit for row in verdict.errors), default=0) if verdict else 0
        bits = "the same bits" if same else f"error at most {worst:.2g} of the limit"
        if rule and (same or rule.get("algebra")):
            return told("equivalent", f"{bits}; {rule['because']}")
        return told("survived", bits)

    def close(self) -> None:
        """End all processes."""
        self.judge.close()
        self.machine.close()

    def candidate(self, text: str) -> Candidate:
        """The honest candidate with another kernel."""
        return self.honest.replace(files=FrozenDict(self.honest.files, **{"kernel.cpp": text}))

    def _code(self, candidate: Candidate) -> list[str]:
        """Machine code as built to be used, and as built with its bounds checked."""
        harsh = plugins("toolchains").get("cpp").build_harsh
        builds = self.judge.build(candidate), harsh(candidate, self.judge.problem, self.cache)
        return [code(build.folder) for build in builds]

    def _rule(self, mutant: mutate.Mutant) -> dict[str, Any] | None:
        """Why a mutant must compute what the honest kernel does, if a rule says so."""
        lines = mutant.text.splitlines()
        for rule in RULES:
            named = rule.get("operator", mutant.operator) == mutant.operator
            last = next((n for n, x in enumerate(lines, 1) if rule.get("above", "\n") in x), None)
            near = last is None or "above" not in rule or mutant.line <= last
            if named and near and self.name in rule["kernels"]:
                if rule["contains"] in lines[mutant.line - 1] + mutant.before:
                    return dict(rule)
        return None

    def _same_bits(self, folder: str) -> bool:
        """Whether the outputs are bitwise those of the honest kernel on every distribution."""
        judge, own = self.judge, self.judge.build(self.honest).folder
        for number in range(judge.cases.count):
            if judge.cases.usable(number):
                inputs = judge.cases.get(number).inputs
                first, second = (self._outputs(f, inputs) for f in (own, folder))
                if not all(
                    a.numpy().tobytes() == b.numpy().tobytes()
                    for a, b in zip(first, second, strict=True)
                ):
                    return False
        return True

    def _outputs(self, folder: str, inputs: Sequence[Any]) -> list[Any]:
        judge = self.judge
        with self.machine.start(Job(problem=judge.problem, folder=folder)) as worker:
            worker.prepare(judge.reference.init_arguments(), judge.reference.state())
            worker.write(0, inputs)
            try:
                worker.burst([0])
                return [x.clone() for x in worker.outputs()]
            except WorkerFailure:
                return []


def code(folder: str) -> str:
    """Machine code and constants of the library in `folder`, as objdump prints them."""
    (library,) = Path(folder).glob("kernel-*.so")
    command = ["objdump", "-s", "-j", ".text", "-j", ".rodata", "-j", ".data", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.partition("Contents")[2]


def run_kernel(
    name: str, count: int, seed: int, known: Mapping[str, Fate], budget: Budget
) -> Iterator[Fate]:
    """The fates of `count` mutants of one kernel, in the order drawn; known ones at once."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        problem = fuzz_kernels.problem(name, folder)
        honest = fuzz_kernels.honest(name, problem)
        bench: Bench | None = None
        for mutant in fuzz_kernels.mutants(name, honest, count, seed):
            fate = known.get(key(name, mutant))
            if fate is None and budget.left():
                bench = bench or stack.enter_context(closing(Bench(name, folder)))
                fate = bench.fate(mutant)
            if fate is not None:
                yield fate


def key(kernel: str, mutant: mutate.Mutant) -> str:
    """Names a mutant among those of all kernels, and of their later versions."""
    return digest_text(f"{kernel} {mutant.text}")[:16]


class Budget:
    """Seconds that a slice of the run may take."""

    def __init__(self, seconds: float = 0) -> None:
        """0: no limit."""
        self._until_s = time.monotonic() + seconds if seconds else math.inf

    def left(self) -> bool:
        """Whether there is time for another mutant."""
        return time.monotonic() < self._until_s


class Results:
    """Fates in a file, a line of JSON each: a run that was cut off goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {f.key: f for f in (Fate(**json.loads(line)) for line in lines)}

    def add(self, fate: Fate) -> None:
        """Keep one, at once, unless it is there."""
        if fate.key in self.known:
            return
        self.known[fate.key] = fate
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(fate)) + "\n")


def score(fates: Iterable[Fate]) -> float:
    """Killed mutants among those that could be told from the honest kernel."""
    counts = Counter(f.outcome for f in fates)
    killed = sum(counts[name] for name in KILLED)
    return killed / max(killed + counts["survived"], 1)


def table(fates: Sequence[Fate]) -> str:
    """Markdown: a row for each operator, the totals, the equivalent ones and the survivors."""
    head = ("operator", "made", *(name.replace("_", " ") for name in OUTCOMES))
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    groups = {n: [f for f in fates if f.operator == n] for n in mutate.NAMES}
    for name, group in [*groups.items(), ("all", list(fates))]:
        counts = Counter(f.outcome for f in group)
        cells = [name, len(group), *(counts[outcome] for outcome in OUTCOMES)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    kernels = len({f.kernel for f in fates})
    lines += ["", f"{kernels} kernels, mutation score {100 * score(fates):.2f} %.", ""]
    for outcome in ("survived", "equivalent"):
        chosen = [f for f in fates if f.outcome == outcome and "machine code" not in f.reason]
        lines += [f"{outcome.capitalize()} (machine code differs): {len(chosen)}", ""]
        for f in chosen:
            change = f"`{' '.join(f.before.split())}` → `{' '.join(f.after.split())}`"
            lines.append(f"- {f.kernel}, line {f.line}, {f.operator}: {change}: {f.reason}")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Run the fuzz and print its summary; 1 when the score is below what is wanted."""
    parser = argparse.ArgumentParser(description="Mutate honest kernels and judge them.")
    parser.add_argument("--each", type=int, default=26, help="mutants of each kernel")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kernels", default=",".join(fuzz_kernels.NAMES))
    parser.add_argument(
        "--results", type=Path, default=Path("epitaxy-out/fuzz.jsonl"),
        help="every fate is kept here, and known ones are not worked out again",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long; 0: never")
    options = parser.parse_args()
    os.nice(10)
    results, budget = Results(options.results), Budget(options.seconds)
    if results.known:
        _say(f"{len(results.known)} fates are known from {options.results}; without it all are new")
    fates: list[Fate] = []
    refused: list[str] = []
    for name in options.kernels.split(","):
        try:
            for fate in run_kernel(name, options.each, options.seed, results.known, budget):
                results.add(fate)
                fates.append(fate)
                _say(f"{len(fates):4} {name}: {fate.operator}: {fate.outcome}")
        except HonestRefusedError as error:
            refused.append(f"the honest kernel {error}")
            _say(refused[-1])
    print(table(fates), *refused, sep="\n")
    if not budget.left():
        print("The time was up before all were judged: run it again to go on.")
    return 0 if score(fates) >= WANTED and not refused and budget.left() else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
