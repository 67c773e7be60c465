"""Cold caches: before a call, every core reads other data until nothing else can be left in them.

The broker does it between the command to prepare a call and the command to make it, outside the
clock, in the same way for every worker.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from pathlib import Path

CACHES = Path("/sys/devices/system/cpu")
UNKNOWN_BYTES = 64 << 20
"""A last level's size where the system does not say."""
TIMES_OVER = 2
"""How many times the size of the caches is read: replacement is not strictly by age."""
LEAST_BYTES = 4 << 20
"""What each core reads at least: more than any private cache."""
_FILL = 0xA5


def last_level_bytes(folder: Path, cpus: Sequence[int]) -> int:
    """Bytes of all last-level caches that `cpus` reach, each counted once.

    `folder` is laid out like /sys/devices/system/cpu (Linux, ABI/testing/sysfs-devices-system-cpu).
    """
    found: dict[tuple[int, str], int] = {}
    for cpu in cpus:
        levels = {}
        for index in (folder / f"cpu{cpu}" / "cache").glob("index*"):
            try:
                level = int((index / "level").read_text())
                shared = (index / "shared_cpu_list").read_text().strip()
                levels[level] = (shared, _bytes((index / "size").read_text()))
            except (OSError, ValueError):
                continue
        if levels:
            top = max(levels)
            found[top, levels[top][0]] = levels[top][1]
    return sum(found.values()) or UNKNOWN_BYTES


def _bytes(text: str) -> int:
    text = text.strip()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * unit


class Evictor:
    """Fills the caches of the cores that this process may use."""

    def __init__(self, folder: Path = CACHES) -> None:
        self.cpus = sorted(os.sched_getaffinity(0))
        size = TIMES_OVER * last_level_bytes(folder, self.cpus)
        self.share = max(LEAST_BYTES, -(-size // len(self.cpus)))
        self._memory = mmap.mmap(-1, self.share * len(self.cpus))
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        # Pages never written are all the same page of zeros, which evicts nothing.
        ctypes.memset(self._start, _FILL, len(self._memory))
        self._find = ctypes.CDLL(None).memchr
        self._find.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
        self._find.restype = ctypes.c_void_p

    def evict(self) -> list[int]:
        """Read each core's share on that core; the cores that have done so."""
        done: list[int] = []
        threads = [
            threading.Thread(target=self._read, args=(number, cpu, done))
            for number, cpu in enumerate(self.cpus)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(done)

    def _read(self, number: int, cpu: int, done: list[int]) -> None:
        os.sched_setaffinity(0, {cpu})
        # Looks for a byte that is not there; ctypes lets the other threads run meanwhile.
        if self._find(self._start + number * self.share, 0, self.share) is None:
            done.append(cpu)
