"""rocprofv3's counter_collection.csv: a row for each counter of each dispatch.

Columns: ROCm, ROCprofiler-SDK, "Using rocprofv3", kernel counter collection.
"""

from __future__ import annotations

import csv

from epitaxy.errors import BadInput
from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _numbers, _rocprof

_NEEDED = ("Dispatch_Id", "Kernel_Name", "Counter_Name", "Counter_Value")


class Rocprofv3Csv:
    """rocprofv3's CSV of counters."""

    name = "rocprofv3_csv"
    what = "rocprofv3 --pmc COUNTERS --output-format csv (counter_collection.csv)"

    def recognises(self, report: Report) -> bool:
        """By its header."""
        return bool(report.first_lines) and all(c in report.first_lines[0] for c in _NEEDED)

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each dispatch. Raises BadInput."""
        dispatches: dict[str, tuple[dict[str, str], dict[str, float]]] = {}
        for number, row in enumerate(csv.DictReader(report.text.splitlines()), 2):
            value = _numbers.number(row["Counter_Value"] or "")
            if value is None or None in row or not row["Kernel_Name"]:
                raise BadInput(
                    f"{report.path}: line {number} is no row of counters", "is it cut off?"
                )
            _, counters = dispatches.setdefault(row["Dispatch_Id"], (row, {}))
            # Instances of one counter (by die, channel ...) come as rows of their own.
            counters[row["Counter_Name"]] = counters.get(row["Counter_Name"], 0.0) + value
        return tuple(_profile(row, counters) for row, counters in dispatches.values())


def plugin() -> Rocprofv3Csv:
    """The reader."""
    return Rocprofv3Csv()


def _profile(row: dict[str, str], counters: dict[str, float]) -> Profile:
    found = {name: _numbers.number(row.get(name) or "") for name in _rocprof.ATTRIBUTES}
    attributes = {name: value for name, value in found.items() if value is not None}
    start, end = (_numbers.number(row.get(f"{n}_Timestamp") or "") or 0.0 for n in ("Start", "End"))
    return _rocprof.profile(row["Kernel_Name"], counters, attributes, _rocprof.seconds(start, end))
