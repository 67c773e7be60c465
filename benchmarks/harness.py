"""The same five problems with and without the harness, at equal effort, by an agent of your own.

    python benchmarks/harness.py --model provider/model
    python benchmarks/harness.py --agent 'claude -p --output-format json < TASK.md' --name claude

A command is run by the shell in a folder that holds TASK.md, which also comes on its stdin; only
its --name and its digest are published. Writes docs/results/harness-NAME.md and .json after each
run; the same command goes on where it stopped. Ledgers, answers and what was said stay in --work.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness_arms import ByCommand, ByStudy, OpenJudge, Runner, Task
from harness_main import on_machine
from harness_page import ARMS, Limits, Row, Series, page

from epitaxy.commands.output import write_text
from epitaxy.errors import BadInput
from epitaxy.probe import measured_chip
from epitaxy.problem import Problem, load

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PROBLEMS = (
    "examples/softmax.py", "examples/layernorm_residual.py", "examples/linear_gelu.py",
    "examples/cumsum.py", "suites/level2/conv_relu_bias.py",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared, and where it goes."""

    runner: Runner
    machine: Any
    name: str
    out: Path
    work: Path
    limits: Limits
    files: Sequence[Path]
    runs: int = 1
    stand_in: bool = False
    open_judge: OpenJudge | None = None
    baselines: tuple[str, ...] = ()

    @property
    def kept(self) -> Path:
        """The rows so far."""
        return self.out / f"harness-{self.name}.json"


def compare(plan: Plan) -> Series:
    """Every run that is not recorded yet, each written down when it ends. Raises BadInput."""
    if plan.stand_in and plan.out.resolve().is_relative_to(RESULTS):
        raise BadInput("a script in an agent's place is no result", "write elsewhere with --out")
    problems = named(plan.files)
    series = begun(plan, {p.name: p.digest for p in problems.values()})
    done = {(row.digest, row.arm, row.run) for row in series.rows}
    for file, arm, run in order(plan.files, plan.runs):
        if (problems[file].digest, arm, run) in done:
            continue
        print(f"{file.stem}, {arm}, run {run + 1} of {plan.runs}", file=sys.stderr, flush=True)
        series.rows.append(one(plan, file, arm, run))
        plan.out.mkdir(parents=True, exist_ok=True)
        write_text(plan.kept, json.dumps(series.to_dict(), indent=1) + "\n")
        write_text(plan.kept.with_suffix(".md"), page(series) + "\n")
    return series


def named(files: Sequence[Path]) -> dict[Path, Problem]:
    """The problems in `files`. Raises BadInput for two of one name."""
    problems = {file: load(str(file)) for file in files}
    names = collections.Counter(problem.name for problem in problems.values())
    if len(files) > len(problems) or max(names.values(), default=0) > 1:
        twice = [name for name, times in names.items() if times > 1] or [files[0].stem]
        raise BadInput(f"two problems are called {', '.join(twice)}", "rename one of them")
    return problems


def begun(plan: Plan, digests: dict[str, str]) -> Series:
    """The series that is recorded, or a new one. Raises BadInput where the two do not fit."""
    fingerprint = plan.machine.fingerprint()
    named = fingerprint.get("cpu") or fingerprint.get("machine", "")
    machine = f"{named}, {fingerprint.get('cores', '?')} cores"
    fresh = Series(
        plan.runner.name, machine, time.strftime("%Y-%m-%d"), plan.limits, plan.stand_in, []
    )
    if not plan.kept.is_file():
        return fresh
    known = Series.of(json.loads(plan.kept.read_text(encoding="utf-8")))
    if dataclasses.replace(known, rows=[], day=fresh.day) != fresh:
        raise BadInput(f"{plan.kept} is of another agent, machine or limits", "give another --name")
    others = {r.problem for r in known.rows if digests.get(r.problem, r.digest) != r.digest}
    if others:
        told = f"{plan.kept} holds runs of another text of {', '.join(sorted(others))}"
        raise BadInput(told, "put the files back, or give another --name")
    return known


def order(files: Sequence[Path], runs: int) -> Iterator[tuple[Path, str, int]]:
    """Every (problem, way, run); the three ways take turns in being first."""
    for run in range(runs):
        for number, file in enumerate(files):
            first = (number + run) % len(ARMS)
            for arm in (*ARMS[first:], *ARMS[:first]):
                yield file, arm, run


def one(plan: Plan, file: Path, arm: str, run: int) -> Row:
    """One run in a folder of its own, which then moves to the others: they are not next door."""
    kept = plan.work / f"{file.stem}-{arm}-{run + 1}"
    more: dict[str, Any] = {"open_judge": plan.open_judge} if plan.open_judge else {}
    more["baselines"] = plan.baselines
    with tempfile.TemporaryDirectory(prefix="run-") as place:
        folder = Path(place).resolve() / "run"
        folder.mkdir()
        task = Task(load(str(file)), file, arm, run, folder, plan.limits, plan.machine, **more)
        row = plan.runner.run(task)
        move(folder, kept)
    return row


def move(folder: Path, to: Path) -> None:
    """Put a run's folder in the place of what was there, without sockets and pipes: no copy can be
    made of those where it lies on another file system."""
    for path in folder.rglob("*"):
        if not (path.is_symlink() or path.is_file() or path.is_dir()):
            path.unlink()
    shutil.rmtree(to, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, to)


def chosen(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--agent", help="a coding agent's command")
    who.add_argument("--model", help="provider/model, for the own loop")
    parser.add_argument("--name", default="", help="of the page; else the model's")
    parser.add_argument("--runs", type=int, default=1, help="how often each")
    parser.add_argument("--candidates", type=int, default=Limits.candidates)
    parser.add_argument("--minutes", type=float, default=Limits.minutes)
    parser.add_argument("--tokens", type=int, default=Limits.tokens)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="where ledgers and answers stay")
    parser.add_argument(
        "--stand-in", action="store_true", help="a script plays the agent: the page says so"
    )
    parser.add_argument("problems", nargs="*", type=Path, help=f"instead of {len(PROBLEMS)} own")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; exit code 2 with one line where that cannot be."""
    given = chosen(argv)
    return on_machine(lambda machine: print(page(compare(planned(given, machine)))))


def planned(given: argparse.Namespace, machine: Any) -> Plan:
    """What the command line asks for. Raises BadInput."""
    name = re.sub(r"[^\w.-]+", "-", given.name or given.model or "").strip("-.")[:60]
    if not name:
        raise BadInput("a command has no name to publish", "give one: --name my-agent")
    runner = ByStudy(given.model) if given.model else ByCommand(given.agent, name)
    if min(given.runs, given.candidates, given.minutes, given.tokens) <= 0:
        raise BadInput("a limit of nothing", "give numbers above 0")
    measured_chip()  # floors rest on it, and no run is to pay for it
    return Plan(
        runner, machine, name, given.out,
        given.work or ROOT / "epitaxy-out" / f"harness-{name}",
        Limits(given.candidates, given.minutes, given.tokens),
        [p.resolve() for p in given.problems] or [ROOT / p for p in PROBLEMS],
        given.runs, given.stand_in,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
