"""Whole suites of problems: one table against all baselines, kept after each problem."""

from __future__ import annotations

import dataclasses
import gc
import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.bench_report import html, markdown, spent
from epitaxy.bench_table import ERROR, LEFT, empty_row, row_of, tabulate
from epitaxy.cli import DONE, INTERRUPTED, NOTHING_ACCEPTED
from epitaxy.commands.output import emit, note, stdout, writable_folder, write_text
from epitaxy.commands.run import (
    Options,
    check_names,
    default_folder,
    kept,
    leave,
    open_machine,
    search,
)
from epitaxy.errors import BadProblem, EpitaxyError, MachineFault
from epitaxy.problem import load
from epitaxy.report import headline, verdict_json
from epitaxy.shrink import parse, shrink
from epitaxy.suites import Entry, find
from epitaxy.timing import now_s

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Suite:
    """What to run and where the results go; `scale` as in `shrink.parse`, "" for none."""

    targets: Sequence[str]
    out: Path
    scale: str = ""


def bench(suite: Suite, options: Options, as_json: bool) -> int:
    """Optimize every problem; finished ones are taken from `out`. An exit code."""
    check_names(options)
    if suite.scale:
        parse(suite.scale)
    entries = find(suite.targets)
    writable_folder(suite.out)
    start_s, rows = now_s(), list[Row]()
    for number, entry in enumerate(entries, 1):
        note(f"[{number}/{len(entries)}] {entry.name}")
        row, interrupted = _one(entry, suite, options)
        if interrupted:
            return INTERRUPTED
        rows.append(row)
        _write(rows, suite, options)
        gc.collect()  # the modules of the problem before, with all their parameters
    table = tabulate(rows)
    note(f"{len(rows)} problems in {(now_s() - start_s) / 60:.1f} min; {suite.out / 'table.html'}")
    if as_json:
        emit(table)
    else:
        stdout().print(markdown(table), markup=False, soft_wrap=True)
    return DONE if any(r["speedup"] is not None for r in rows) else NOTHING_ACCEPTED


def _write(rows: Sequence[Row], suite: Suite, options: Options) -> None:
    table = tabulate(rows)
    write_text(suite.out / "table.json", json.dumps(table, indent=2))
    write_text(suite.out / "table.md", markdown(table))
    machine = open_machine(options.chip)
    facts = {
        "suites": ", ".join(suite.targets),
        "budget a problem": options.budget,
        "scale": suite.scale or "as published",
        "caches, threads": f"{options.condition}, {options.threads or 'all'}",
        **{k: machine.fingerprint().get(k, "") for k in ("cpu", "cores", "torch", "compiler")},
    }
    write_text(suite.out / "table.html", html(table, facts))


def _one(entry: Entry, suite: Suite, options: Options) -> tuple[Row, bool]:
    """The row of one problem, whatever happens in it, and whether the user interrupted."""
    try:
        return _judged(entry, suite, options)
    except EpitaxyError as error:
        return _failed(entry, ERROR, error), False
    except Exception as error:  # one broken problem does not stop the others
        path = suite.out / entry.name / "error.txt"
        write_text(path, traceback.format_exc())
        what = MachineFault(f"{type(error).__name__}: {error}", f"see {path}")
        return _failed(entry, ERROR, what), False


def _failed(entry: Entry, status: str, error: EpitaxyError) -> Row:
    note(f"  {status}: {error.message} — {error.mend}")
    return empty_row(entry.path.stem, entry.level, status, f"{error.message} — {error.mend}")


def _judged(entry: Entry, suite: Suite, options: Options) -> tuple[Row, bool]:
    start_s = now_s()
    path, changes = _scaled(entry, suite)
    problem = load(str(path), **options.policy)
    loaded_s = now_s() - start_s
    folder = suite.out / entry.level / default_folder(problem).name
    done = _finished(folder / "verdict.json", problem.digest, options)
    if done is not None:
        note("  already done")
        return row_of(done, entry.level), False
    try:
        run, interrupted = search(problem, options)
    except BadProblem as error:
        # It runs, but nothing of it can be grown or judged.
        return _failed(entry, LEFT, error), False
    if interrupted:
        note(kept(run))
        return {}, True
    seconds = dict(run.seconds)
    seconds["capture"] = seconds.get("capture", 0.0) + loaded_s
    run = dataclasses.replace(run, seconds=seconds)
    leave(run, folder, {"scale": changes})
    document = verdict_json(run) | {"scale": changes}
    note(f"  {headline(run)}\n  {spent(seconds)}")
    return row_of(document, entry.level), False


def _scaled(entry: Entry, suite: Suite) -> tuple[Path, list[str]]:
    """The file to run and what was changed in it: a copy under `out` when sizes shrink."""
    if not suite.scale:
        return entry.path, []
    try:
        source = entry.path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadProblem(f"{entry.path} cannot be read: {error}", "give a text file") from None
    made = shrink(source, parse(suite.scale), entry.name)
    if not made.changes:
        return entry.path, []
    note(f"  scaled: {', '.join(made.changes)}")
    copy = suite.out / "scaled" / entry.level / entry.path.name
    beside = entry.path.with_suffix(".toml")
    if beside.exists():
        write_text(copy.with_suffix(".toml"), beside.read_text(encoding="utf-8"))
    return write_text(copy, made.source), list(made.changes)


def _finished(path: Path, digest: str, options: Options) -> Mapping[str, Any] | None:
    """An earlier result for exactly this problem under this condition, if there is one."""
    try:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        verdict = document["verdict"] or {}
        known = verdict.get("condition", "warm"), verdict.get("threads", 0)
        same = not verdict or known == (options.condition, options.threads)
        return document if same and document["problem"]["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
