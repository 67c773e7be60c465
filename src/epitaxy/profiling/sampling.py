"""Where a process is while it computes, by sampling the kernel's clock: no hardware counter needed.

The system call is perf_event_open(2) with the software event "cpu clock": it works in virtual
machines that hide the processor's counters. Where it is not permitted there are no samples, and
the reason is said.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SAMPLES_PER_S = 5000
PAGES = 64
"""Of the ring buffer of one thread: room for about 10,000 samples."""
_NUMBER = {"x86_64": 298, "aarch64": 241}
_SOFTWARE, _CPU_CLOCK, _IP, _TID = 1, 0, 1, 2
_DISABLED, _NO_KERNEL, _NO_HYPERVISOR, _FREQUENCY = 1, 1 << 5, 1 << 6, 1 << 10
_ENABLE, _DISABLE, _CLOEXEC, _SAMPLE, _IN_KERNEL = 0x2400, 0x2401, 8, 9, 1
_MAP = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \S+\s*(.*)$")
_PLACES = (
    ("kernel", re.compile(r"kernel-[0-9a-f]{12}\.so$")),
    ("waiting", re.compile(r"lib(?:gomp|omp|iomp5)[.-]")),
    ("math", re.compile(r"lib(?:m|mvec)[.-]")),
    ("memory", re.compile(r"libc[.-]")),
)
"""Whose code a file holds; the rest is PyTorch and Python."""
_WORK = ("kernel", "math", "memory")


@dataclass
class Seen:
    """Samples of one process: how many in each place, and for each thread.

    `hits` are addresses in the kernel's library, as its listing has them; `by_thread` counts what
    each thread does of the kernel's work. `why` says why there are no samples.
    """

    places: Counter[str] = field(default_factory=Counter)
    hits: list[int] = field(default_factory=list)
    by_thread: Counter[int] = field(default_factory=Counter)
    why: str = ""

    @property
    def total(self) -> int:
        """How many samples."""
        return sum(self.places.values())

    def figures(self, threads: int) -> dict[str, float]:
        """Shares of the samples by place, the threads that worked, and how unevenly: at least, by
        two standard errors of the counts.

        `threads` is how many there could be. {} without samples in the kernel.
        """
        inside = sum(self.by_thread.values())
        if not inside:
            return {}
        most = max(self.by_thread.values())
        active = sum(count >= 0.05 * most for count in self.by_thread.values())
        found = {f"{p}_share": self.places[p] / self.total for p in (*dict(_PLACES), "system")}
        return {
            **found,
            "samples": float(self.total),
            "threads": float(active),
            "imbalance": max(0.0, 1 - inside / max(threads, active) / most - 2 / inside**0.5),
        }


class Sampler:
    """Samples every thread that a process has now, while `watching`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen = Seen()

    @contextlib.contextmanager
    def watching(self) -> Iterator[Seen]:
        """Samples what runs in the block; what was seen is complete when the block ends."""
        rings = self._open()
        maps = _maps(self.pid)
        for descriptor, _, _ in rings:
            _ioctl(descriptor, _ENABLE)
        try:
            yield self.seen
        finally:
            for descriptor, _, _ in rings:
                _ioctl(descriptor, _DISABLE)
            for descriptor, thread, ring in rings:
                self._take(thread, _samples(ring), maps)
                ring.close()
                os.close(descriptor)

    def _open(self) -> list[tuple[int, int, mmap.mmap]]:
        found = []
        for name in sorted(os.listdir(f"/proc/{self.pid}/task")):
            descriptor = _event(int(name))
            if descriptor < 0:
                self.seen.why = f"perf_event_open: {os.strerror(-descriptor)}"
                continue
            try:
                ring = mmap.mmap(descriptor, (1 + PAGES) * mmap.PAGESIZE)
            except OSError as error:
                os.close(descriptor)
                self.seen.why = f"no memory for samples: {error.strerror}"
                continue
            found.append((descriptor, int(name), ring))
        return found

    def _take(self, thread: int, samples: Iterable[tuple[bool, int]], maps: list[_Mapped]) -> None:
        for in_kernel, address in samples:
            place, offset = ("system", 0) if in_kernel else _place(address, maps)
            self.seen.places[place] += 1
            if place == "kernel":
                self.seen.hits.append(offset)
            if place in _WORK:
                self.seen.by_thread[thread] += 1


@dataclass(frozen=True)
class _Mapped:
    start: int
    end: int
    base: int
    place: str


def _maps(pid: int) -> list[_Mapped]:
    """What lies where in a process; a file's addresses are relative to where it begins."""
    found: list[_Mapped] = []
    base, last = 0, ""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in lines.splitlines():
        match = _MAP.match(line)
        if not match:
            continue
        start, end, offset, path = int(match[1], 16), int(match[2], 16), int(match[4], 16), match[5]
        if path != last:
            base, last = start - offset, path
        if "x" in match[3]:
            name = os.path.basename(path)
            place = next((p for p, pattern in _PLACES if pattern.search(name)), "framework")
            found.append(_Mapped(start, end, base, place))
    return found


def _place(address: int, maps: list[_Mapped]) -> tuple[str, int]:
    for one in maps:
        if one.start <= address < one.end:
            return one.place, address - one.base
    return "framework", 0


def _event(thread: int) -> int:
    """A descriptor that samples one thread, the system's work included where that is allowed;
    minus the error's number."""
    number = _NUMBER.get(platform.machine())
    if number is None:
        return -38  # ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    error = 0
    for hidden in (0, _NO_KERNEL):
        flags = _DISABLED | _FREQUENCY | _NO_HYPERVISOR | hidden
        head = struct.pack(
            "<IIQQQQQII", _SOFTWARE, 72, _CPU_CLOCK, SAMPLES_PER_S, _IP | _TID, 0, flags, 0, 0
        )
        attributes = ctypes.create_string_buffer(head, 72)
        made = int(libc.syscall(number, attributes, thread, -1, -1, _CLOEXEC))
        if made >= 0:
            return made
        error = ctypes.get_errno()
    return -error


def _ioctl(descriptor: int, request: int) -> None:
    import fcntl

    fcntl.ioctl(descriptor, request, 0)


def _samples(ring: mmap.mmap) -> Iterator[tuple[bool, int]]:
    """(in the system, address) of each sample; the layout is that of perf_event_open(2)."""
    head = struct.unpack_from("<Q", ring, 1024)[0]
    size = PAGES * mmap.PAGESIZE
    data = ring[mmap.PAGESIZE : mmap.PAGESIZE + size]
    place = 0
    while place + 8 <= min(head, size):
        kind, misc, length = struct.unpack_from("<IHH", data, place)
        if length < 8:
            return
        if kind == _SAMPLE and place + 16 <= size:
            yield (misc & 7) == _IN_KERNEL, struct.unpack_from("<Q", data, place + 8)[0]
        place += length
