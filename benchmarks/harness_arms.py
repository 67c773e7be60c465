"""One run of an agent on one problem: the own loop with a model, or somebody else's command."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from harness_command import clean, secrets, work
from harness_page import GROWER, TEXTS, WITH, WITHOUT, Limits, Row
from harness_warm import judging

from epitaxy.budget import Budget
from epitaxy.candidate import Candidate
from epitaxy.checked import judge_for
from epitaxy.errors import EpitaxyError
from epitaxy.handmade import ENTRIES, read_folder
from epitaxy.ledger import Ledger
from epitaxy.problem import Problem
from epitaxy.proposer import Spending
from epitaxy.proposers.agent import Agent
from epitaxy.proposers.agent.bare import FORMAT, Bare
from epitaxy.record import digest_text
from epitaxy.serve.allowance import CHARGED
from epitaxy.serve.install import CLIENTS, Server, install_client
from epitaxy.study import Study, create_study
from epitaxy.timing import now_s
from epitaxy.verdict import Verdict

MADE_BY_TOOLS = {WITH: (), WITHOUT: ("grower", "mcp", "agent")}
"""Proposers that a way without the harness must not have had."""
LINES = 1000
"""Last lines in which the count of tokens is looked for."""
MOST = 1e15
CACHES = ("read", "creation")
SOCKET = "judge.sock"
OpenJudge = Callable[[Problem, Any], Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem one way: `folder` is the run's own, and keeps its ledger and what was said."""

    problem: Problem
    file: Path
    arm: str
    run: int
    folder: Path
    limits: Limits
    machine: Any
    open_judge: OpenJudge = lambda problem, machine: judge_for(machine)(problem, machine)
    baselines: tuple[str, ...] = ()
    """Of a command's own judge; () are all."""

    @property
    def ledger(self) -> Path:
        """Where the run's ledger is."""
        return self.folder / "ledger.sqlite"

    @property
    def budget(self) -> Budget:
        """The limits as a study takes them."""
        limits = self.limits
        return Budget(
            seconds=limits.minutes * 60, candidates=limits.candidates, tokens=limits.tokens
        )

    def row(self, answer: tuple[Candidate, Verdict] | None, **known: Any) -> Row:
        """The row of a run that ended with `answer`."""
        told: dict[str, Any] = {"problem": self.problem.name, "digest": self.problem.digest}
        told |= {"arm": self.arm, "run": self.run}
        if answer is None:
            return Row(**told, status="no answer", **known)
        candidate, verdict = answer
        best = verdict.strongest
        figures: dict[str, Any] = {"candidate": candidate.id, "by": candidate.proposer}
        if verdict.accepted and verdict.plan == "full" and best is not None:
            figures |= {"speedup": best.speedup, "low": best.low, "high": best.high}
            figures |= {"strongest": best.baseline, "time_s": verdict.time_s}
        status = verdict.status if verdict.plan == "full" else "not proven"
        return Row(**told, status=status, **figures, **known)


class Runner(Protocol):
    """An agent in the comparison."""

    name: str

    def run(self, task: Task) -> Row:
        """Let it work on a task, within its limits, and have its answer judged in full."""


class ByStudy:
    """The own loop: `model` ("provider/model") with all tools, with none, or no model at all."""

    def __init__(self, model: str) -> None:
        self.name = model

    def run(self, task: Task) -> Row:
        """A study whose proposer asks the model; its own last judging is the full one."""
        with Ledger(task.ledger) as ledger:
            study = self._study(task, ledger)
            study.optimize()
            # What is not the agent's is not counted: baselines before, the last judging after.
            wall_s = study.seconds["capture"] + study.seconds["search"]
            spent = study.proposer.spent() if isinstance(study.proposer, Agent) else None
            if isinstance(study.proposer, Agent):
                notes = study.view().notes("agent")
                text = study.proposer.transcript(notes)
                (task.folder / "said.md").write_text(text, encoding="utf-8")
            return task.row(
                study.best, judged=len(study.known), wall_s=wall_s, ended=study.stop_reason,
                **_spent(spent),
            )  # fmt: skip

    def _study(self, task: Task, ledger: Ledger) -> Study:
        who: Any = GROWER if task.arm == GROWER else Agent().asking(self.name)
        if task.arm == WITHOUT:
            who.way = Bare()
        study = create_study(
            task.problem, machine=task.machine, proposer=who, ledger=ledger, budget=task.budget
        )
        study._judge = task.open_judge(task.problem, task.machine)
        return study


