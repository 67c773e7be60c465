"""Real-time priority for the moment of a burst, and rest between different workers' bursts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

WORKER_PRIORITY, BROKER_PRIORITY = 10, 20
LONGEST_S = 0.5
"""Longer bursts run at normal priority: real-time ones would starve the machine."""

CALM_ROUNDS = 100
"""A process that starts threads faster than they can be listed has little else to do."""
REST_POLL_S = 0.0002
LONG_WAIT_S = 30.0
"""On a busy machine a thread that is about to sleep may wait long for a processor to do it on."""
SETTLE_S = 0.0001
"""The scheduler moves threads when their priority changes; let it, before the clock starts."""


def permitted() -> bool:
    """Whether this process may use SCHED_FIFO."""
    try:
        before, level = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, before, level)
    except (OSError, AttributeError):
        return False
    return True


@contextlib.contextmanager
def priority(pid: int) -> Iterator[Callable[[], None]]:
    """SCHED_FIFO for all threads of `pid`, and above them for the calling thread.

    Dropped again right after, or by what this yields: PyTorch's idle threads spin for a while, and
    at real-time priority they would keep everyone else, the next worker included, from running.
    """
    before, level = os.sched_getscheduler(0), os.sched_getparam(0)
    _set(threads(pid), os.SCHED_FIFO, WORKER_PRIORITY)
    _set([0], os.SCHED_FIFO, BROKER_PRIORITY)
    time.sleep(SETTLE_S)
    try:
        yield lambda: _calm(pid)
    finally:
        _calm(pid)
        _set([0], before, level.sched_priority)


def _calm(pid: int) -> None:
    """No real-time priority for any thread of `pid`, also those born while this goes on."""
    calmed: set[int] = set()
    for _ in range(CALM_ROUNDS):
        born = set(threads(pid)) - calmed
        if not born:
            return
        _set(sorted(born), os.SCHED_OTHER, 0)
        calmed |= born


def threads(pid: int) -> list[int]:
    """The threads of `pid`; none when it has ended."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def processor_s(pid: int) -> float:
    """Processor time (s) of all threads of `pid` so far; 0 when it has ended.

    The kernel's clock of another process, to the nanosecond: clock_getcpuclockid(3).
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def at_rest(pid: int) -> bool:
    """Whether every thread of `pid` sleeps."""
    for thread in threads(pid):
        try:
            with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if state == b"R":
            return False
    return True


def wait_at_rest(pid: int, limit_s: float) -> float | None:
    """Wait until every thread of `pid` sleeps: seconds waited.

    None once it has used `limit_s` of processor time meanwhile, or after LONG_WAIT_S: on a busy
    machine a thread that would soon sleep may have to wait for long until it can.
    """
    start, used_s = time.monotonic(), processor_s(pid)
    while not at_rest(pid):
        if processor_s(pid) - used_s > limit_s or time.monotonic() - start > LONG_WAIT_S:
            return None
        time.sleep(REST_POLL_S)
    return time.monotonic() - start


def _set(tids: list[int], policy: int, level: int) -> None:
    for tid in tids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(tid, policy, os.sched_param(level))
