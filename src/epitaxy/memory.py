"""Main memory: how much of it is left here, and whether the system has run out of it."""

from __future__ import annotations

import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")
_UNBOUNDED = 1 << 62


def total_bytes() -> int:
    """All memory: the system's, or what this control group may take where that is less."""
    return min(_row("MemTotal", "SC_PHYS_PAGES"), _group("memory.max"))


def available_bytes() -> int:
    """Memory that can still be taken: the system's, or this control group's where that is less."""
    room = _group("memory.max") - _group("memory.current", 0)
    return max(0, min(_row("MemAvailable", "SC_AVPHYS_PAGES"), room))


def kills() -> int:
    """How many processes the system has ended so far because memory had run out; 0 where it does
    not tell.

    `oom_kill` of /proc/vmstat, see proc_vmstat(5): of the whole system and of control groups.
    """
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return 0


def _row(name: str, pages: str) -> int:
    """A line of /proc/meminfo in bytes; where there is none, the system's count of `pages`."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return int(rows[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages)


def _group(name: str, otherwise: int = _UNBOUNDED) -> int:
    """A number that the control group (version 2) tells of this container."""
    try:
        return int((_GROUP / name).read_text())
    except (OSError, ValueError):  # no such limit: the file is absent or says "max"
        return otherwise
