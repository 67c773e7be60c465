"""lint: whether a problem can judge anybody."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.output import Json, add, emit, line

REFUSED = 1


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, lint)


def lint(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="KernelBench-format file, or package.module:Class."),
    ],
    as_json: Json = False,
) -> int:
    """Say what a candidate could leave out of FILE and still pass; 1 when it can judge nobody."""
    from epitaxy.lint import lint as examine
    from epitaxy.problem import load

    problem = load(file)
    found = examine(problem)
    refused = any(f.severity == "refusal" for f in found)
    if as_json:
        emit(
            {
                "problem": problem.name,
                "digest": problem.digest,
                "refused": refused,
                "findings": [f.to_dict() for f in found],
            }
        )
        return REFUSED if refused else DONE
    for f in found:
        mend = f" — {f.mend}" if f.mend else ""
        line(f"{f.severity:<8} {f.check}: {f.message}{mend}")
    if not any(f.severity != "note" for f in found):
        line(f"{problem.name}: nothing to mend")
    return REFUSED if refused else DONE
