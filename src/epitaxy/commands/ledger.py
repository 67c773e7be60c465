"""ledger verify, show: whether anybody altered what was recorded; all that is kept of one."""

from __future__ import annotations

from typing import Annotated, Any

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
)
from epitaxy.errors import BadInput
from epitaxy.progress import milliseconds

BROKEN = 1
LEAST_DIGITS = 12
SHOWN = 20


def register(app: Any) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        name="ledger", help="Examine the store of everything judged.", no_args_is_help=True
    )
    group.callback()(lambda: None)
    add(group, verify, show)
    app.add_typer(group)


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="A candidate's id, or enough of it.")],
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Show every verdict and every profile that is kept of a candidate, oldest first."""
    from epitaxy.profiled import limits

    with open_ledger(ledger) as opened:
        it = opened.candidate(id)
        verdicts = [v for v in opened.verdicts(it.problem) if v.candidate == it.digest]
        profiles = opened.profiles(it.digest)[::-1]
    if as_json:
        kept = {"verdicts": verdicts, "profiles": profiles}
        rows = {k: [{"digest": r.digest, **r.to_dict()} for r in v] for k, v in kept.items()}
        emit({"candidate": it.digest, "problem": it.problem, **rows})
        return DONE
    line(f"candidate {it.id} by {it.proposer}: {it.intent}")
    judged = [
        (v.id, v.machine[:12], v.plan, v.status, _ratio(v.speedup) or v.reason) for v in verdicts
    ]
    print_table(("verdict", "machine", "plan", "status", "found"), judged)
    seen = [
        (p.id, p.machine[:12], milliseconds(p.profile.time_s), ", ".join(limits(p)))
        for p in profiles
    ]
    print_table(("profile", "machine", "time", "limited by"), seen)
    return DONE


def _ratio(speedup: float | None) -> str:
    return f"{speedup:.2f}x" if speedup else ""


def verify(
    ledger: LedgerPath = None,
    head: Annotated[
        str, typer.Option("--head", help="A head digest kept elsewhere; must be in the chain.")
    ] = "",
    as_json: Json = False,
) -> int:
    """Say whether every recorded row is unaltered, in its place and linked."""
    from epitaxy.ledger import Ledger

    head = head.strip().lower()
    if head and (len(head) < LEAST_DIGITS or set(head) - set("0123456789abcdef")):
        raise BadInput(f"{head!r} is no head digest", "give 12 or more hexadecimal digits")
    path = ledger or Ledger.default_path()
    if not path.is_file():
        raise BadInput(f"there is no ledger at {path}", "name another with --ledger")
    with open_ledger(path) as opened:
        found = opened.audit(head)
    if as_json:
        emit({"ledger": str(path), "intact": found.intact, **found.to_dict()})
    else:
        _say(str(path), found)
    return DONE if found.intact else BROKEN


def _say(path: str, found: Any) -> None:
    state = "intact" if found.intact else f"BROKEN, {len(found.faults)} faults"
    line(f"{path}: {state}; {found.rows} rows, {found.links} links")
    if found.adopted:
        line(f"{found.adopted} rows are older than the chain: nothing vouches for them before it")
    if found.faults:
        rows = [(f.number or "–", f.table, f.key[:12], f.what) for f in found.faults[:SHOWN]]
        print_table(("link", "table", "row", "what"), rows, "first fault first")
    line(f"head {found.head}")
    note("rows dropped from the end with their links show only against a head kept elsewhere")
