"""One fresh, confined process that holds both kernels of an experiment, timed from outside."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import statistics
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epitaxy import sandbox
from epitaxy.errors import MachineFault
from epitaxy.machines import _activity, _realtime
from epitaxy.record import printable
from epitaxy.timing import now_s

A, B = 0, 1
_PREPARE, _RUN, _SHOW, _WAKE = 1, 2, 3, 4
_ORDER = struct.Struct("<II QQQ QQQQQ d i 4x Q")
"""`Order` of driver.h: its Job's addresses are sent as zeros."""
_CHILD = Path(__file__).with_name("child.py")
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/self", "/proc/cpuinfo",
    "/sys/devices/system",
)  # fmt: skip
UNIT_S, MOST_CALLS, TRIALS = 1e-4, 1 << 20, 5
START_S, ANSWER_S, NULL_BURSTS = 60.0, 20.0, 15
_TAIL_BYTES = 400


class Failed(Exception):
    """A kernel crashed, hung or spoke out of turn: the pair is refused."""


@dataclass(frozen=True)
class Point:
    """One point of a sweep: bytes of the sets, the swept value, threads and kinds of pages."""

    size: int
    x: float
    out_bytes: int
    in_bytes: int
    threads: int = 1
    huge: tuple[bool, bool] = (True, True)

    @property
    def memory_bytes(self) -> int:
        """What a process needs, its copies of the outputs included."""
        sets = 1 if self.huge[0] == self.huge[1] else 2
        return sets * (self.in_bytes + 2 * self.out_bytes)


