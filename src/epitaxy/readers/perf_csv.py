"""`perf stat -x,`: value, unit, event, run time, share of it, metric's value, metric's unit.

Fields: Linux, tools/perf/Documentation/perf-stat.txt, CSV FORMAT.
"""

from __future__ import annotations

import csv
import re

from epitaxy.errors import BadInput
from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _perf

_LINE = re.compile(
    r"(\d[\d.]*|<not (counted|supported)>)([,;])([^,;]*)\3([A-Za-z][^,;]*)\3\d+\3\d+(?:[.]\d*)?\3"
)
FIELDS = 7


class PerfCsv:
    """perf's CSV."""

    name = "perf_csv"
    what = "perf stat -x, -e EVENTS -M METRICS -o FILE -- PROGRAM"

    def recognises(self, report: Report) -> bool:
        """By a line of a counter: value, unit, event, run time, share."""
        return any(_LINE.match(line) for line in report.first_lines)

    def read(self, report: Report) -> tuple[Profile, ...]:
        """One profile of the whole run. Raises BadInput."""
        lines = [x for x in report.text.splitlines() if x.strip() and not x.startswith("#")]
        mark = next(m[3] for m in map(_LINE.match, lines) if m)
        rows = []
        for number, cells in enumerate(csv.reader(lines, delimiter=mark), 1):
            # Further metrics of the counter above come as lines without a counter of their own.
            cells = [*cells, *[""] * (FIELDS - len(cells))]
            if not any(cells):
                raise BadInput(f"{report.path}: line {number} is empty", "run perf again")
            value, unit, event, _, running, metric_value, metric = cells[:FIELDS]
            rows.append(_perf.Row(event, value, unit, running, metric, metric_value))
        return (_perf.profile(report.path.stem, rows),)


def plugin() -> PerfCsv:
    """The reader."""
    return PerfCsv()
