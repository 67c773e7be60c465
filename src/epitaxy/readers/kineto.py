"""Kineto / torch.profiler: a Chrome trace, also packed (.json.gz).

Fields of a kernel's `args`: pytorch/kineto, libkineto/src/output_json.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from epitaxy import rulebook
from epitaxy.errors import BadInput
from epitaxy.metric import Metric, Profile
from epitaxy.reader import Report
from epitaxy.readers import _json

_KERNELS = ("kernel", "Kernel")
_COPIES = ("gpu_memcpy", "gpu_memset", "Memcpy", "Memset")
_LAUNCHES = ("cuda_runtime", "cuda_driver", "Runtime", "hip_runtime")
_NVIDIA = {
    "registers per thread": "launch__registers_per_thread",
    "blocks per SM": "trace.blocks_per_sm",
    "warps per SM": "trace.warps_per_sm",
    "est. achieved occupancy %": "trace.est_achieved_occupancy_pct",
    "shared memory": "launch__shared_mem_per_block",
}
WHOLE = "(whole trace)"


class Kineto:
    """PyTorch's profiler."""

    name = "kineto"
    what = "torch.profiler.profile(...).export_chrome_trace(FILE)"

    def recognises(self, report: Report) -> bool:
        """A JSON document with `traceEvents`."""
        head = report.head.lstrip()
        named = b'"traceEvents"' in head or b'"deviceProperties"' in head
        return head.startswith(b"{") and (named or b'"schemaVersion"' in head[:200])

    def read(self, report: Report) -> tuple[Profile, ...]:
        """The whole trace, and a profile for each kernel launch. Raises BadInput."""
        trace = _json.load(report)
        events = trace.get("traceEvents") if isinstance(trace, dict) else None
        if not isinstance(events, list):
            raise BadInput(
                f"{report.path} holds no traceEvents", "export it with export_chrome_trace"
            )
        timed = [e for e in events if isinstance(e, dict) and e.get("ph") == "X" and "dur" in e]
        device: Mapping[str, Any] = next(iter(trace.get("deviceProperties") or []), {})
        return _profiles(report, timed, device)


def plugin() -> Kineto:
    """The reader."""
    return Kineto()


def _profiles(
    report: Report, events: Sequence[Mapping[str, Any]], device: Mapping[str, Any]
) -> tuple[Profile, ...]:
    kernels = [e for e in events if e.get("cat") in _KERNELS]
    if not kernels:
        operators = sum(e.get("cat") in ("cpu_op", "Operator") for e in events)
        raise BadInput(
            f"{report.path}: {operators} operators of the CPU and no GPU kernel",
            "a trace has times alone for a CPU: use perf stat -j, or epitaxy profile",
        )
    family = "amd" if _is_amd(device) else "nvidia"
    code = f"{device.get('computeMajor', '')}.{device.get('computeMinor', '')}"
    chip = "" if family == "amd" else rulebook.names("nvidia").codes.get(code, "")
    copies = [e for e in events if e.get("cat") in _COPIES]
    launches = [e for e in events if e.get("cat") in _LAUNCHES and "aunch" in str(e.get("name"))]
    times = _whole(kernels, copies, launches)
    span_s = next(m.value for m in times if m.id == "trace.span_s")
    whole = Profile(
        kernel=WHOLE, family=family, source="kineto", chip=chip, time_s=span_s, metrics=times,
        whole=True,
    )  # fmt: skip
    return (whole, *(_kernel(g, family, chip, device) for g in _launches(kernels)))


def _launches(kernels: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Launches of the same kernel and shape together: a trace has hundreds of thousands."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for event in kernels:
        args = event.get("args") or {}
        shape = tuple(args.get("grid") or ()), tuple(args.get("block") or ())
        groups.setdefault((str(event.get("name", "")), *shape), []).append(event)
    return list(groups.values())


def _is_amd(device: Mapping[str, Any]) -> bool:
    name = str(device.get("name", "")).lower()
    return "amd" in name or "instinct" in name or "radeon" in name


def _whole(
    kernels: Sequence[Mapping[str, Any]], copies: Sequence[Mapping[str, Any]],
    launches: Sequence[Mapping[str, Any]],
) -> tuple[Metric, ...]:  # fmt: skip
    """Shares of the time from the first kernel's start to the last one's end."""
    both = [*kernels, *copies]
    start = min(float(e["ts"]) for e in both)
    span = max(float(e["ts"]) + float(e["dur"]) for e in both) - start
    times = sorted(float(e["dur"]) for e in kernels)
    found = {
        "trace.kernels": (float(len(kernels)), ""),
        "trace.median_kernel_s": (times[len(times) // 2] * 1e-6, "s"),
        "trace.span_s": (span * 1e-6, "s"),
    }
    if span > 0:
        found["trace.busy_share"] = (_covered(both) / span, "")
        found["trace.copy_share"] = ((_covered(both) - _covered(kernels)) / span, "")
    if launches:
        spent = sorted(float(e["dur"]) for e in launches)
        found["trace.median_launch_s"] = (spent[len(spent) // 2] * 1e-6, "s")
    return tuple(
        Metric(id=name, value=value, unit=unit, source="kineto")
        for name, (value, unit) in found.items()
    )


def _covered(events: Iterable[Mapping[str, Any]]) -> float:
    """The time (µs) in which at least one of them runs."""
    total, end = 0.0, -math.inf
    for start, stop in sorted((float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in events):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _kernel(
    events: Sequence[Mapping[str, Any]], family: str, chip: str, device: Mapping[str, Any]
) -> Profile:
    """All launches of a kernel in one shape, with what the first one says of it."""
    args = events[0].get("args") or {}
    found: dict[str, float] = {}
    sizes = {k: math.prod(args[k]) for k in ("grid", "block") if args.get(k)}
    if family == "nvidia":
        found |= {n: float(args[k]) for k, n in _NVIDIA.items() if k in args}
        found |= {f"launch__{k}_size": float(v) for k, v in sizes.items()}
        if "numSms" in device:
            found["launch__sm_count"] = float(device["numSms"])
    elif len(sizes) == 2:
        found["Workgroup_Size"] = float(sizes["block"])
        found["Grid_Size"] = float(sizes["block"] * sizes["grid"])
        if "numSms" in device:
            found["agent.cu_count"] = float(device["numSms"])
    return Profile(
        kernel=str(events[0].get("name", "")), family=family, source="kineto", chip=chip,
        time_s=sum(float(e["dur"]) for e in events) * 1e-6, calls=len(events),
        metrics=tuple(Metric(id=n, value=v, source="kineto") for n, v in found.items()),
    )  # fmt: skip
