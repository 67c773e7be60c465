"""Rows of Neuron's table Summary, as profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epitaxy import rulebook
from epitaxy.metric import Metric, Profile
from epitaxy.record import FrozenDict

ENOUGH = 3
"""So many of the table's fields make a mapping a row of it."""


def is_row(value: Any) -> bool:
    """Whether it is a row of the table Summary."""
    known = rulebook.names("neuron").names
    return isinstance(value, Mapping) and sum(name in known for name in value) >= ENOUGH


def profile(row: Mapping[str, Any], name: str) -> Profile:
    """A row as a profile, numbers as they come."""
    known = rulebook.names("neuron").names
    metrics: list[Metric] = []
    unreadable: dict[str, str] = {}
    for field, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            if value is None:
                unreadable[field] = "empty"
            continue
        unit = known[field].unit if field in known else ""
        if value == value and abs(value) != float("inf"):
            metrics.append(Metric(id=field, value=float(value), unit=unit, source="neuron-profile"))
        else:
            unreadable[field] = str(value)
    time = next((m.value for m in metrics if m.id in ("total_time", "total_exec_time")), None)
    return Profile(
        kernel=name, family="neuron", source="neuron-profile", time_s=time,
        metrics=tuple(metrics), unreadable=FrozenDict(unreadable),
    )  # fmt: skip
