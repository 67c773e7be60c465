"""The broker's handle on one worker: it alone has the clock, the inputs and the deadlines."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epitaxy import memory
from epitaxy.errors import MachineFault
from epitaxy.machine import Job, WorkerFailure
from epitaxy.machines import _activity, _realtime
from epitaxy.machines._memory import Arena, state_file
from epitaxy.machines._zygote import Zygote
from epitaxy.record import printable
from epitaxy.worker.frames import MAX_FRAME, Op, pack, unpack

if TYPE_CHECKING:
    from epitaxy.machines.local import LocalMachine

TAIL_BYTES = 2000
NULL_BURSTS = 15
DYING_S = 0.5
REST_LIMIT_S = 1.0
LATE_S, LATE_TURNS = 5e-3, 12
"""A worker whose device is still busy so long after its burst, so often without a break, works
there outside its own time."""
ARM_S = 5.0
"""How long tensors may take to make at real-time priority, which starves everyone else."""
_CLOCK = struct.Struct("<2d")
CLOCK_TICK_S = 1e-4
"""What rounding many short times may add to them."""
_KINDS = ("crashed", "timeout", "incorrect", "full")


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds; a burst gets `burst_s` and four times what it should take."""

    load_s: float = 30.0
    burst_s: float = 20.0
    baseline_s: float = 900.0