def _spent(spent: Spending | None) -> dict[str, Any]:
    if spent is None:
        return {}
    return {
        "read_tokens": spent.input_tokens,
        "cached_tokens": spent.cached_tokens,
        "written_tokens": spent.output_tokens,
        "usd": None if spent.unpriced else spent.usd,
    }


class ByCommand:
    """A coding agent: a shell command, run in a folder that holds TASK.md (also on its stdin)."""

    def __init__(self, command: str, name: str) -> None:
        """`name` is published, and of the command its digest: it may hold a key."""
        self.command = command
        self.name = f"{name} (command {digest_text(command)[:12]})"

    def run(self, task: Task) -> Row:
        """Prepare the folder, let the command work, judge what lies in `answer`."""
        if task.arm == GROWER:
            return ByStudy("").run(task)
        place = task.folder / "work"
        place.mkdir()
        text = prepare(task, place)
        with judging(judge_words(task, place), task.folder / "home", task.arm == WITHOUT):
            start_s = now_s()
            ended, said = self._work(task, place, text)
            wall_s = now_s() - start_s
        judged, remarks = used(task)
        answer, why = self._judged(task, place / "answer")
        told = tokens_told(said)
        if told and told["read_tokens"] + told["written_tokens"] > task.limits.tokens:
            remarks.append(f"more than {task.limits.tokens} tokens")
        return task.row(
            answer, judged=judged, wall_s=wall_s, remarks=remarks, **told,
            ended=clean("; ".join(filter(None, (ended, why))), secrets(self.command, os.environ)),
        )  # fmt: skip

    def _work(self, task: Task, place: Path, text: str) -> tuple[str, str]:
        environment = {**os.environ, "EPITAXY_HOME": str(task.folder / "home")}
        ended, said = work(self.command, place, environment, text, task.limits.minutes * 60)
        (task.folder / "said.txt").write_text(said, encoding="utf-8")
        return ended, said

    def _judged(self, task: Task, folder: Path) -> tuple[tuple[Candidate, Verdict] | None, str]:
        """The answer and its full verdict, which the run's ledger keeps; or why there is none."""
        if not folder.exists():
            return None, "nothing in answer"
        judge = None
        try:
            it = written_by(task, read_folder(folder, task.problem))
            judge = task.open_judge(task.problem, task.machine)
            verdict = judge.judge(it, "full")
            with Ledger(task.ledger) as ledger:
                ledger.add_problem(task.problem)
                ledger.add_machine(task.machine.fingerprint())
                ledger.add_candidate(it)
                ledger.add_verdict(verdict)
            return (it, verdict), ""
        except EpitaxyError as error:
            return None, f"the answer cannot be judged: {error.message}"
        finally:
            if judge is not None:
                judge.close()


def written_by(task: Task, it: Candidate) -> Candidate:
    """The recorded candidate whose files `it` holds, with its author; else `it`, by the command.

    An export holds a model_new.py beside the files of the candidate.
    """
    more = {ENTRIES[1]} if it.entry == ENTRIES[0] else set()
    for path in ledgers(task):
        with Ledger(path) as ledger:
            for known in ledger.candidates(task.problem.digest):
                same = dict(known.files).items() <= dict(it.files).items()
                same = same and set(it.files) - set(known.files) <= more
                if same and (known.toolchain, known.entry) == (it.toolchain, it.entry):
                    return known
    return it.replace(proposer="command")


