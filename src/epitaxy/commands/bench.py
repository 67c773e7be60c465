"""A whole folder of problems: one table against all baselines, kept after each problem."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.cli import DONE, INTERRUPTED, NOTHING_ACCEPTED
from epitaxy.commands.output import emit, note, stdout, writable_folder, write_text
from epitaxy.commands.run import Options, check_names, default_folder, kept, leave, search
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.problem import load
from epitaxy.progress import milliseconds
from epitaxy.report import verdict_json

THRESHOLDS = (0.0, 1.0, 1.5, 2.0)
"""p of fast_p: the share of problems that are correct and more than p times as fast."""


def bench_folder(folder: Path, options: Options, out: Path, as_json: bool) -> int:
    """Optimize every problem of `folder`; finished ones are taken from `out`."""
    check_names(options)
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {state}", "give a folder; `epitaxy optimize` takes one file")
    files = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
    if not files:
        raise BadInput(
            f"no problem files in {folder}", "give a folder of KernelBench-format .py files"
        )
    writable_folder(out)
    rows: list[Mapping[str, Any]] = []
    for number, file in enumerate(files, 1):
        note(f"[{number}/{len(files)}] {file.name}")
        row, interrupted = _one(file, options, out)
        if interrupted:
            return INTERRUPTED
        rows.append(row)
        table = tabulate(rows)
        write_text(out / "table.json", json.dumps(table, indent=2))
        write_text(out / "table.md", markdown(table))
    if as_json:
        emit(tabulate(rows))
    else:
        stdout().print(markdown(tabulate(rows)), markup=False, soft_wrap=True)
    return DONE if any(r["speedup"] is not None for r in rows) else NOTHING_ACCEPTED


def _one(file: Path, options: Options, out: Path) -> tuple[Mapping[str, Any], bool]:
    """The row of one file. A problem that cannot be judged is a row with its error."""
    try:
        problem = load(str(file), **options.policy)
        folder = out / default_folder(problem).name
        done = _finished(folder / "verdict.json", problem.digest, options)
        if done is not None:
            note("  already done")
            return row_of(done), False
        run, interrupted = search(problem, options)
        if interrupted:
            note(kept(run))
            return {}, True
        leave(run, folder)
        return row_of(verdict_json(run)), False
    except EpitaxyError as error:
        note(f"  error: {error.message} — {error.mend}")
        return {"problem": file.stem, "speedup": None, "error": str(error)}, False


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


def row_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """One row from a verdict document (`report.verdict_json`); times in seconds."""
    names = ("time_s", "floor_s", "of_limit", "speedup", "low", "high", "outcome", "stop_reason")
    return {
        "problem": document["problem"]["name"],
        "baselines": document["baselines"],
        "strongest": document["strongest"],
        **{name: document[name] for name in names},
    }


def tabulate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows with fast_p and the geometric mean of the speed-ups over the strongest baseline."""
    speedups = [r["speedup"] for r in rows if r["speedup"]]
    mean = math.exp(sum(map(math.log, speedups)) / len(speedups)) if speedups else None
    fast = {f"{p:g}": sum(s > p for s in speedups) / len(rows) for p in THRESHOLDS} if rows else {}
    return {"rows": list(rows), "fast_p": fast, "geometric_mean": mean, "judged": len(speedups)}


def markdown(table: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    rows = table["rows"]
    names = sorted({name for r in rows for name in r.get("baselines", {})})
    header = ["problem", *names, "ours", "floor", "of limit", "speed-up", "interval", "outcome"]
    lines = [_line(header), _line(["---"] * len(header))]
    lines += [_line(_cells(row, names)) for row in rows]
    mean = table["geometric_mean"]
    lines += [
        "",
        f"Geometric mean over the strongest baseline: {mean:.2f}x" if mean else "No result.",
    ]
    lines += [", ".join(f"fast_{p}: {share:.0%}" for p, share in table["fast_p"].items()), ""]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    if "error" in row:
        return [row["problem"], *[""] * (len(names) + 5), f"error: {row['error']}"]
    times = [milliseconds(row["baselines"].get(name)) for name in names]
    limit = "–" if row["of_limit"] is None else f"{row['of_limit']:.0%}"
    if row["speedup"] is None:
        return [
            row["problem"],
            *times,
            "–",
            milliseconds(row["floor_s"]),
            limit,
            "–",
            "–",
            row["outcome"],
        ]
    ours = [milliseconds(row["time_s"]), milliseconds(row["floor_s"]), limit]
    interval = f"{row['low']:.2f}–{row['high']:.2f}"
    return [row["problem"], *times, *ours, f"{row['speedup']:.2f}x", interval, row["outcome"]]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"
