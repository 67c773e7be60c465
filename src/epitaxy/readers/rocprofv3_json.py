"""rocprofv3's results.json: agents, counters, kernels and dispatches.

Structure: ROCm, rocprofiler-sdk, tests/rocprofv3/counter-collection (validate.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _json, _rocprof

_ROOT = "rocprofiler-sdk-tool"
_AGENT = ("cu_count", "num_xcc", "simd_per_cu", "max_waves_per_simd")


class Rocprofv3Json:
    """rocprofv3's JSON."""

    name = "rocprofv3_json"
    what = "rocprofv3 --pmc COUNTERS --output-format json (results.json)"

    def recognises(self, report: Report) -> bool:
        """By its one key at the top."""
        return report.head.lstrip()[:200].startswith(b"{") and _ROOT.encode() in report.head[:200]

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each dispatch with counters. Raises BadInput."""
        found = _json.load(report)[_ROOT]
        tools = found if isinstance(found, list) else [found]
        return tuple(p for tool in tools for p in _dispatches(tool))


def plugin() -> Rocprofv3Json:
    """The reader."""
    return Rocprofv3Json()


def _dispatches(tool: Mapping[str, Any]) -> Iterator[Profile]:
    counters = {c["id"]["handle"]: c["name"] for c in tool["counters"]}
    kernels = {k["kernel_id"]: k for k in tool["kernel_symbols"] if k}
    agents = {a["id"]["handle"]: a for a in tool.get("agents", [])}
    for entry in tool["callback_records"]["counter_collection"]:
        data = entry["dispatch_data"]
        info = data["dispatch_info"]
        values: dict[str, float] = {}
        for one in entry["records"]:
            name = counters[one["counter_id"]["handle"]]
            values[name] = values.get(name, 0.0) + float(one["value"])
        kernel = kernels[info["kernel_id"]]
        agent = agents.get(info.get("agent_id", {}).get("handle"), {})
        yield _rocprof.profile(
            kernel.get("formatted_kernel_name") or kernel["kernel_name"],
            values,
            _attributes(entry, info, kernel) | _facts(agent),
            _rocprof.seconds(data.get("start_timestamp", 0), data.get("end_timestamp", 0)),
            str(agent.get("name", "")),
        )


def _attributes(entry: Any, info: Any, kernel: Any) -> dict[str, float]:
    found = {
        "Grid_Size": _volume(info.get("grid_size")),
        "Workgroup_Size": _volume(info.get("workgroup_size")),
        "LDS_Block_Size": info.get("group_segment_size"),
        "Scratch_Size": info.get("private_segment_size"),
        "VGPR_Count": entry.get("arch_vgpr_count", kernel.get("arch_vgpr_count")),
        "Accum_VGPR_Count": entry.get("accum_vgpr_count", kernel.get("accum_vgpr_count")),
        "SGPR_Count": entry.get("sgpr_count", kernel.get("sgpr_count")),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _facts(agent: Mapping[str, Any]) -> dict[str, float]:
    return {f"agent.{k}": float(agent[k]) for k in _AGENT if isinstance(agent.get(k), int)}


def _volume(size: Mapping[str, int] | None) -> float | None:
    return math.prod(size[axis] for axis in "xyz") if size else None
