"""mcp: the tools for coding agents, served over the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.output import LedgerPath, line, note
from epitaxy.errors import BadEnvironment, BadInput


def register(app: Any) -> None:
    """Add this group's commands; stdout is the protocol's, so that nothing is moved here."""
    app.command()(mcp)


def mcp(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Problems that the agent may work on."),
    ] = None,
    root: Annotated[
        Path, typer.Option("--root", help="Working folder: no path of the agent leads out of it.")
    ] = Path(),
    http: Annotated[
        int | None, typer.Option("--http", metavar="PORT", help="Serve HTTP on 127.0.0.1.")
    ] = None,
    any_problem: Annotated[
        bool,
        typer.Option(
            "--any-problem",
            help="Let the agent name any file below the folder: it is run with your rights.",
        ),
    ] = False,
    chip: Annotated[str, typer.Option("--chip", help="Chip; 'local' is this machine.")] = "local",
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="Judge so much at most: 20 candidates, or 30m; '20 in all' goes on counting "
            "where a server is started again on the same ledger.",
        ),
    ] = "",
    install: Annotated[
        str, typer.Option("--install", help="Configure a client: claude-code, codex or cursor.")
    ] = "",
    only_print: Annotated[
        bool, typer.Option("--print", help="With --install: say what would be written.")
    ] = False,
    ledger: LedgerPath = None,
) -> int:
    """Serve Epitaxy's tools to a coding agent over MCP (stdio), or set up a client for it."""
    from epitaxy.serve.allowance import Allowance, understood

    understood(budget)
    if install:
        from epitaxy.serve.install import Server, install_client

        wanted = Server(tuple(files or ()), root, any_problem, chip, ledger, budget)
        for text in install_client(install, wanted, only_print):
            line(text)
        return DONE
    if only_print:
        raise BadInput("--print goes with --install", "name a client: --install claude-code")
    try:
        from epitaxy.serve.server import serve
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.split(".")[0] in ("mcp", "pydantic", "anyio", "mcp_types"):
            raise BadEnvironment(
                "the mcp package is not installed", "pip install 'epitaxy[mcp]'"
            ) from None
        raise
    from epitaxy.serve.place import leave_path
    from epitaxy.serve.tools import Tools

    for place in leave_path(root):
        note(f"the agent's folder holds what this server runs ({place}): give another --root")
    allowed = Allowance.parse(budget, ledger)
    serve(Tools(list(files or ()), root, _machine(chip), ledger, any_problem, allowed), http)
    return DONE


def _machine(name: str) -> Any:
    if name == "local":
        from epitaxy.machine import open_machine as at_hand

        return at_hand(name)
    from epitaxy.commands.run import open_machine

    return open_machine(name)
