"""compare: one problem's floors, energy and kernels on several chips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.output import (
    Json,
    LedgerPath,
    add,
    emit,
    line,
    note,
    open_ledger,
    print_table,
    writable_folder,
    write_text,
)
from epitaxy.errors import BadEnvironment, BadInput

if TYPE_CHECKING:
    from epitaxy.chip import Chip
    from epitaxy.ledger import Ledger
    from epitaxy.problem import Problem
    from epitaxy.verdict import Verdict

LOCAL = "local"


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, compare)


def compare(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="KernelBench-format file, or package.module:Class."),
    ],
    chips: Annotated[
        str, typer.Option("--chips", help="Ids, aliases or prefixes; 'local' is this machine.")
    ] = "h100,mi300x,trainium2,tpu_v6e,local",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Arithmetic whose peak counts (default: the problem's).")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for compare.html, .md and .json.")
    ] = None,
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Say what FILE costs at best on each chip, and how our kernels there stand."""
    import json

    from epitaxy import compare as made
    from epitaxy.problem import ITEM_BYTES, load

    names = list(dict.fromkeys(n.strip() for n in chips.split(",") if n.strip()))
    if not names:
        raise BadInput("no chip is named", "give --chips h100,local; see: epitaxy chips")
    if dtype and dtype not in ITEM_BYTES:
        raise BadInput(f"unknown dtype {dtype!r}", f"use one of {', '.join(ITEM_BYTES)}")
    if out is not None:
        writable_folder(out)
    found = [_chip(name) for name in names]
    problem = load(file)
    with open_ledger(ledger) as store:
        standings = [made.standing(problem, c, dtype, _best(store, problem, c)) for c in found]
    document = {"problem": problem.name, "chips": [s.to_dict() for s in standings]}
    if as_json:
        emit(document)
    else:
        line(made.remark(problem))
        print_table(made.HEADER, made.rows(standings))
    if out is not None:
        write_text(out / "compare.json", json.dumps(document, indent=2))
        write_text(out / "compare.md", made.markdown(problem, standings))
        write_text(out / "compare.html", made.html(problem, standings))
        note(f"{out / 'compare.html'}")
    return DONE


def _chip(name: str) -> Chip:
    """The shipped chip, or this machine's as it was measured. Raises BadEnvironment."""
    from epitaxy.chip_facts import find
    from epitaxy.plugin import plugins

    if name != LOCAL:
        return find(name)
    local: Chip = plugins("machines").get(LOCAL).chip()
    if not local.measured:
        raise BadEnvironment(
            "this machine is not measured", "run: epitaxy probe, or leave local out"
        )
    return local


def _best(store: Ledger, problem: Problem, chip: Chip) -> Verdict | None:
    """The verdict on the best kernel for `chip` in the ledger; None where there is none."""
    from epitaxy.plugin import plugins
    from epitaxy.record import canonical, digest_text

    own = digest_text(canonical(plugins("machines").get(LOCAL).fingerprint()))
    found = []
    for candidate, verdict in store.judged(problem.digest):
        if not verdict.accepted:
            continue
        here = verdict.machine == own
        if here if chip.measured else store.machine(verdict.machine).get("chip") == chip.id:
            found.append((verdict.plan == "full", verdict.merit, candidate.digest, verdict))
    return max(found, default=(None,) * 4)[3]
