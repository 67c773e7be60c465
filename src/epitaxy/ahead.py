"""What is done ahead: baselines, at once what only compiles, alone what tunes itself by its own
times; and compilers that yield to what is timed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from epitaxy.errors import UnknownName
from epitaxy.plugin import plugins

AT_ONCE = 3
"""Baselines that are compiled at the same time."""


def prepare(names: Sequence[str], one: Callable[[str], None]) -> None:
    """Call `one` for each baseline; raises what the first that fails raises.

    Those of one kind follow each other: the second finds in a cache what the first compiled.
    """
    kinds: dict[str, list[str]] = {}
    for name in names:
        if not _alone(name):
            kinds.setdefault(name.partition("+")[0], []).append(name)

    interrupted = threading.Event()

    def follow(some: Sequence[str]) -> None:
        for name in some:
            if not interrupted.is_set():
                one(name)

    pool = ThreadPoolExecutor(max_workers=AT_ONCE)
    try:
        for done in [pool.submit(follow, some) for some in kinds.values()]:
            done.result()
    except BaseException:
        interrupted.set()  # the processes end with the judge, and with them who waits for them
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    follow([name for name in names if _alone(name)])


def yield_to_timing() -> None:
    """Only idle processor time for this thread and the compilers that it starts."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))


def _alone(name: str) -> bool:
    """Whether a baseline tunes itself, which the work of others would mislead."""
    try:
        return bool(getattr(plugins("baselines").get(name.partition("+")[0]), "alone", False))
    except UnknownName:
        return False
