"""guide and knowledge: what is known of a chip, and what was learnt on problems like this one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.output import Json, add, emit, line, print_table


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, guide)


def guide(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[CHIP|TOOLCHAIN]",
            help="A chip, a toolchain or a guide; none: this machine's chip.",
        ),
    ] = "",
    toolchain: Annotated[
        str, typer.Option("--toolchain", help="Which of a chip's guides: cpp, triton_nvidia ...")
    ] = "",
    all_: Annotated[bool, typer.Option("--list", help="List the guides.")] = False,
    as_json: Json = False,
) -> int:
    """Print the performance guide of a chip and toolchain, with that chip's numbers filled in."""
    from epitaxy.guides import listing, read

    if all_:
        rows = listing()
        if as_json:
            emit(rows)
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        return DONE
    found = read(name, toolchain=toolchain)
    if as_json:
        emit(found.to_dict() | {"tokens": found.tokens})
    else:
        line(found.text)
    return DONE
