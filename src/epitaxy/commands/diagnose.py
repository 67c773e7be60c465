"""diagnose: what limits the kernels of a profiler's report, and what to try."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epitaxy.cli import DONE
from epitaxy.commands.output import Json, add, emit, line, note, print_table
from epitaxy.record import printable

if TYPE_CHECKING:
    from epitaxy.metric import Bottleneck, Diagnosis, KernelDiagnosis, Unevaluated

SHOWN = 12
"""Names shown of a list; --json has them all."""
KERNELS = 8
LONGEST_NAME = 60


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, diagnose, readers)


def diagnose(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="A report of any profiler: `epitaxy readers`.")
    ],
    kernel: Annotated[
        str, typer.Option("--kernel", help="Only kernels whose name contains this.")
    ] = "",
    chip: Annotated[
        str, typer.Option("--chip", help="The chip, where the report does not say.")
    ] = "",
    reader: Annotated[str, typer.Option("--reader", help="The report's format by name.")] = "",
    as_json: Json = False,
) -> int:
    """Say what limits the kernels of a profiler's REPORT: evidence, gain, the move to try."""
    from epitaxy import reports
    from epitaxy.chip import find_chip
    from epitaxy.diagnose import diagnose as examine

    profiles = reports.load(report, reader)
    if kernel:
        profiles = reports.only(profiles, kernel)
    known = find_chip(chip) if chip else None
    if known is not None:
        profiles = reports.on_chip(profiles, known)
    found = examine(profiles, known)
    if as_json:
        emit(found.to_dict())
    else:
        show(found)
    return DONE


def readers(as_json: Json = False) -> int:
    """List the formats of reports that `diagnose` reads."""
    from epitaxy.plugin import plugins

    known = plugins("readers")
    rows = [(n, known.get(n).what) for n in known.names()]
    if as_json:
        emit([{"name": name, "what": what} for name, what in rows])
    else:
        print_table(("reader", "written by"), rows)
    return DONE


def show(found: Diagnosis) -> None:
    """A diagnosis on stdout: kernels, bottlenecks with their moves, and what was not asked."""
    _show_kernels(found)
    if found.bottlenecks:
        print_table(
            ("", "limit", "kernel's gain", "evidence"), [_row(found, f) for f in found.bottlenecks]
        )
        line()
        _show_moves(found.bottlenecks)
    else:
        line("no rule found anything; what could not be asked is below")
    for text in found.notes:
        note(text)
    for kernel in found.kernels[:KERNELS]:
        _show_rest(kernel)
    _show_unasked(found.kernels[:KERNELS])


def _show_moves(bottlenecks: Iterable[Bottleneck]) -> None:
    """What to try, once for each rule, with the numbers of its bottlenecks."""
    rules: dict[str, list[Bottleneck]] = {}
    for f in bottlenecks:
        rules.setdefault(f.rule, []).append(f)
    for several in rules.values():
        f = several[0]
        line(f"{', '.join(str(one.rank) for one in several)}. {f.limit}: {f.move}")
        line(f"   {_formula(f)}source: {f.source}")


def _show_kernels(found: Diagnosis) -> None:
    from epitaxy.progress import milliseconds

    rows = []
    for k in found.kernels[:KERNELS]:
        p = k.profile
        row = (p.calls, milliseconds(p.time_s), f"{100 * k.share:.0f} %", p.chip or p.family)
        rows.append((_short(p.kernel), *row, k.limit or "–"))
    print_table(("kernel", "launches", "time", "share", "chip", "limit"), rows)
    if len(found.kernels) > KERNELS:
        line(f"and {len(found.kernels) - KERNELS} kernels more (--json)")
    line()


def _row(found: Diagnosis, f: Bottleneck) -> tuple[str, str, str, str]:
    gain = "not published" if f.gain is None else f"{100 * f.gain:.0f} % of its time"
    several = f"{_short(f.kernel)}: " if len(found.kernels) > 1 else ""
    symptom = f" (a symptom of {', '.join(f.explained_by)})" if f.explained_by else ""
    return str(f.rank), f.limit, gain, f"{several}{f.says}{symptom}"


def _formula(f: Bottleneck) -> str:
    return "" if f.gain is None else f"gain: {f.formula}; "


def _show_rest(kernel: KernelDiagnosis) -> None:
    """What the reader should know was not looked at."""
    p = kernel.profile
    name = _short(p.kernel)
    for text in p.notes:
        note(f"{name}: {text}")
    for metric, why in kernel.misplaced.items():
        note(f"{name}: {metric} {why}")
    if p.unreadable:
        note(f"{name}: without a number: {_some(tuple(p.unreadable))}")
    if p.unknown:
        note(f"{name}: {len(p.unknown)} metrics that no table explains: {_some(p.unknown)}")


def _show_unasked(kernels: Iterable[KernelDiagnosis]) -> None:
    """Rules that could not be asked, once for all kernels that lack the same metrics."""
    groups: dict[tuple[Unevaluated, ...], list[str]] = {}
    for kernel in kernels:
        if kernel.unevaluated:
            groups.setdefault(kernel.unevaluated, []).append(_short(kernel.profile.kernel))
    for rules, names in groups.items():
        note(f"{', '.join(names[:SHOWN])}: {len(rules)} rules not evaluated")
        for u in rules[:SHOWN]:
            needs = f"needs {_some(u.needs)}" if u.needs else ""
            note(f"  {u.rule}: {'; '.join(t for t in (needs, u.why) if t)}")
        if len(rules) > SHOWN:
            note(f"  and {len(rules) - SHOWN} more (--json)")


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _short(name: str) -> str:
    plain = printable(name)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[: LONGEST_NAME - 1]}…"
