"""NVIDIA Nsight Compute: `ncu --csv` (pages raw and details) and .ncu-rep files.

Columns and units: NVIDIA, Nsight Compute CLI, options --csv, --page, --print-metric-name; the
module `ncu_report` that comes with it.
"""

from __future__ import annotations

import csv
import importlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from epitaxy import rulebook
from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.metric import Metric, Profile
from epitaxy.reader import Report
from epitaxy.readers import _numbers
from epitaxy.record import FrozenDict

TIME = "gpu__time_duration.sum"
RULES_COLUMN = "Rule Name"
LONGEST = 160
"""Characters shown of what one of ncu's own rules says."""
_HEADER = re.compile(r'^"?ID"?,"?(Process ID|Kernel Name)"?')
_ABOUT = {
    "ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Kernel Time", "Context",
    "Stream", "Block Size", "Grid Size", "Device", "CC", "Section Name", "Metric Name",
    "Metric Unit", "Metric Value", RULES_COLUMN, "Rule Type", "Rule Description",
    "Estimated Speedup Type", "Estimated Speedup", "Invocations",
}  # fmt: skip
_SIZES = {"Block Size": "launch__block_size", "Grid Size": "launch__grid_size"}
_PACKED = b"NVR\0"
_MEND = "ncu --import {path} --csv --page raw > report.csv, and name that"


class Ncu:
    """NVIDIA Nsight Compute: a .ncu-rep file, or what `ncu --csv` prints."""

    name = "ncu"
    what = "ncu --set full --csv --page raw"

    def recognises(self, report: Report) -> bool:
        """A header line of `ncu --csv`, after whatever the program itself printed; or .ncu-rep."""
        if _is_packed(report):
            return True
        return any(_HEADER.match(line) for line in report.first_lines)

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each launch. Raises BadInput; BadEnvironment without `ncu_report`."""
        if _is_packed(report):
            return tuple(_unpacked(report))
        rows = list(csv.reader(_table(report.text)))
        header = rows[0]
        if "Metric Name" in header:
            launches = _long(report, header, rows[1:])
        else:
            launches = _wide(report, header, rows[1:])
        return tuple(_profile(about, found, rules) for about, found, rules in launches)


def plugin() -> Ncu:
    """The reader."""
    return Ncu()


def _is_packed(report: Report) -> bool:
    return report.name.endswith(".ncu-rep") or report.head.startswith(_PACKED)


def _table(text: str) -> list[str]:
    """The lines from the header on, without ncu's own remarks (==PROF==)."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if _HEADER.match(line))
    return [x for x in lines[start:] if x.strip() and not x.startswith("==")]


Found = dict[str, tuple[str, str]]
"""Text and unit by metric name."""
Launch = tuple[Mapping[str, str], Found, list[str]]
"""What a launch is, its metrics, and what ncu's own rules say of it."""


def _wide(report: Report, header: list[str], rows: list[list[str]]) -> Iterator[Launch]:
    """The raw page: a row of units, then a row for each launch."""
    if not rows or rows[0][0].strip():
        raise BadInput(f"{report.path}: no row of units under the header", "use --page raw")
    units = dict(zip(header, rows[0], strict=False))
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise BadInput(
                f"{report.path}: launch {number} has {len(row)} of {len(header)} columns",
                "the file is cut off: import the report again",
            )
        cells = dict(zip(header, row, strict=True))
        found = {n: (v, units[n]) for n, v in cells.items() if n not in _ABOUT}
        yield cells, found, []


def _long(report: Report, header: list[str], rows: list[list[str]]) -> Iterator[Launch]:
    """The details page: a row for each metric of each launch; labels become names."""
    labels = rulebook.names("nvidia").labels
    launches: dict[str, Launch] = {}
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        if "Metric Value" not in cells:
            raise BadInput(f"{report.path}: a row is cut off", "import the report again")
        _, found, rules = launches.setdefault(cells["ID"], (cells, {}, []))
        name = cells["Metric Name"]
        if not name:
            rules.append(_rule(cells))
            continue
        name = labels.get(name, labels.get(f"{cells.get('Section Name', '')}/{name}", name))
        found[name] = (cells["Metric Value"], cells.get("Metric Unit", ""))
    yield from launches.values()


def _rule(cells: Mapping[str, str]) -> str:
    """What one of ncu's own rules says, in one line."""
    text = " ".join(cells.get("Rule Description", "").split())
    said = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    gain = cells.get("Estimated Speedup", "")
    return f"ncu's own rule {cells.get(RULES_COLUMN, '')}: {said}" + (
        f" (it estimates a gain of {gain} %)" if gain else ""
    )


def _profile(about: Mapping[str, str], found: Found, rules: Sequence[str] = ()) -> Profile:
    metrics: dict[str, Metric] = {}
    unreadable: dict[str, str] = {}
    for name, (text, unit) in found.items():
        value = _numbers.number(text)
        if value is None:
            if text.strip() and text.strip().lower() in ("n/a", "nan", "(!) n/a"):
                unreadable[name] = f"ncu says {text.strip()}"
            continue  # words such as a name of the device
        value, unit = _numbers.base(value, unit)
        metrics[name] = Metric(id=name, value=value, unit=unit, source="ncu")
    for column, name in _SIZES.items():
        if name not in metrics and about.get(column):
            threads = math.prod(int(n) for n in re.findall(r"\d+", about[column]))
            metrics[name] = Metric(id=name, value=threads, source="ncu")
    time = metrics.get(TIME)
    code = about.get("CC", "")
    return Profile(
        kernel=about.get("Kernel Name", ""), family="nvidia", source="ncu",
        chip=rulebook.names("nvidia").codes.get(code, ""), time_s=time.value if time else None,
        metrics=tuple(metrics.values()), unreadable=FrozenDict(unreadable),
        notes=(*_notes(code), *rules),
    )  # fmt: skip


def _notes(code: str) -> tuple[str, ...]:
    if not code or code in rulebook.names("nvidia").codes:
        return ()
    return (f"compute capability {code}: no table says which metrics exist there",)


def _unpacked(report: Report) -> Iterator[Profile]:
    """The launches of a .ncu-rep file, by NVIDIA's own module."""
    mend = _MEND.format(path=report.path)
    try:
        module: Any = importlib.import_module("ncu_report")
    except ImportError:
        raise BadEnvironment(
            f"{report.path} is packed, and NVIDIA's module ncu_report is not installed", mend
        ) from None
    try:
        context = module.load_report(str(report.path))
        for n in range(context.num_ranges()):
            part = context.range_by_idx(n)
            for k in range(part.num_actions()):
                yield _action(part.action_by_idx(k))
    except (RuntimeError, OSError, ValueError) as error:
        raise BadInput(f"ncu_report cannot read {report.path}: {error}", mend) from None


def _action(action: Any) -> Profile:
    found: Found = {}
    for name in action.metric_names():
        metric = action[name]
        value = metric.value()
        if isinstance(value, int | float):
            found[name] = (repr(float(value)), metric.unit() or "")
    major = found.get("device__attribute_compute_capability_major", ("", ""))[0]
    minor = found.get("device__attribute_compute_capability_minor", ("", ""))[0]
    code = f"{float(major):.0f}.{float(minor):.0f}" if major and minor else ""
    return _profile({"Kernel Name": action.name(), "CC": code}, found)
