"""doctor, chips, toolchains, checks, proposers, problems, probe."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from typing import Annotated, Any

import typer
from rich.text import Text

from epitaxy.cli import DONE, UNUSABLE
from epitaxy.commands.output import Json, LedgerPath, add, emit, note, open_ledger, print_table
from epitaxy.errors import BadInput


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, doctor, probe, chips, toolchains, checks, proposers, problems)


def doctor(ledger: LedgerPath = None, as_json: Json = False) -> int:
    """Say what works on this machine, what does not, and the mend."""
    from epitaxy.doctor import examine, usable

    rows = examine(ledger)
    if as_json:
        emit({"usable": usable(rows), "rows": [dataclasses.asdict(row) for row in rows]})
        return DONE if usable(rows) else UNUSABLE
    cells = []
    for row in rows:
        word, style = (
            ("ok", "green") if row.ok else ("NO", "red") if row.needed else ("no", "yellow")
        )
        cells.append((row.name, Text(word, style=style), row.detail, row.mend))
    print_table(("", "", "found", "mend"), cells)
    if not usable(rows):
        names = ", ".join(row.name for row in rows if row.needed and not row.ok)
        note(f"epitaxy optimize cannot run here: {names}")
        return UNUSABLE
    return DONE


def probe(
    budget: Annotated[str, typer.Option("--budget", help="Time to spend: 30s, 1m.")] = "60s",
    as_json: Json = False,
) -> int:
    """Measure this machine's real peaks; floors and limits rest on them afterwards."""
    from epitaxy.probe import probe as measure
    from epitaxy.progress import Display

    budget_s = _seconds(budget)
    with Display("measuring this machine") as display:
        chip = measure(progress=display.step, budget_s=budget_s)
    if as_json:
        emit(chip.to_dict() | {"digest": chip.digest})
        return DONE
    rows = [(f"peak {name}", f"{v / 1e9:.4g} G/s") for name, v in chip.peak_flops_per_s.items()]
    for level in chip.levels:
        text = f"{level.bytes / 2**20:.4g} MiB, reads {level.read_bytes_per_s / 1e9:.4g} GB/s"
        rows.append((level.name, text + f", latency {level.latency_s * 1e9:.3g} ns"))
    rows.append(("barrier", f"{chip.barrier_s * 1e6:.3g} µs"))
    rows += [("note", text) for text in chip.notes]
    print_table((chip.name, "measured"), rows)
    return DONE


def _seconds(text: str) -> float:
    """A time; a bare number is seconds, for a probe counts no candidates. Raises BadInput."""
    from epitaxy.budget import Budget

    for words in (text, f"{text}s"):
        with contextlib.suppress(BadInput):
            seconds = Budget.parse(words).seconds
            if seconds is not None:
                return seconds
    raise BadInput(f"budget {text!r} is not a time", "try 30s or 1m")


def chips(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CHIP]...", help="Ids, aliases or prefixes.")
    ] = None,
    as_json: Json = False,
) -> int:
    """List the chips known, show one, or compare several side by side."""
    from epitaxy.chip_facts import find, load_all

    found = [find(name) for name in names] if names else list(load_all())
    if as_json:
        emit([chip.to_dict() for chip in found])
        return DONE
    from epitaxy.chip_report import card, compare

    if len(found) == 1:
        print_table(("", found[0].name), [tuple(row) for row in card(found[0])])
    elif names:
        print_table(*compare(found))
    else:
        print_table(
            ("id", "name", "vendor", "kind"), [(c.id, c.name, c.vendor, c.kind) for c in found]
        )
    return DONE


def toolchains(as_json: Json = False) -> int:
    """List the toolchains and whether they work here."""
    from epitaxy.plugin import plugins

    rows = []
    for name in plugins("toolchains").names():
        found = plugins("toolchains").get(name).available()
        rows.append({"name": name, "ok": found.ok, "detail": found.detail, "mend": found.mend})
    return _listing(rows, as_json)


def checks(as_json: Json = False) -> int:
    """List the static checks that every candidate must pass."""
    return _described("checks", as_json)


def proposers(as_json: Json = False) -> int:
    """List the proposers, for --with."""
    return _described("proposers", as_json)


def problems(ledger: LedgerPath = None, as_json: Json = False) -> int:
    """List the problems in the ledger, how much was judged, and the best result."""
    rows = []
    with open_ledger(ledger) as store:
        for problem in store.problems():
            specs = [str(s) for s in problem.inputs if s is not None]
            best = store.best(problem.digest, plan="full")
            row = {"id": problem.id, "name": problem.name, "inputs": ", ".join(specs)}
            row["judged"] = len(store.judged(problem.digest))
            row["speedup"] = best[0][1].speedup if best else None
            rows.append(row)
    return _listing(rows, as_json)


def _described(folder: str, as_json: bool) -> int:
    """Names and the first line of each plugin's docstring."""
    from epitaxy.plugin import plugins

    rows = []
    for name in plugins(folder).names():
        text = inspect.getdoc(type(plugins(folder).get(name))) or ""
        rows.append({"name": name, "what": text.split("\n")[0]})
    return _listing(rows, as_json)


def _listing(rows: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        emit(rows)
    elif rows:
        cells = [[_cell(value) for value in row.values()] for row in rows]
        print_table(list(rows[0]), cells)
    else:
        note("none")
    return DONE


def _cell(value: Any) -> Any:
    """A value as a table shows it: yes and no as words, a speed-up with its x."""
    if isinstance(value, bool):
        return "ok" if value else "no"
    return "–" if value is None else f"{value:.2f}x" if isinstance(value, float) else value