def ledgers(task: Task) -> list[Path]:
    """Those of a run: what it was given, and what it may have made itself."""
    return [p for p in (task.ledger, task.folder / "home" / "ledger.sqlite") if p.is_file()]


def prepare(task: Task, place: Path) -> str:
    """Fill the folder in which a command works; the task's text."""
    file = Path(shutil.copy(task.file, place))
    home = task.folder / "home"
    measured = Ledger.default_path().parent / "chips"
    home.mkdir(exist_ok=True)
    if measured.is_dir():  # this machine as it was measured before; nothing else is known
        shutil.copytree(measured, home / "chips")
    limits = task.limits
    if task.arm == WITH:
        most = f"{limits.candidates} in all"
        server = Server((str(file),), place, ledger=task.ledger, budget=most)
        for client in CLIENTS:
            install_client(client, server)
    else:
        script = place / "judge"
        words = [sys.executable, "-I", str(TEXTS / "ask.py"), str(task.folder / SOCKET)]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    text = (TEXTS / f"{'with' if task.arm == WITH else 'bare'}.md").read_text(encoding="utf-8")
    told = {"file": file.name, "minutes": limits.minutes, "candidates": limits.candidates}
    for name, value in {**told, "format": FORMAT.read_text(encoding="utf-8")}.items():
        text = text.replace(f"{{{name}}}", f"{value:g}" if isinstance(value, float) else str(value))
    (place / "TASK.md").write_text(text, encoding="utf-8")
    return text


def judge_words(task: Task, place: Path) -> list[str]:
    """How the judge of a run is started."""
    words = ["--problem", str(place / task.file.name), "--ledger", str(task.ledger)]
    words += ["--most", str(task.limits.candidates), "--socket", str(task.folder / SOCKET)]
    return words + [word for name in task.baselines for word in ("--baseline", name)]


def used(task: Task) -> tuple[int, list[str]]:
    """How many candidates the run had judged by its ledgers, and what was against the protocol."""
    judged, authors = 0, set()
    for path in ledgers(task):
        with Ledger(path) as ledger:
            begun = sum(kind == CHARGED for kind, _, _ in ledger.events(""))
            done = 0
            for problem in ledger.problems():
                done += len(ledger.verdicts(problem.digest))
                authors |= {c.proposer for c in ledger.candidates(problem.digest)}
            judged += max(begun, done)
    remarks = []
    if judged > task.limits.candidates:
        remarks.append(f"more than {task.limits.candidates} candidates judged")
    if met := sorted(authors & set(MADE_BY_TOOLS[task.arm])):
        remarks.append(f"not without the harness: it used {', '.join(met)}")
    return judged, remarks


def tokens_told(said: str) -> dict[str, Any]:
    """Tokens and money of the last line of JSON with a `usage`, as coding agents print it; what is
    no number is not told. An agent may print anything.

    Anthropic's counts tell tokens from the cache apart from `input_tokens`, OpenAI's within them.
    """
    for line in said.splitlines()[: -LINES - 1 : -1]:
        try:
            data = json.loads(line)
            usage = data["usage"]
            read, written = _number(usage["input_tokens"]), _number(usage["output_tokens"])
            apart = [_number(usage.get(f"cache_{n}_input_tokens") or 0) for n in CACHES]
            cached = apart[0] or _number(usage.get("cached_input_tokens") or 0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        return {
            "read_tokens": int(read + sum(apart)),
            "cached_tokens": int(cached),
            "written_tokens": int(written),
            "usd": _money(data.get("total_cost_usd")),
        }
    return {}


def _number(value: Any) -> float:
    """A count as JSON holds it. Raises ValueError for all else: text, infinity, below 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise ValueError(f"{value!r} counts nothing")
    return value


def _money(value: Any) -> float | None:
    try:
        return float(_number(value))
    except ValueError:
        return None
