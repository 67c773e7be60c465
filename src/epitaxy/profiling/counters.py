"""Hardware counters: tried, and where there are none that is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

EVENTS = ("cycles", "instructions", "cache-misses", "branch-misses")


@dataclass(frozen=True)
class Counters:
    """Which of EVENTS can be counted here; `why` is not empty where none can."""

    usable: tuple[str, ...] = ()
    why: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


def try_counters() -> Counters:
    """Ask `perf stat` to count a process that does nothing. Never raises."""
    tool = shutil.which("perf")
    if tool is None:
        return Counters(why="perf is not installed: no hardware counter was read")
    command = [tool, "stat", "-j", "-e", ",".join(EVENTS), "--", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Counters(why=f"perf does not run: {error}")
    return read(done.stderr)


def read(text: str) -> Counters:
    """What `perf stat -j` says: one JSON document a line, the counter's value a string."""
    usable, refused = [], {}
    for line in text.splitlines():
        try:
            said = json.loads(line)
            name, value = str(said["event"]), str(said["counter-value"])
        except (ValueError, KeyError, TypeError):
            continue
        try:
            float(value)
            usable.append(name)
        except ValueError:
            refused[name] = value.strip("<>")
    if usable:
        return Counters(usable=tuple(usable), refused=refused)
    if not refused:
        first = next((x.strip() for x in text.splitlines() if x.strip()), "it says nothing")
        return Counters(why=f"perf stat counts nothing here: {first[:160]}")
    told = ", ".join(f"{name} {why}" for name, why in refused.items())
    return Counters(
        why=f"no hardware counters on this machine (perf stat: {told}), as on most virtual "
        "machines: timed ablations instead",
        refused=refused,
    )