class LocalWorker:
    """One warm process on this machine. Arrays are CPU torch tensors."""

    def __init__(
        self, machine: LocalMachine, zygote: Zygote, job: Job, spec: dict[str, Any]
    ) -> None:
        self.label = job.baseline or os.path.basename(job.folder.rstrip("/"))
        self.layers: tuple[str, ...] = ()
        self.waited_s = 0.0
        self.unfenced = False
        """Whether the last outputs stood between no fences, in a process that makes them."""
        self.clocks_s: tuple[float, float] | None = None
        """Seconds of the last burst by the broker's clock and by the device's own; None where the
        device has none, and for a burst of no calls."""
        self._aside_s = 0.0
        self.armed = (0, 0.0)
        """Calls of the last burst, and seconds it took to prepare them, before the clock."""
        self._machine, self._zygote, self._job = machine, zygote, job
        self._limits = machine.limits
        self._arena = Arena(job.problem)
        self._sequence = 0
        self._call_s = 0.0
        self._kills = memory.kills()
        self._warm = not job.baseline
        self._overhead_s: float | None = None
        self._closed = False
        self._condemned = ""
        self._late = 0
        self._talking = threading.RLock()
        self._errors = os.memfd_create("epitaxy-errors", os.MFD_CLOEXEC)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        spec = {**spec, "layout": self._arena.layout.to_json()}
        try:
            with theirs:
                descriptors = [theirs.fileno(), self._errors, self._arena.descriptor]
                self.pid = zygote.fork(spec, descriptors)
            hello = self._receive(Op.HELLO, self._limits.load_s)
        except WorkerFailure as failure:
            self._release()
            raise MachineFault(
                f"a worker did not start: {failure}", "run: epitaxy doctor"
            ) from None
        except BaseException:
            self._release()
            raise
        self.layers = tuple(hello.decode(errors="replace").split())

    @property
    def slots(self) -> int:
        """Number of input slots."""
        return self._arena.slots

    @property
    def _has_device(self) -> bool:
        """Whether its calls are made elsewhere than on the host."""
        return self._machine.device != "cpu"

    @property
    def overhead_s(self) -> float:
        """Seconds that a burst of no calls takes: part of every burst's time."""
        if self._overhead_s is None:
            self._overhead_s = statistics.median(self._burst([]) for _ in range(NULL_BURSTS))
        return self._overhead_s

    def prepare(self, init: Sequence[Any], state: dict[str, Any]) -> None:
        """Construct the module from `init` and load `state` (name to tensor). 30 s at most."""
        descriptor = state_file(init, state)
        try:
            self._ask(Op.PREPARE, b"", self._limits.load_s, [descriptor])
        finally:
            os.close(descriptor)

    def write(self, slot: int, inputs: Sequence[Any]) -> None:
        """Put inputs into a slot: tensors by shared memory, anything else pickled to the worker."""
        rest = self._arena.write(slot, inputs)
        if rest:
            self._ask(Op.EXTRAS, pickle.dumps((slot, rest)), self._limits.load_s)
        if self._has_device:
            self._ask(Op.STORED, struct.pack("<H", slot), self._limits.load_s)

    def burst(self, slots: Sequence[int]) -> float:
        """One call per entry of `slots`; seconds from the command to the answer.

        `overhead_s` is included; `waited_s` then says how long its threads had no processor. A
        baseline compiles at its first burst, outside the time.
        """
        seconds = self._burst(slots)
        if slots:
            self._call_s = max(seconds / len(slots), 1e-9)
        return seconds

    def witness(self, slots: Sequence[int]) -> float:
        """As `burst`, with every call's outputs out of its hands when the clock stops: in the
        broker's memory, or copied within its device, whose clock tells what this took; that is left
        out.

        At most `witnessed` calls; then `seen(number)` gives their outputs.
        """
        self._arena.poison(self.witnessed)
        seconds = self._burst(slots, Op.WITNESS)
        if not self._has_device:
            return seconds
        self._ask(Op.BRING, b"", self._limits.load_s)
        return seconds - self._aside_s

    def metered(self, slots: Sequence[int], counter: Callable[[], float]) -> float:
        """By how much `counter` rises from just before a burst to just after it."""
        with self._machine.turn(self):
            self._arm(Op.ARM, struct.pack(f"<{len(slots)}H", *slots), self._limits.load_s)
            before = counter()
            self._timed(self._limits.burst_s + 4 * self._call_s * len(slots))
            return counter() - before

    @property
    def witnessed(self) -> int:
        """How many calls one witnessed burst can hold."""
        return self._arena.layout.sets

    def seen(self, number: int) -> list[Any]:
        """The outputs of call `number` of the last witnessed burst."""
        return self._arena.outputs(number)

    def busy_s(self, wait_s: float) -> float:
        """Processor time (s) that it uses in `wait_s` seconds during which it has nothing to do."""
        self.rest()
        before = _realtime.processor_s(self.pid)
        time.sleep(wait_s)
        return _realtime.processor_s(self.pid) - before

    def outputs(self) -> list[Any]:
        """The last call's outputs. Raises WorkerFailure("incorrect") when they cannot be it."""
        self._arena.poison()
        self.unfenced = bool(self._ask(Op.OUTPUTS, b"", self._limits.burst_s))
        return self._arena.outputs()

    def inputs(self, slot: int) -> list[Any]:
        """What the slot's tensors hold now; None for an input that is no tensor."""
        if self._has_device:
            self._ask(Op.USED, struct.pack("<H", slot), self._limits.load_s)
        return self._arena.read(slot)

    def rest(self) -> None:
        """Wait until its threads sleep; one that never rests is killed, and fails when next used.

        PyTorch's threads spin for some milliseconds after a call. What works on between calls
        would disturb the others' times, or prepare answers outside its own.
        """
        if _realtime.wait_at_rest(self.pid, REST_LIMIT_S) is None:
            self._condemned = "it keeps running between its calls"
            self._zygote.reap(self.pid)
        elif self._has_device and not (self._condemned or self._closed):
            self._wait_for_device()

    def _wait_for_device(self) -> None:
        """The same for its device, which others would find busy."""
        start = time.perf_counter()
        try:
            self._ask(Op.IDLE, b"", REST_LIMIT_S)
        except WorkerFailure as failure:
            busy = failure.kind == "timeout"
            self._condemned = "its device is busy after its calls" if busy else failure.message
            return
        self._late = self._late + 1 if time.perf_counter() - start > LATE_S else 0
        if self._late >= LATE_TURNS:
            self._condemned = "its device is busy after its calls, again and again"

    def close(self) -> None:
        """Kill the process, at once and surely."""
        if self._closed:
            return
        self._machine.forget(self)
        try:
            self._zygote.reap(self.pid)
        except MachineFault:
            pass  # a dead zygote takes its workers along
        finally:
            self._release()

    def kill(self) -> None:
        """End the process; whoever uses the worker hears that it was killed. From any thread."""
        with contextlib.suppress(MachineFault):
            self._zygote.reap(self.pid)

    def _release(self) -> None:
        self._closed = True
        self._channel.close()
        self._arena.close()
        os.close(self._errors)

    def _burst(self, slots: Sequence[int], op: Op = Op.ARM) -> float:
        arm = struct.pack(f"<{len(slots)}H", *slots)
        first = not self._warm and bool(slots)
        if first:  # not yet its turn: several baselines may compile at once
            self._arm(op, arm, self._limits.baseline_s)
        with self._machine.turn(self):
            expected_s = self._call_s * len(slots)
            limit_s = self._limits.burst_s + 4 * expected_s
            short = self._machine.realtime and expected_s < _realtime.LONGEST_S and not first
            with _realtime.priority(self.pid) if short else contextlib.nullcontext() as calm:
                if not first:
                    self._arm(op, arm, ARM_S if short else self._limits.load_s)
                self._machine.condition_caches()
                return self._timed(limit_s, calm)

    def _arm(self, op: Op, arm: bytes, limit_s: float) -> None:
        """Have the calls of `arm` made ready."""
        start = time.perf_counter()
        self._ask(op, arm, limit_s)
        self.armed = (len(arm) // 2, time.perf_counter() - start)
        self._warm = self._warm or bool(arm)

    def _timed(self, limit_s: float, calm: Callable[[], None] | None = None) -> float:
        """`calm` takes the priority from a burst that lasts longer than was expected."""
        self._sequence += 1
        frame = pack(Op.GO, self._sequence)
        first_s = min(limit_s, _realtime.LONGEST_S) if calm else limit_s
        self._channel.settimeout(first_s)
        waited_s = _activity.waits_s(self.pid)
        try:
            start = time.perf_counter()
            self._channel.send(frame)
            try:
                answer = self._channel.recv(MAX_FRAME)
            except TimeoutError:
                if calm is None or first_s == limit_s:
                    raise
                calm()
                self._channel.settimeout(limit_s - first_s)
                answer = self._channel.recv(MAX_FRAME)
            seconds = time.perf_counter() - start
        except OSError as error:
            raise self._lost(error, limit_s) from None
        self.waited_s = max(0.0, _activity.waits_s(self.pid) - waited_s)
        own = self._check(answer, Op.DONE)
        if self._has_device:
            device_s, self._aside_s = _clock(own)
            self.clocks_s = (seconds, device_s) if self.armed[0] else None
        return seconds

    def _ask(self, op: Op, payload: bytes, limit_s: float, passed: Sequence[int] = ()) -> bytes:
        with self._talking:  # whoever is next may ask it to rest, from another thread
            if self._closed:
                raise MachineFault("the worker is closed", "start another")
            if self._condemned:
                raise WorkerFailure("incorrect", self._condemned)
            self._sequence += 1
            self._channel.settimeout(limit_s)
            try:
                frame = pack(op, self._sequence, payload)
                if passed:
                    socket.send_fds(self._channel, [frame], list(passed))
                else:
                    self._channel.send(frame)
            except OSError as error:
                raise self._lost(error, limit_s) from None
            return self._receive(Op.DONE, limit_s)

    def _receive(self, expected: Op, limit_s: float) -> bytes:
        self._channel.settimeout(limit_s)
        try:
            answer = self._channel.recv(MAX_FRAME)
        except OSError as error:
            raise self._lost(error, limit_s) from None
        return self._check(answer, expected)

    def _check(self, answer: bytes, expected: Op) -> bytes:
        """The payload of an answer to the last frame; anything else is the worker's failure."""
        if not answer:
            raise self._lost(None, 0.0)
        try:
            op, sequence, payload = unpack(answer)
        except ValueError:
            op, sequence, payload = -1, -1, b""
        if sequence == self._sequence and op == Op.FAIL:
            raise self._failed(payload)
        if sequence != self._sequence or op != expected:
            raise WorkerFailure("crashed", "it spoke out of turn on the broker's channel")
        return payload

    def _failed(self, payload: bytes) -> WorkerFailure | MachineFault:
        """What to raise when it says that it failed. That its device was full before the calls says
        nothing about a candidate; a baseline may have filled it by compiling."""
        failure = _failure(payload)
        if failure.kind == "full" and not self._job.baseline:
            return MachineFault(
                f"the device's memory is full: {failure.message}",
                "free it of other work, or use smaller shapes",
            )
        return WorkerFailure("crashed", failure.message) if failure.kind == "full" else failure

    def _lost(self, error: OSError | None, limit_s: float) -> WorkerFailure | MachineFault:
        """What to raise when a worker is silent or gone; it is dead afterwards."""
        if not self._zygote.alive:
            return MachineFault("the process that starts workers ended", "run again")
        silent = isinstance(error, TimeoutError)
        # A channel closes a moment before its process has ended: let it say how.
        status = self._zygote.reap(self.pid, 0.0 if silent else DYING_S)
        if silent:
            return WorkerFailure("timeout", f"no answer in {limit_s:.0f} s{self._tail()}")
        if _killed(status) and memory.kills() > self._kills:
            # What a candidate takes is bounded: that there is no more says nothing about it.
            ended = "memory ran out, and the system ended its process"
            if self._job.baseline:
                return WorkerFailure("crashed", ended)
            return MachineFault(ended, "use smaller shapes, or free memory")
        return WorkerFailure("crashed", f"{_cause(status)}{self._tail()}")

    def _tail(self) -> str:
        size = os.fstat(self._errors).st_size
        raw = os.pread(self._errors, TAIL_BYTES, max(0, size - TAIL_BYTES))
        text = printable(raw.decode(errors="replace")).strip()
        return f"; it wrote: {text}" if text else ""


def _clock(own: bytes) -> tuple[float, float]:
    """Seconds by the device's own clock, of a burst and of what in it was none of its calls. Raises
    WorkerFailure for what is no time, or more than the whole."""
    found = _CLOCK.unpack(own) if len(own) == _CLOCK.size else (math.nan, math.nan)
    if not (math.isfinite(found[0]) and 0 <= found[1] <= found[0] + CLOCK_TICK_S):
        raise WorkerFailure("incorrect", "it meddles with the device's own clock")
    return found[0], found[1]


def _failure(payload: bytes) -> WorkerFailure:
    try:
        kind, message = json.loads(payload)
        text = printable(str(message))[-TAIL_BYTES:]
    except (ValueError, TypeError, RecursionError):  # it may be anything at all
        kind, text = "crashed", "it answered nonsense"
    return WorkerFailure(kind if kind in _KINDS else "crashed", text)


def _killed(status: int) -> bool:
    return status >= 0 and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _cause(status: int) -> str:
    if status < 0:
        return "its process was gone"
    # The reaper kills what is still there: the worker closed its channel, then lived on.
    if _killed(status):
        return "it was killed (out of memory, or it closed the broker's channel)"
    if os.WIFSIGNALED(status):
        return f"it died of {signal.Signals(os.WTERMSIG(status)).name}"
    return f"it exited with code {os.waitstatus_to_exitcode(status)}"
