"""`perf stat -j`: one JSON object a line, values as text.

Fields: Linux, tools/perf/Documentation/perf-stat.txt, JSON FORMAT.
"""

from __future__ import annotations

import json
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _perf

_KEYS = ('"counter-value"', '"metric-value"')


class PerfJson:
    """perf's JSON lines."""

    name = "perf_json"
    what = "perf stat -j -e EVENTS -M METRICS -o FILE -- PROGRAM"

    def recognises(self, report: Report) -> bool:
        """By a line with a counter's or a metric's value."""
        return any(x.startswith("{") and any(k in x for k in _KEYS) for x in report.first_lines)

    def read(self, report: Report) -> tuple[Profile, ...]:
        """One profile of the whole run. Raises BadInput."""
        rows = []
        for number, line in enumerate(report.text.splitlines(), 1):
            if line.startswith("{"):
                rows.append(_row(report, number, line))
        return (_perf.profile(report.path.stem, rows),)


def plugin() -> PerfJson:
    """The reader."""
    return PerfJson()


def _row(report: Report, number: int, line: str) -> _perf.Row:
    try:
        # A locale with decimal commas needs no care here: perf writes its JSON in the C locale.
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        raise BadInput(
            f"{report.path}: line {number} is no whole JSON object", "is it cut off? run it again"
        ) from None
    return _perf.Row(
        event=str(found.get("event", "")),
        value=str(found.get("counter-value", "")),
        unit=str(found.get("unit", "")),
        running=str(found.get("pcnt-running", "")),
        metric=str(found.get("metric-unit", "")),
        metric_value=str(found.get("metric-value", "")),
    )
