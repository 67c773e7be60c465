"""guide and knowledge: what is known of a chip, and what was learnt on problems like this one."""

from __future__ import annotations

from pathlib import Path
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
    write_text,
)
from epitaxy.errors import BadInput


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, guide, knowledge)


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


def knowledge(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[FILE|export|import]",
            help="A problem's file or recorded name; none: all lessons; or the two words.",
        ),
    ] = "",
    path: Annotated[
        str, typer.Argument(metavar="[JSONL]", help="The file to export to or import from.")
    ] = "",
    toolchain: Annotated[str, typer.Option("--toolchain", help="The toolchain at hand.")] = "",
    bottleneck: Annotated[
        str, typer.Option("--bottleneck", help="compute, memory: DRAM ... (default: the floor's).")
    ] = "",
    most: Annotated[int, typer.Option("--most", help="How many lessons at most.")] = 12,
    origin: Annotated[str, typer.Option("--origin", help="Who exports, in the file.")] = "",
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Say what was learnt on problems like FILE's, with evidence; or export and import it."""
    from epitaxy.commands.recorded import recorded_problem
    from epitaxy.knowledge import every, search

    if what in ("export", "import") and path:
        return (_export if what == "export" else _import)(Path(path), origin, ledger, as_json)
    if path:
        raise BadInput(f"{what!r} takes no second word", "use export or import before a file")
    with open_ledger(ledger) as store:
        known = every(store)
        if not what:
            kept = known[: max(0, most)]
            if len(kept) < len(known):
                note(f"{len(known) - len(kept)} more lessons: --most {len(known)}")
            return _say([row(one) for one in kept], as_json)
        problem = recorded_problem(store, what, {})
        found = search(
            problem, store, machine=_here(), toolchain=toolchain, bottleneck=bottleneck, most=most
        )
    note(f"{len(found)} of {len(known)} lessons; those of other kinds of problems are left out")
    return _say([row(f.lesson, f) for f in found], as_json)


def _here() -> Any:
    """This machine where it was measured; None else: a question is no reason to probe."""
    from epitaxy.plugin import plugins
    from epitaxy.probe import load_measured

    if load_measured() is None:
        note("this machine was never measured: what limits the problem here is not known")
        return None
    return plugins("machines").get("local")


def _export(path: Path, origin: str, ledger: Path | None, as_json: bool) -> int:
    from epitaxy.knowledge_files import export

    with open_ledger(ledger) as store:
        text = export(store, origin)
    write_text(path, text)
    count = text.count("\n") - 1
    emit({"export": str(path), "lessons": count}) if as_json else line(f"{path}: {count} lessons")
    return DONE


def _import(path: Path, origin: str, ledger: Path | None, as_json: bool) -> int:
    from epitaxy.knowledge_files import take_in

    if origin:
        raise BadInput("--origin is said at export", "leave it out: the file says its own")
    with open_ledger(ledger) as store:
        done = take_in(store, path)
    if as_json:
        emit(done.to_dict())
    else:
        line(f"{done.new} new lessons of {done.origin}; {done.known} were known")
    return DONE


def _say(rows: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        emit(rows)
    elif rows:
        names = ("like", "move", "effect", "operators", "where", "limit", "evidence")
        print_table(names, [[r[n] for n in names] for r in rows])
    else:
        note("nothing is known yet: lessons come from what epitaxy optimize and judge record")
    return DONE


def row(lesson: Any, found: Any = None) -> dict[str, Any]:
    """One lesson as a line of the table and of the JSON."""
    effect = f"{lesson.effect} {lesson.reason}".strip()
    if lesson.ratio is not None:
        effect = f"{lesson.effect} {lesson.ratio:.2f}x [{lesson.low:.2f}, {lesson.high:.2f}]"
    if lesson.times > 1 or lesson.contrary:
        effect += f", {lesson.times} of {lesson.times + lesson.contrary}"
    where = f"{lesson.toolchain} on {lesson.chip}"
    return {
        "like": f"{found.score:.2f}" if found else "",
        "move": lesson.move if lesson.kind != "win" else f"win, {lesson.move}",
        "effect": f"{effect} against {lesson.against}" if lesson.against else effect,
        "operators": ", ".join(lesson.touched or lesson.operators),
        "where": where + (f" (from {lesson.origin})" if lesson.origin else ""),
        "limit": lesson.bottleneck or "unknown",
        "evidence": lesson.evidence[:12],
        "parts": dict(found.parts) if found else {},
        "lesson": lesson.to_dict(),
    }
