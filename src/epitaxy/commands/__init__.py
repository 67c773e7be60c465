"""One file per group of commands; each parses arguments and hands over to the library."""

from __future__ import annotations

from typing import Any


def command() -> Any:
    """The whole command line as one callable (typer's click command)."""
    import typer
    from typer.main import get_command

    from epitaxy.commands import facts, ledger, lint, records, search

    app = typer.Typer(
        name="epitaxy",
        help="Grow, prove and measure the fastest kernel for a PyTorch module on the chip at hand.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for group in (search, facts, records, ledger, lint):
        group.register(app)
    return get_command(app)
