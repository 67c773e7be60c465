"""What the processors do, by the kernel's own accounts: proc(5), /proc/stat and schedstat."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from epitaxy.machines._realtime import processor_s
from epitaxy.quiet import Activity

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def activity(pids: Iterable[int], ended_s: float) -> Activity | None:
    """The account so far of the processors that this process may use; None where there is none.

    `pids` are our own processes, the broker apart; `ended_s` is what those used that have ended.
    """
    try:
        with open("/proc/stat", encoding="ascii") as lines:
            busy, stolen, cores = read_stat(lines, os.sched_getaffinity(0))
    except (OSError, ValueError, AttributeError):
        return None
    own_s = time.process_time() + ended_s + sum(map(processor_s, pids))
    return Activity(
        wall_s=time.monotonic(), cores=cores, busy_s=busy / _TICKS_PER_S,
        stolen_s=stolen / _TICKS_PER_S, own_s=own_s,
    )  # fmt: skip


def read_stat(lines: Iterable[str], cpus: Iterable[int]) -> tuple[int, int, int]:
    """Ticks busy, ticks stolen and the number of `cpus` found, from the lines of /proc/stat.

    Busy is user, nice, system, irq and softirq; guests' time is part of user time. Raises
    ValueError when no processor is listed.
    """
    wanted = {f"cpu{cpu}" for cpu in cpus}
    busy = stolen = found = 0
    for line in lines:
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _, _, irq, softirq, *rest = map(int, fields)
            busy += user + nice + system + irq + softirq
            stolen += rest[0] if rest else 0
            found += 1
    if not found:
        raise ValueError("no processor is listed")
    return busy, stolen, found


def waits_s(pid: int) -> float:
    """Seconds that the threads of `pid` were ready to run and had no processor, so far.

    Linux, Documentation/scheduler/sched-stats: the second figure of schedstat, in nanoseconds.
    0 where the kernel does not say.
    """
    total = 0
    folder = f"/proc/{pid}/task"
    try:
        threads = os.listdir(folder)
    except OSError:
        return 0.0
    for thread in threads:
        try:
            file = os.open(f"{folder}/{thread}/schedstat", os.O_RDONLY)
        except OSError:
            continue
        try:
            total += int(os.read(file, 100).split()[1])
        except (OSError, IndexError, ValueError):
            continue
        finally:
            os.close(file)
    return total * 1e-9
