"""port: a kernel grown again for another language and chip, side by side with the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from epitaxy.cli import DONE, NOTHING_ACCEPTED
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


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, port)


def port(
    kernel: Annotated[
        str,
        typer.Argument(metavar="KERNEL", help="A candidate's id, an exported folder or a source."),
    ],
    to: Annotated[str, typer.Option("--to", help="Toolchain to port to: triton-amd, cpp ...")],
    source: Annotated[
        str, typer.Option("--from", help="Toolchain of the original (needed for sources alone).")
    ] = "",
    chip: Annotated[
        str, typer.Option("--chip", help="Chip to port to (default: the toolchain's usual one).")
    ] = "",
    from_chip: Annotated[
        str, typer.Option("--from-chip", help="Chip that the original is for.")
    ] = "",
    problem: Annotated[
        str, typer.Option("--problem", help="What the original computes: its reference.")
    ] = "",
    budget: Annotated[
        str, typer.Option("--budget", help="90s, 2m, or a number of candidates to judge.")
    ] = "4",
    baselines: Annotated[
        str,
        typer.Option("--baselines", help="What a port is timed against: eager,compile or all."),
    ] = "all",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for port.html, port.json and the export.")
    ] = None,
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Grow KERNEL's problem again for another language and chip, and set both side by side."""
    from epitaxy import port as report
    from epitaxy import porting
    from epitaxy.commands.run import measure_chip
    from epitaxy.plugin import plugins
    from epitaxy.progress import Display
    from epitaxy.study import Budget

    Budget.parse(budget)
    against = None if baselines == "all" else [n.strip() for n in baselines.split(",")]
    for name in against or ():
        plugins("baselines").get(name.partition("+")[0])  # an unknown name is said at once
    target = porting.toolchain_named(to)
    porting.writer_of(target)
    wanted = porting.chip_for(target, chip)
    if out is not None:
        writable_folder(out)
    with open_ledger(ledger) as store:
        original = porting.read_original(
            kernel, store, problem=problem, toolchain=source, chip=from_chip
        )
        porting.machine_for(target, wanted)  # what is missing is said before anything slow
        with Display(original.problem.name) as display:
            original = porting.judge_original(original, store, against)
            machine = porting.machine_for(target, wanted)
            measure_chip(machine, display)
            show: Any = display
            moved = porting.port(
                original, target, machine, ledger=store, budget=budget, baselines=against,
                callbacks=[show],
            )  # fmt: skip
    emit(report.to_dict(moved)) if as_json else _print(moved)
    if out is not None:
        _leave(moved, out)
    return DONE if moved.best is not None else NOTHING_ACCEPTED


def _print(moved: Any) -> None:
    from epitaxy import port as report

    left, right = report.sides(moved)
    line(report.headline(moved))
    line(report.moving(moved))
    line()
    print_table(("", "original", "port"), report.rows(moved, every=False))
    line()
    if moved.carried:
        print_table(report.CARRY_HEADER, report.carried_rows(moved), "what was carried over")
    for who, side in (("original", left), ("port", right)):
        for said in side.notes:
            line(f"{who}: {said}")


def _leave(moved: Any, out: Path) -> None:
    """Write page, data and, where something was accepted, the port itself."""
    import json

    from epitaxy import port as report
    from epitaxy.exporting import built
    from epitaxy.product import export

    write_text(out / "port.json", json.dumps(report.to_dict(moved), indent=2))
    write_text(out / "port.html", report.html(moved))
    note(f"{out / 'port.html'}")
    if moved.best is not None:
        candidate, verdict = moved.best
        build = built(candidate, moved.original.problem, moved.chip)
        note(str(export(candidate, verdict, moved.original.problem, out / "export", build)))
