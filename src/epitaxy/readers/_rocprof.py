"""What the three formats of rocprofv3 share: a dispatch as a profile."""

from __future__ import annotations

import math
from collections.abc import Mapping

from epitaxy.metric import Metric, Profile

TARGETS = ("gfx942", "gfx950")
ATTRIBUTES = (
    "Grid_Size", "Workgroup_Size", "LDS_Block_Size", "Scratch_Size", "VGPR_Count",
    "Accum_VGPR_Count", "SGPR_Count",
)  # fmt: skip
"""What a dispatch is, by the names of rocprofv3's columns; sizes in work-items and bytes."""


def profile(
    kernel: str, counters: Mapping[str, float], attributes: Mapping[str, float],
    time_s: float | None, target: str = "",
) -> Profile:  # fmt: skip
    """One dispatch. `attributes` are those above and "agent.<fact>"; `target` is like gfx942."""
    metrics = [
        Metric(id=name, value=float(value), source="rocprofv3")
        for name, value in (*attributes.items(), *counters.items())
        if math.isfinite(value)
    ]
    if time_s:
        metrics.append(Metric(id="duration_s", value=time_s, unit="s", source="rocprofv3"))
    known = target in TARGETS or not target
    note = () if known else (f"{target}: the tables of metrics are those of {', '.join(TARGETS)}",)
    return Profile(
        kernel=kernel, family="amd", source="rocprofv3", chip=target if known else "",
        time_s=time_s, metrics=tuple({m.id: m for m in metrics}.values()), notes=note,
    )  # fmt: skip


def seconds(start_ns: float, end_ns: float) -> float | None:
    """The time between two timestamps (ns); None where they say nothing."""
    return (end_ns - start_ns) * 1e-9 if end_ns > start_ns > 0 else None
