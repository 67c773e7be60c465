"""What both forms of `perf stat` share: rows of counters and of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from epitaxy.metric import Metric, Profile
from epitaxy.readers import _numbers
from epitaxy.record import FrozenDict

LEAST_RUNNING = 50.0
"""Below this share (%) of the time a counter was multiplexed away so much that it is said."""
_PMU = re.compile(r"^[\w-]+/([^/]+)/\w*$")
_TIMES = {"duration_time": 1e-9, "user_time": 1e-9, "system_time": 1e-9}


class Row(NamedTuple):
    """One line: a counter, and the metric that perf shows beside it, if any; all as text."""

    event: str
    value: str
    unit: str
    running: str
    metric: str
    metric_value: str


def profile(kernel: str, rows: Iterable[Row]) -> Profile:
    """One run under perf; counters that perf did not count are listed with the reason."""
    metrics: dict[str, Metric] = {}
    unreadable: dict[str, str] = {}
    notes: list[str] = []
    for row in rows:
        name = event(row.event)
        value = _numbers.number(row.value)
        if name and value is None and row.value:
            unreadable[name] = row.value.strip("<>")
        elif name and value is not None:
            found = _counter(name, value, row.unit)
            # A hybrid chip counts an event on each kind of core.
            before = metrics[name].value if name in metrics else 0.0
            metrics[name] = found.replace(value=found.value + before)
            running = _numbers.number(row.running)
            if running is not None and running < LEAST_RUNNING:
                notes.append(f"{name} was counted {running:.0f} % of the time, and scaled")
        metric = _metric(row)
        if metric is not None:
            metrics.setdefault(metric.id, metric)
    time = metrics.get("duration_time")
    return Profile(
        kernel=kernel, family="cpu", source="perf", time_s=time.value if time else None,
        metrics=tuple(metrics.values()), unreadable=FrozenDict(unreadable), notes=tuple(notes),
    )  # fmt: skip


def event(name: str) -> str:
    """The event without its unit (cpu/.../), and without :u, :k and the like."""
    inner = _PMU.match(name)
    return re.sub(r":[a-zA-Z]+$", "", inner[1] if inner else name)


def _counter(name: str, value: float, unit: str) -> Metric:
    if name in _TIMES:
        return Metric(id=name, value=value * _TIMES[name], unit="s", source="perf")
    if unit == "msec":
        return Metric(id=name, value=value * 1e-3, unit="s", source="perf")
    value, unit = _numbers.base(value, unit)
    return Metric(id=name, value=value, unit=unit, source="perf")


def _metric(row: Row) -> Metric | None:
    """A metric that perf names: "%  tma_retiring"; ratios without a name say nothing new."""
    value = _numbers.number(row.metric_value)
    unit, _, name = row.metric.strip().rpartition("  ")
    if value is None or not re.fullmatch(r"[a-z]\w*", name.strip() or "-"):
        return None
    unit = "%" if unit.strip().startswith("%") else unit.strip()
    return Metric(id=name.strip(), value=value, unit=unit, source="perf")
