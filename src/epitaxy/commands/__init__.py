"""One file per group of commands; each parses arguments and hands over to the library."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from epitaxy import __version__


def _say_version(said: bool) -> None:
    if said:
        print(f"epitaxy {__version__}")
        raise typer.Exit


def _whole(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version."),
    ] = False,
) -> None:
    """What comes before a command."""


def command() -> Any:
    """The whole command line as one callable (typer's click command)."""
    from typer.main import get_command

    from epitaxy.commands import (
        comparing,
        diagnose,
        explore,
        facts,
        learning,
        ledger,
        lint,
        porting,
        profiling,
        records,
        search,
        serving,
        transcript,
    )

    app = typer.Typer(
        name="epitaxy",
        help="Grow, prove and measure the fastest kernel for a PyTorch module on the chip at hand.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_whole)
    for group in (
        search,
        facts,
        explore,
        comparing,
        porting,
        records,
        profiling,
        learning,
        ledger,
        lint,
        diagnose,
        serving,
        transcript,
    ):
        group.register(app)
    return get_command(app)
