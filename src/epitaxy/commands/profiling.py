"""profile and disassemble: what one candidate does on this machine, and its hot loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.condition import Threads
from epitaxy.commands.output import (
    Json,
    LedgerPath,
    add,
    emit,
    line,
    note,
    open_ledger,
    print_table,
    stdout,
)

if TYPE_CHECKING:
    from epitaxy.candidate import Candidate
    from epitaxy.metric import Diagnosis
    from epitaxy.problem import Problem
    from epitaxy.profiling.profile import Measured
    from epitaxy.profiling.view import LoopView

Target = Annotated[
    str,
    typer.Argument(
        metavar="CANDIDATE", help="A recorded id, a folder with sources, or one C++ file."
    ),
]
ProblemFile = Annotated[
    str, typer.Option("--problem", help="KernelBench-format file (needed for sources).")
]


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, profile, disassemble)


def disassemble(
    candidate: Target,
    problem: ProblemFile = "",
    function: Annotated[
        str, typer.Option("--function", help="Look for the loop in this function only.")
    ] = "",
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Show a candidate's hot loop, instruction by instruction, with marks and source lines."""
    from epitaxy.profiling import view

    known, it = find(candidate, problem, ledger)
    shown = view.disassemble(it, known, cache(), function)
    if as_json:
        emit({"candidate": it.id, "problem": known.name, **shown.to_dict()})
    else:
        say(shown)
    return DONE


def find(target: str, file: str, ledger: Path | None) -> tuple[Problem, Candidate]:
    """A problem and the candidate for it that `target` names.

    Raises BadInput where sources come without their problem, BadCandidate, UnknownName.
    """
    from epitaxy.commands.rejudge import recorded
    from epitaxy.errors import BadInput
    from epitaxy.handmade import read_folder
    from epitaxy.problem import load
    from epitaxy.profiling.target import from_cpp

    path = Path(target)
    problem = load(file) if file else None
    if path.exists():
        if problem is None:
            raise BadInput(f"{target} are sources without their problem", "give --problem FILE")
        single = path.is_file() and path.suffix in (".cpp", ".cc")
        return problem, from_cpp(path, problem) if single else read_folder(path, problem)
    with open_ledger(ledger) as store:
        if problem is not None:
            return problem, recorded(store, target, problem)
        candidate = store.candidate(target)
        return store.problem(candidate.problem), candidate


def cache() -> Path:
    """Where builds are kept."""
    from epitaxy.ledger import Ledger

    return Ledger.default_path().parent / "build"


def say(shown: LoopView) -> None:
    """The loop on stdout: what it is, then its instructions with marks."""
    from rich.table import Table
    from rich.text import Text

    where = f" ({shown.source})" if shown.source else ""
    line(f"{shown.function}{where}: {shown.why}")
    line(shown.summary)
    for name in shown.others[:8]:
        line(f"also: {name}")
    if len(shown.others) > 8:
        line(f"and {len(shown.others) - 8} more loops")
    table = Table(box=None, pad_edge=False, show_header=False)
    for style in ("dim", "", "cyan", "dim"):
        table.add_column(style=style, overflow="fold")
    before = ""
    for one in shown.lines:
        code = f"{one.source}  {shown.code.get(one.source, '')}" if one.source != before else ""
        before = one.source
        cells = (f"{one.address:x}", one.text, ", ".join(one.marks), code.strip())
        table.add_row(*map(Text, cells))
    stdout().print(table)


def profile(
    candidate: Target,
    problem: ProblemFile = "",
    ablations: Annotated[
        str, typer.Option("--ablations", help="Only these, by comma, or all.")
    ] = "",
    threads: Threads = 0,
    ledger: LedgerPath = None,
    as_json: Json = False,
) -> int:
    """Measure what limits a candidate here: timed ablations, its hot loop, ranked bottlenecks.

    The profile is kept in the ledger, where `epitaxy show` finds it.
    """
    from epitaxy.commands.condition import apply
    from epitaxy.commands.run import open_machine
    from epitaxy.diagnose import diagnose
    from epitaxy.profiled import kept
    from epitaxy.profiling.profile import profile as examine

    known, it = find(candidate, problem, ledger)
    machine = apply(open_machine("cpu"), "warm", threads)
    _at_home(it, machine)
    names = [n.strip() for n in ablations.split(",") if n.strip()]
    found = examine(it, known, machine, ablations=names, tell=note)
    said = diagnose([found.profile])
    with open_ledger(ledger) as store:
        store.add_problem(known)
        store.add_candidate(it)
        store.add_machine(machine.fingerprint())
        store.add_profile(kept(found, it, machine))
    if as_json:
        emit(
            {"candidate": it.id, "problem": known.name, **found.to_dict(),
             "diagnosis": said.to_dict()}
        )  # fmt: skip
    else:
        say_profile(found, said)
    return DONE


def _at_home(candidate: Candidate, machine: Any) -> None:
    """Raises BadInput for kernels that are not for processors: here their reference would run."""
    from epitaxy.errors import BadInput
    from epitaxy.guards import Refused
    from epitaxy.onchip import at_home

    try:
        at_home(candidate.toolchain, machine)
    except Refused:
        raise BadInput(
            f"{candidate.toolchain} does not build for processors, and profiles are theirs",
            "take a report by the vendor's profiler and give it to: epitaxy diagnose",
        ) from None


def say_profile(found: Measured, said: Diagnosis) -> None:
    """The ablations as a table, then what the rules make of everything."""
    from epitaxy.commands.diagnose import show
    from epitaxy.profiling.ablations import CATALOGUE

    rows = [
        (CATALOGUE[n].says, f"{r.speedup:.2f}", f"{r.low:.2f} to {r.high:.2f}")
        for n, r in found.ablations.items()
    ]
    print_table(("the time", "times as long", "interval"), rows)
    for name, why in found.failed.items():
        line(f"not timed {CATALOGUE[name].says}: {why}")
    if found.loop is not None:
        line(f"hot loop: {found.loop.function} {found.loop.source} ({found.loop.why})")
        line(f"  {found.loop.summary}")
    if found.genome:
        line(f"genome: {found.genome}")
    line()
    show(said)
