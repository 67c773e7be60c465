"""Which machine this is: its CPU's model, the cores it lends, its memory."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

from epitaxy.compiler import cpu_flags
from epitaxy.record import digest_text

_CPUS = Path("/sys/devices/system/cpu")


def cpu_model() -> tuple[str, str]:
    """(vendor, model name) as the CPU tells them."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    vendors = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel", "0x41": "Arm", "0x61": "Apple"}
    vendor = fields.get("vendor_id", fields.get("CPU implementer", ""))
    numbers = [fields.get(k, "") for k in ("cpu family", "model", "CPU part")]
    parts = "/".join(n for n in numbers if n)
    name = fields.get("model name", platform.machine())
    return vendors.get(vendor, vendor or "unknown"), f"{name} ({parts})" if parts else name


def cpu_field(name: str) -> str:
    """A field of the first processor in /proc/cpuinfo; "" when there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    except OSError:
        pass
    return ""


def caches() -> dict[str, int]:
    """Bytes of the first processor's L1 (data), L2 and last-level cache (LLC), as far as the
    kernel tells: Documentation/ABI/testing/sysfs-devices-system-cpu."""
    found: dict[int, int] = {}
    for index in _CPUS.glob("cpu0/cache/index*"):
        try:
            kind, level, size = ((index / n).read_text().strip() for n in ("type", "level", "size"))
            if kind != "Instruction":
                found[int(level)] = int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    named = {f"L{level}": found[level] for level in (1, 2) if level in found}
    return {**named, "LLC": found[max(found)]} if found else {}


def core_cpus() -> tuple[int, ...]:
    """One CPU number per physical core that this process may use, within its CPU quota."""
    allowed = sorted(os.sched_getaffinity(0))
    seen: dict[str, int] = {}
    for cpu in allowed:
        try:
            key = (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
        except OSError:
            key = str(cpu)
        seen.setdefault(key, cpu)
    cpus = sorted(seen.values())
    return tuple(cpus[: max(1, min(len(cpus), math.floor(_quota())))])


def _quota() -> float:
    """CPUs that the container may use, by its control group; huge without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return 1e9 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return 1e9


def fingerprint() -> str:
    """Twelve characters for CPU model, cores and instruction sets: a moved disk is noticed."""
    vendor, model = cpu_model()
    return digest_text("\n".join((vendor, model, str(len(core_cpus())), *cpu_flags())))[:12]
