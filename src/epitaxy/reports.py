"""Reports of any profiler, as profiles: the readers are asked which of them knows the format."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from epitaxy import rulebook
from epitaxy.chip import Chip
from epitaxy.errors import BadInput, PluginError, UnknownName
from epitaxy.metric import Profile
from epitaxy.plugin import plugins
from epitaxy.reader import Reader, Report

LONGEST = 240
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, csv.Error)
NAMED = 8
"""Kernels named in an error."""
_SHAPES = (("launch__grid_size", "launch__block_size"), ("Grid_Size", "Workgroup_Size"))


def load(path: Path, reader: str = "") -> tuple[Profile, ...]:
    """The kernels of a report, launches of the same kernel joined.

    `reader` names the format where two could be meant. Raises BadInput, UnknownName.
    """
    if not path.exists():
        raise BadInput(f"there is no {path}", "name a report that exists")
    report = Report(path)
    if not report.is_folder and not report.head.strip():
        raise BadInput(f"{path} is empty", "run the profiler again")
    found = plugins("readers").get(reader) if reader else recognised(report)
    if not found.recognises(report):
        raise BadInput(f"{path} is not what {reader} reads", f"it reads {found.what}")
    profiles = tuple(_known(p) for p in _read(found, report))
    if not profiles:
        raise BadInput(f"{path} holds no kernel", "profile a run that launches at least one")
    if not any(p.metrics for p in profiles):
        kept = sum(len(p.unreadable) for p in profiles)
        say = (
            f"{kept} names, none with a number"
            if kept
            else "times alone"
            if _timed(profiles)
            else ""
        )
        raise BadInput(
            f"{path}: no usable metric" + (f" ({say})" if say else ""), f"{found.what} writes them"
        )
    return joined(profiles)


def _read(reader: Reader, report: Report) -> tuple[Profile, ...]:
    """What the reader makes of it. Raises BadInput where a part is not as its format has it."""
    try:
        return reader.read(report)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        csv.Error,
    ) as error:
        raise BadInput(
            f"{report.path} is not as its profiler writes it: {error!r}"[:LONGEST],
            f"is it cut off? {reader.what} writes it",
        ) from error


def recognised(report: Report) -> Reader:
    """The one reader that knows the format. Raises BadInput with the formats that are known."""
    known = plugins("readers")
    found = [n for n in known.names() if known.get(n).recognises(report)]
    if len(found) > 1:
        raise BadInput(f"{report.path} could be {' or '.join(found)}", f"--reader {found[0]}")
    if not found:
        raise BadInput(
            f"{report.path} is no report that a reader knows", f"known: {', '.join(known.names())}"
        )
    reader: Reader = known.get(found[0])
    if reader.name != found[0]:
        raise PluginError(f"reader {found[0]!r} calls itself {reader.name!r}", "rename one")
    return reader


def joined(profiles: Sequence[Profile]) -> tuple[Profile, ...]:
    """Launches of the same kernel as one profile: their time together, the metrics of the launch
    of median time."""
    groups: dict[tuple[str, str], list[Profile]] = {}
    for profile in profiles:
        groups.setdefault((profile.kernel, _shape(profile)), []).append(profile)
    names = [kernel for kernel, _ in groups]
    return tuple(
        _join(f"{k} {shape}" if names.count(k) > 1 and shape else k, several)
        for (k, shape), several in groups.items()
    )


def only(profiles: Sequence[Profile], kernel: str) -> tuple[Profile, ...]:
    """Those whose kernel's name contains `kernel`. Raises UnknownName."""
    found = tuple(p for p in profiles if kernel in p.kernel)
    if not found:
        raise UnknownName.of("kernel", kernel, [p.kernel for p in profiles][:NAMED])
    return found


def on_chip(profiles: Sequence[Profile], chip: Chip) -> tuple[Profile, ...]:
    """The profiles, those that do not say their chip placed on this one.

    Raises BadInput where the report says another.
    """
    placed = []
    for profile in profiles:
        table = rulebook.names(profile.family)
        code = table.codes.get(_target(chip), "")
        if not {f"{chip.vendor} {chip.kind}", chip.kind} & set(table.vendors):
            raise BadInput(
                f"{chip.id} is no chip that {profile.source} reports on", "leave out --chip"
            )
        if profile.chip and code and profile.chip != code:
            raise BadInput(
                f"the report was taken on {profile.chip}, {chip.id} is {code}", "leave out --chip"
            )
        placed.append(profile if profile.chip else profile.replace(chip=code or chip.id))
    return tuple(placed)


def _target(chip: Chip) -> str:
    fact = chip.facts.get("target")
    return str(fact.value) if fact else chip.id


def _timed(profiles: Sequence[Profile]) -> bool:
    return any(p.time_s for p in profiles)


def _known(profile: Profile) -> Profile:
    """With the names listed that no table explains."""
    unknown = [m.id for m in profile.metrics if rulebook.find(profile.family, m.id) is None]
    return profile.replace(unknown=tuple(dict.fromkeys((*profile.unknown, *unknown))))


def _shape(profile: Profile) -> str:
    """What makes two launches of one kernel differ: grid and block."""
    values = profile.values
    for grid, block in _SHAPES:
        if grid in values and block in values:
            return f"[{values[grid]:.0f} x {values[block]:.0f}]"
    return ""


def _join(kernel: str, launches: list[Profile]) -> Profile:
    if len(launches) == 1:
        return launches[0].replace(kernel=kernel)
    times = [p.time_s for p in launches]
    if any(t is None for t in times):
        one, total = launches[0], None
    else:
        order = sorted(launches, key=lambda p: p.time_s or 0.0)
        one, total = order[(len(order) - 1) // 2], sum(t or 0.0 for t in times)
    calls = sum(p.calls for p in launches)
    note = f"{calls} launches: metrics of the one of median time"
    return one.replace(kernel=kernel, time_s=total, calls=calls, notes=(*one.notes, note))
