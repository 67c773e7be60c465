"""explore: controlled micro-experiments that confirm or refute what is said of this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from epitaxy.cli import DONE, NOTHING_ACCEPTED
from epitaxy.commands.output import Json, add, emit, note, print_table
from epitaxy.errors import BadInput


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, explore)


def explore(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|FILE.toml]...", help="Experiments; none: list them."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Run the whole catalogue.")] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Only build, and check what the compiler wrote.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Put hypotheses about this machine to the test; without names, list those known."""
    from epitaxy.experiments import catalogue, find

    if every and names:
        raise BadInput("--all and names at once", "give either")
    if not names and not every:
        return _list(as_json)
    chosen = list(catalogue()) if every else [find(name) for name in names or ()]
    return _run(chosen, build, as_json)


def _list(as_json: bool) -> int:
    from epitaxy.experiments import overview

    known = overview()
    if as_json:
        emit(known.to_dict())
        return DONE
    cells = [(e.name, e.needs or e.last or "not run", e.hypothesis) for e in known.catalogue]
    cells += [(r.name, r.verdict, f"{r.hypothesis} (from a file)") for r in known.results]
    print_table(("experiment", "here", "hypothesis"), cells)
    return DONE


def _run(experiments: list[Any], build: bool, as_json: bool) -> int:
    from epitaxy.experiments import check
    from epitaxy.experiments import explore as run
    from epitaxy.progress import Display

    results = []
    with Display("exploring this machine") as display:
        for number, experiment in enumerate(experiments):

            def step(fraction: float, text: str, done: int = number) -> None:
                display.step((done + fraction) / len(experiments), text)

            step(0.0, experiment.name)
            results.append(check(experiment) if build else run(experiment, progress=step))
    if as_json:
        emit([result.to_dict() for result in results])
    else:
        _show(results)
    failed = [r for r in results if r.verdict == "refused"]
    only = len(results) == 1 and not results[0].answered and not build
    return NOTHING_ACCEPTED if failed or only else DONE


def _show(results: list[Any]) -> None:
    rows = []
    for result in results:
        rows.append((result.name, result.verdict, result.why or result.effect))
        if result.found:
            rows.append(("", "", result.found))
    print_table(("experiment", "verdict", "time of a over time of b, 99 % interval"), rows)
    for text in dict.fromkeys(note_ for result in results for note_ in result.notes):
        note(text)