class Pair:
    """A process with both kernels, prepared for one point. Close it."""

    def __init__(self, library: Path, point: Point, seed: int, confined: bool = True) -> None:
        self.waited_s = self._overhead_s = -1.0
        self._sequence = 0
        self._call_s = [0.0, 0.0]
        self._realtime = _realtime.permitted()
        self._log = os.memfd_create("epitaxy-explore-log")
        self._shared = os.memfd_create("epitaxy-explore-out")
        os.ftruncate(self._shared, max(point.out_bytes, 1))
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        jail = json.dumps(_jail(library, point)) if confined else ""
        command = [sys.executable, "-I", "-S", str(_CHILD), str(library)]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self._shared), jail],
                env=_environment(point.threads), cwd="/", stdin=subprocess.DEVNULL,
                stdout=self._log, stderr=self._log, start_new_session=True,
                pass_fds=[theirs.fileno(), self._shared],
            )  # fmt: skip
        try:
            self._memory = mmap.mmap(self._shared, max(point.out_bytes, 1))
            self._point = point
            for variant in (A, B):
                self._ask(_PREPARE, variant, 0, START_S, seed=seed)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def overhead_s(self) -> float:
        """Seconds that an order to do nothing takes."""
        if self._overhead_s < 0:
            self._overhead_s = statistics.median(self.run(A, 0) for _ in range(NULL_BURSTS))
        return self._overhead_s

    def run(self, variant: int, count: int) -> float:
        """Seconds for `count` calls of a kernel, `overhead_s` included. Raises Failed."""
        expected_s = self._call_s[variant] * count
        short = self._realtime and 0 < expected_s < _realtime.LONGEST_S
        pid = self.pid
        with _realtime.priority(pid) if short else contextlib.nullcontext() as calm:
            if self._point.threads > 1:
                self._ask(_WAKE, variant, 0, ANSWER_S)  # else they sleep, and their core too
            waited_s = _activity.waits_s(pid)
            seconds = self._ask(_RUN, variant, count, ANSWER_S + 4 * expected_s, calm=calm)
            self.waited_s = max(0.0, _activity.waits_s(pid) - waited_s)
        if count:
            self._call_s[variant] = max(seconds / count, 1e-9)
        return seconds

    def output(self, variant: int, poison: int) -> bytes:
        """What one call writes over `out_bytes` bytes of `poison`. Raises Failed."""
        self._ask(_SHOW, variant, poison, ANSWER_S)
        return self._memory[: self._point.out_bytes]

    def close(self) -> None:
        """End the process, at once and surely."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
        for descriptor in (self._log, self._shared):
            os.close(descriptor)
        if hasattr(self, "_memory"):
            self._memory.close()

    def _ask(
        self, op: int, variant: int, count: int, limit_s: float, *,
        seed: int = 0, calm: Callable[[], None] | None = None,
    ) -> float:  # fmt: skip
        """Seconds from an order to its answer. `calm` takes the priority from a burst that lasts
        longer than was expected: its threads might starve one another."""
        self._sequence += 1
        point = self._point
        order = _ORDER.pack(
            op, variant, self._sequence, count, point.huge[variant],
            0, point.out_bytes, 0, point.in_bytes, point.size, point.x, point.threads, seed,
        )  # fmt: skip
        self._channel.settimeout(_realtime.LONGEST_S if calm else limit_s)
        try:
            start = now_s()
            self._channel.send(order)
            try:
                answer = self._channel.recv(64)
            except TimeoutError:
                if calm is None:
                    raise
                calm()
                self._channel.settimeout(limit_s)
                answer = self._channel.recv(64)
            seconds = now_s() - start
        except TimeoutError:
            raise Failed(f"kernel {'ab'[variant]} gave no answer in {limit_s:.0f} s") from None
        except OSError:
            answer, seconds = b"", 0.0
        if answer != struct.pack("<Q", self._sequence):
            raise self._lost(variant, bool(answer))
        return seconds

    def _lost(self, variant: int, spoke: bool) -> Exception:
        if spoke:
            return Failed(f"kernel {'ab'[variant]} spoke on the broker's channel")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        raw = os.pread(self._log, 1 << 16, 0)[-_TAIL_BYTES:]
        said = " ".join(printable(raw.decode(errors="replace")).split())
        code = self._process.returncode
        if self._sequence == 1 and code == 1:  # Python's own: it never got to the kernels
            return MachineFault(f"an experiment did not start: {said}", "run: epitaxy doctor")
        how = f"died of signal {-code}" if code and code < 0 else f"ended with status {code}"
        return Failed(f"kernel {'ab'[variant]} {how}{': ' if said else ''}{said}")


class Timed:
    """One kernel of a pair, as `timing.interleave` takes it: one of its calls is `scale` calls of
    the kernel, enough to last UNIT_S."""

    def __init__(self, pair: Pair, variant: int) -> None:
        self.pair, self.variant = pair, variant
        self.overhead_s = pair.overhead_s
        self.waited_s = 0.0
        self.scale = 1
        pair.run(variant, 1)  # what is only so at the first call is not to be timed
        while self.scale < MOST_CALLS:
            unit_s = min(pair.run(variant, self.scale) for _ in range(TRIALS)) - self.overhead_s
            if unit_s > UNIT_S:
                break
            self.scale *= 2

    def burst(self, slots: Sequence[int]) -> float:
        """Seconds for `scale` calls per slot; `waited_s` then says how long threads waited."""
        seconds = self.pair.run(self.variant, len(slots) * self.scale)
        self.waited_s = self.pair.waited_s
        return seconds

    def alone(self, values: Sequence[float]) -> list[float]:
        """Times of `scale` calls as times of one."""
        return [value / self.scale for value in values]


def _environment(threads: int) -> dict[str, str]:
    """All that the process sees: no key, no setting of the user's."""
    return {
        "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": str(threads),
        "OMP_DYNAMIC": "false",
    }  # fmt: skip


def _jail(library: Path, point: Point) -> dict[str, object]:
    own = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), str(library.parent)}
    return {
        "read_only": [*sorted(own - {"/"}), *_SYSTEM],
        "writable": ["/dev/null"],
        "limits": {
            "memory_bytes": (1 << 30) + 2 * point.memory_bytes,
            "cpu_s": 600,
            "threads": 64 + 2 * point.threads,
        },
    }


def require_jail() -> None:
    """Raises NoSandbox where nothing can confine a kernel."""
    sandbox.require()
