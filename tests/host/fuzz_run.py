"""Mutation score of the judge: `make fuzz`, or `python tests/host/fuzz_run.py --help`.

Every mutant goes down the judge's own path: the short plan first, and whoever gets past it the
full one. One whose machine code is that of the honest kernel is equivalent. Another that is
accepted in full survives, unless its outputs are bit for bit the honest ones on every input
distribution and a rule of `fuzz_rules.toml` says why they must be. Exits 1 below the wanted score.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
from epitaxy.record import FrozenDict

KILLED = ("incorrect", "crashed", "timeout", "refused")
OUTCOMES = ("build_failed", *KILLED, "equivalent", "survived")
WANTED = 0.99
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


class HonestRefusedError(Exception):
    """The judge refuses the kernel itself: nothing can be learnt from its mutants."""


class Bench:
    """One kernel's judge, its honest candidate and the code that this compiles to."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        problem = fuzz_kernels.problem(name, folder)
        self.machine = LocalMachine(home=folder)
        self.judge = Judge(problem, self.machine, baselines=["eager"])
        self.honest = fuzz_kernels.honest(name, problem)
        verdict = self.judge.judge(self.honest, "full")
        if not verdict.accepted:
            self.close()
            raise HonestRefusedError(f"{name} is {verdict.status}: {verdict.reason}")
        self.code = code(self.judge.build(self.honest).folder)

    def fate(self, mutant: mutate.Mutant) -> Fate:
        """Build and judge one mutant."""
        it = self.candidate(mutant.text)
        build = self.judge.build(it)
        told = partial(Fate, self.name, mutant.operator, mutant.line, mutant.before, mutant.after)
        if not build.ok:
            return told("build_failed", build.log[:200])
        if code(build.folder) == self.code:
            return told("equivalent", "the same machine code")
        verdict = self.judge.judge(it, "screen")
        if verdict.accepted:
            verdict = self.judge.judge(it, "full")
        if not verdict.accepted:
            return told(verdict.status, verdict.reason[:300])
        rule = self._rule(mutant)
        same = self._same_bits(build.folder)
        worst = max(row.error / row.limit for row in verdict.errors)
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


def run_kernel(name: str, count: int, seed: int) -> list[Fate]:
    """The fates of `count` mutants of one kernel."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, Path(folder))
        try:
            text = bench.honest.files["kernel.cpp"]
            return [bench.fate(m) for m in mutate.mutants(text, count, seed)]
        finally:
            bench.close()


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
    parser.add_argument("--each", type=int, default=28, help="mutants of each kernel")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="kernels worked on at once")
    parser.add_argument("--kernels", default=",".join(fuzz_kernels.NAMES))
    parser.add_argument("--json", type=Path, help="also write every fate here")
    options = parser.parse_args()
    fates: list[Fate] = []
    refused: list[str] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = {
            pool.submit(run_kernel, name, options.each, options.seed): name
            for name in options.kernels.split(",")
        }
        for done in as_completed(waiting):
            try:
                fates += done.result()
            except HonestRefusedError as error:
                refused.append(f"the honest kernel {error}")
                print(refused[-1], file=sys.stderr, flush=True)
                continue
            mine = [f for f in fates if f.kernel == waiting[done]]
            counts = dict(Counter(f.outcome for f in mine))
            print(f"{waiting[done]}: {counts}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps([asdict(f) for f in fates], indent=1))
    print(table(fates), *refused, sep="\n")
    return 0 if score(fates) >= WANTED and not refused else 1


if __name__ == "__main__":
    sys.exit(main())
