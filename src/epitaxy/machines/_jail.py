"""What a confined worker may read here, and how much it may take."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epitaxy.memory import available_bytes
from epitaxy.problem import Problem

CPU_S = 3600
LEAST_MEMORY_BYTES = 4 << 30
SHARE_OF_FREE = 90
"""Percent of the free memory that one candidate may take."""
LEAST_THREADS = 512


def jail(folder: str, problem: Problem, cpu_s: int = CPU_S) -> dict[str, Any]:
    """Arguments of `sandbox.confine` for a candidate built in `folder`. Nothing is writable."""
    wanted = LEAST_MEMORY_BYTES + 8 * problem.working_set_bytes
    room = max(available_bytes() * SHARE_OF_FREE // 100, 1 << 30)
    return {
        "read_only": [*readable(), folder],
        "writable": [],
        "limits": {
            "memory_bytes": min(wanted, room),
            "cpu_s": cpu_s,
            "threads": max(LEAST_THREADS, 4 * (os.cpu_count() or 1)),
        },
    }


def folders_of(packages: Iterable[str]) -> list[str]:
    """The folders that these installed packages lie in; none for one that is not installed."""
    specs = (importlib.util.find_spec(package) for package in packages)
    places = (place for spec in specs if spec for place in spec.submodule_search_locations or ())
    return sorted({str(Path(place).parent) for place in places})


@functools.cache
def readable() -> tuple[str, ...]:
    """Python, torch, the system's libraries and what they ask about the processor."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parents[1])}
    found |= set(folders_of(("torch", "numpy")))
    system = ("/usr", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/localtime")
    kernel = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system")
    devices = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
    return (*sorted(found - {"/"}), *system, *kernel, *devices)
