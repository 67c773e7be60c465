"""transcript: what a language model and Epitaxy said to each other."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.output import Json, LedgerPath, add, emit, line, open_ledger


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, transcript)


def transcript(
    target: Annotated[
        str, typer.Argument(metavar="FILE_OR_ID", help="A problem's file or id, or a candidate's.")
    ],
    proposer: Annotated[str, typer.Option("--with", help="Who asked the model.")] = "agent",
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Print the conversations about a problem, on every machine, as Markdown."""
    from epitaxy.commands.recorded import recorded_problem
    from epitaxy.errors import BadInput
    from epitaxy.plugin import plugins
    from epitaxy.proposer import Asking

    it = plugins("proposers").get(proposer)
    if not isinstance(it, Asking):
        raise BadInput(f"{proposer} asks no model", "name a proposer that does: --with agent")
    with open_ledger(ledger) as store:
        problem = recorded_problem(store, target, {})
        notes = [b["body"] for k, _, b in store.events(problem.digest) if k == proposer]
    if not notes:
        raise BadInput(
            f"no model has been asked about {problem.name}", "run optimize --with agent first"
        )
    emit({"problem": problem.name, "notes": notes}) if as_json else line(it.transcript(notes))
    return DONE
