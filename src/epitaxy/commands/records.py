"""judge, show, best, replay, report, export: what reads or re-judges recorded candidates."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from epitaxy.cli import DONE, NOTHING_ACCEPTED
from epitaxy.commands.condition import Condition, Threads
from epitaxy.commands.output import (
    Deterministic,
    Json,
    LedgerPath,
    Precision,
    Weights,
    add,
    emit,
    line,
    note,
    policy_options,
    stdout,
    writable_folder,
    write_text,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="A candidate's id, or enough of it.")]


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, judge, show, best, replay, report, export)


def judge(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="A folder with sources, or a recorded id.",
        ),
    ],
    problem: Annotated[str, typer.Option("--problem", help="KernelBench-format file.")],
    chip: Annotated[
        str, typer.Option("--chip", help="Chip that it is for; 'local' is this machine.")
    ] = "local",
    toolchain: Annotated[
        str,
        typer.Option("--toolchain", help="Toolchain of a folder, where files leave it open."),
    ] = "",
    condition: Condition = "warm",
    threads: Threads = 0,
    ledger: LedgerPath = None,
    precision: Precision = "",
    deterministic: Deterministic = False,
    weights: Weights = "",
    as_json: Json = False,
) -> int:
    """Judge one candidate and record the verdict."""
    from epitaxy.commands.rejudge import Where, judge_one

    policy = policy_options(precision, deterministic, weights)
    where = Where(chip, toolchain, condition, threads)
    run = judge_one(candidate, problem, ledger, where, policy=policy)
    from epitaxy.report import summary_table, verdict_json

    _, verdict = run.judged[-1]
    if as_json:
        emit(verdict_json(run) | {"verdict": verdict.to_dict()})
    elif verdict.accepted:
        stdout().print(summary_table(run))
    else:
        mend = f" — {verdict.refusal.mend}" if verdict.refusal else ""
        line(f"{verdict.status.replace('_', ' ')}: {verdict.reason}{mend}")
    return DONE if verdict.accepted else NOTHING_ACCEPTED


def show(
    id: Id,
    diff: Annotated[str, typer.Option("--diff", help="'parent', or an id to compare with.")] = "",
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Show a candidate: verdict, genome and source, or its difference from another."""
    from epitaxy.commands.recorded import show_one

    return show_one(id, diff, ledger, as_json)


def best(
    file: Annotated[str, typer.Argument(metavar="FILE", help="KernelBench-format file.")],
    ledger: LedgerPath = None,
    precision: Precision = "",
    deterministic: Deterministic = False,
    weights: Weights = "",
    as_json: Json = False,
) -> int:
    """Show the fastest accepted candidate for FILE."""
    from epitaxy.commands.recorded import recorded_run
    from epitaxy.report import summary_table, verdict_json

    run = recorded_run(file, ledger, policy_options(precision, deterministic, weights))
    if as_json:
        emit(verdict_json(run))
    else:
        stdout().print(summary_table(run))
    return NOTHING_ACCEPTED if run.best is None else DONE


def replay(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[TARGET]",
            help="A candidate's id, an export or a verdict.json; none: everything.",
        ),
    ] = "",
    problem: Annotated[str, typer.Option("--problem", help="KernelBench-format file.")] = "",
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Judge recorded candidates again and say whether the verdicts agree. Records nothing."""
    from epitaxy.commands import replaying

    judging = functools.partial(replaying.local_judge, path=ledger)
    rows = replaying.replay(replaying.recorded(target, problem, ledger), judging)
    return DONE if replaying.say(rows, as_json) else NOTHING_ACCEPTED


def report(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A problem's file or a candidate's id.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file to write.")] = None,
    ledger: LedgerPath = None,
    precision: Precision = "",
    deterministic: Deterministic = False,
    weights: Weights = "",
    as_json: Json = False,
) -> int:
    """Write the HTML report of what the ledger holds on a problem."""
    from epitaxy.commands.recorded import recorded_run
    from epitaxy.commands.run import default_folder
    from epitaxy.report import html

    run = recorded_run(target, ledger, policy_options(precision, deterministic, weights))
    path = write_text(out or default_folder(run.problem) / "report.html", html(run))
    if not run.judged:
        note(f"nothing is judged for {run.problem.name} yet: run epitaxy optimize first")
    if as_json:
        emit({"report": str(path)})
    else:
        line(str(path))
    return DONE


def export(
    id: Id,
    out: Annotated[Path, typer.Option("--out", help="Folder for model_new.py.")],
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Write a candidate as a folder with a self-contained model_new.py."""
    from epitaxy.commands.recorded import export_one

    writable_folder(out)
    path = export_one(id, out, ledger)
    if as_json:
        emit({"export": str(path)})
    else:
        line(str(path))
    return DONE
