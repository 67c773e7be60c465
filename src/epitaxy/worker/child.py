"""The worker: holds one callable and answers the broker's frames, one at a time.

A call is made in two steps so that only the call itself is timed: ARM builds the tensors and
waits, GO runs. Everything the callable could read is in its inputs; it has no clock of ours.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import mmap
import os
import pickle
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from epitaxy import sandbox
from epitaxy.worker import loading
from epitaxy.worker.fences import Fences
from epitaxy.worker.frames import MAX_FRAME, Layout, Op, Place, pack, unpack
from epitaxy.worker.host import open_device
from epitaxy.worker.trace import Trace, warm
from epitaxy.worker.views import Memory, leniently, mapped, mismatch, tensor_at

MESSAGE_LIMIT = 2000
UNFENCED = b"u"
"""Answer with outputs, in a process that fences them, none of which was."""
SPIN_S = 0.002
"""How long an armed worker polls for GO before it sleeps: a sleeper's wake-up is noise."""
_LONG_S = 0.02
"""Beside a call that takes so long, waking threads is nothing."""


@dataclass
class Spec:
    """What the zygote is asked to make: all plain data."""

    layout: str
    source: str
    entry: str
    folder: str = ""
    baseline: str = ""
    threads: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    jail: dict[str, Any] | None = None
    without: tuple[str, ...] = ()
    fenced: bool = False
    traced: bool = False
    device: str = "cpu"
    room_bytes: int = 0
    rounded: bool = False

    @staticmethod
    def of(data: dict[str, Any]) -> Spec:
        """From decoded JSON."""
        return Spec(**data)


class Loop:
    """One worker's state and its answers."""

    def __init__(self, channel: socket.socket, memory: Memory, spec: Spec) -> None:
        self.channel = channel
        self.memory = memory
        self.spec = spec
        self.layout = Layout.from_json(spec.layout)
        self.device = open_device(spec.device, memory, self.layout, spec.room_bytes)
        self.device.products(spec.rounded)
        self.extras: dict[int, list[Any]] = {}
        self.model: Any = None
        self.call: Any = None
        self.armed: list[list[Any]] = []
        self.last: Any = None
        self.shift: Any = None
        self.fences = Fences(spec.without, spec.device) if spec.fenced else None
        self.trace: Trace | None = None
        self.own_threads: Callable[..., Any] | None = None
        self.example: list[Any] = []

    def serve(self) -> None:
        """Answer frames until the broker hangs up."""
        while True:
            frame, passed, _, _ = socket.recv_fds(self.channel, MAX_FRAME, 1)
            if not frame:
                return
            op, sequence, payload = unpack(frame)
            self.answer(op, sequence, payload, passed)

    def answer(self, op: int, sequence: int, payload: bytes, passed: list[int]) -> None:
        """Do what one frame asks; a failure of the callable becomes a FAIL frame."""
        told = b""
        try:
            if op == Op.PREPARE:
                self.prepare(passed[0])
            elif op == Op.EXTRAS:
                slot, values = pickle.loads(payload)
                self.extras[slot] = values
            elif op == Op.STORED:
                (slot,) = struct.unpack("<H", payload)
                self.device.stored(slot, self.contents(slot))
            elif op == Op.IDLE:
                self.device.idle()
            elif op == Op.BRING:
                self.device.bring()
            elif op == Op.USED:
                self.give_back(*struct.unpack("<H", payload))
            elif op in (Op.ARM, Op.WITNESS):
                self.arm(struct.unpack(f"<{len(payload) // 2}H", payload), op == Op.WITNESS)
                self.channel.send(pack(Op.DONE, sequence))
                self.run(witnessed=op == Op.WITNESS)
                return
            elif op == Op.OUTPUTS:
                problem = self.deliver(self.last, 0, self.device.fetch)
                if problem:
                    self.fail(sequence, "incorrect", problem)
                    return
                told = UNFENCED if self.fences is not None and not self.fences.count else b""
            self.channel.send(pack(Op.DONE, sequence, told))
        except Exception as error:
            ours = op in (Op.STORED, Op.ARM, Op.WITNESS) and self.device.full(error)
            self.fail(sequence, "full" if ours else "crashed", describe(error))

    def prepare(self, descriptor: int) -> None:
        """Construct the callable from init arguments and parameters in a sealed file.

        A second time only the parameters are loaded, into the callable that is there.
        """
        with os.fdopen(descriptor, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        size = struct.unpack_from("<Q", content)[0]
        init, table = pickle.load(io.BytesIO(content[8 : 8 + size]))
        state = {n: tensor_at(content, Place(*place)).clone() for n, place in table.items()}
        if self.model is not None:
            self.model.load_state_dict(state)
            return
        target = self.target()
        self.model = self.device.place(loading.construct(target, init, state))
        self.call = None if self.spec.baseline else self.model
        if self.spec.traced:
            self.call = self.trace = Trace(self.model)
        gc.disable()
        _settled()

    def target(self) -> Any:
        """What the job names: the candidate's ModelNew, or the reference itself."""
        if self.spec.folder:
            path = os.path.join(self.spec.folder, "model_new.py")
            if self.fences is not None:
                self.fences.install()
            return loading.load_file(path, "ModelNew", "model_new")
        return loading.load_entry(self.spec.source, self.spec.entry, "reference_model")

    def arm(self, slots: Sequence[int], witnessed: bool = False) -> None:
        """Fresh tensors for each call; poison what the allocator would hand out again."""
        # A baseline compiles with contents that it could meet.
        self.armed = []
        self.device.arming(witnessed and self.call is not None)
        self.armed = [self.arguments(slot) for slot in slots]
        if self.call is None and self.armed:
            gc.enable()
            self.call = self.baseline(self.armed[0])
            gc.disable()
        if self.model is None:
            raise RuntimeError("the worker was not prepared")
        used, self.last, self.shift = self.last is not None, None, None
        if "poison" not in self.spec.without:
            self.shift = self.device.shifted()
            if used:
                self.device.spoil()
        _settled()
        if self.armed:
            self.wake()
        self.device.ready()

    def contents(self, slot: int) -> list[Any]:
        """The slot's inputs in order: new tensor objects over the shared memory."""
        extras = iter(self.extras.get(slot, ()))
        return [
            next(extras) if p is None else tensor_at(self.memory, p)
            for p in self.layout.slots[slot]
        ]

    def arguments(self, slot: int) -> list[Any]:
        """A call's own inputs, where its device takes them."""
        made = self.device.taken(slot, self.contents(slot))
        return made if self.fences is None else self.fences.around(made)

    def give_back(self, slot: int) -> None:
        """What calls left of a slot's inputs, into the shared memory."""
        for left, place in zip(self.device.used(slot), self.layout.slots[slot], strict=False):
            if place is not None:
                self.device.fetch(left, tensor_at(self.memory, place))

    def baseline(self, example: list[Any]) -> Any:
        """The baseline's callable, warmed by one call so that no compilation is timed."""
        from epitaxy.plugin import plugins

        plugin = plugins("baselines").get(self.spec.baseline)
        call = plugin.prepare(self.model, [_private(x) for x in example], self.spec.threads)
        if not plugin.torch:
            self.own_threads, self.example = call, [_private(x) for x in example]
            _without_torch_threads()
        for _ in range(self.device.warm_ups - 1):
            call(*[_private(x) for x in example])
        start = time.monotonic()
        call(*[_private(x) for x in example])
        if not plugin.torch and time.monotonic() - start > _LONG_S:
            self.own_threads = _nothing
        return call

    def wake(self) -> None:
        """Have the threads that will compute awake when the clock starts: inside a model they are.

        Waking three sleepers takes as long as a call of half a millisecond, and as it pleases. A
        baseline with threads of its own wakes them by a call; PyTorch's would only be in its way.
        """
        if self.own_threads is not None:
            self.own_threads(*self.example)
        else:
            self.device.wake()

    def run(self, witnessed: bool = False) -> None:
        """Wait for GO, make the calls, answer. The broker times from GO to the answer.

        In a witnessed burst every call's outputs are taken before the answer. What the calls left
        to the collector goes before it too, and their arguments only when the next burst is armed:
        between bursts nothing of the callable's own runs.
        """
        op, sequence, _ = unpack(_await(self.channel))
        if op != Op.GO:
            self.fail(sequence, "crashed", "the worker expected to go")
            return
        call, armed, result, device = self.call, self.armed, None, self.device
        try:
            device.begin()
            for number, arguments in enumerate(armed):
                before = result if witnessed else None
                if witnessed:
                    device.before(number)
                result = call(*arguments)
                if witnessed and (problem := self.deliver(result, number, device.keep, before)):
                    self.fail(sequence, "incorrect", problem)
                    return
            before = None
            gc.collect(0)
            self.channel.send(pack(Op.DONE, sequence, device.end()))
        except Exception as error:
            self.fail(sequence, "crashed", describe(error))
        self.last = result

    def deliver(
        self, last: Any, number: int, take: Callable[[Any, Any], None], before: Any = None
    ) -> str:
        """Have a call's outputs taken for a shared area; "" or why they cannot be outputs.

        `before` are the outputs of the call before it, which are still in somebody's hands.
        """
        if last is None:
            return "it returned None"
        if "outputs" not in self.spec.without and loading.lazy(last):
            return f"it returned a {type(last).__name__} that runs code when it is read"
        if self.fences is not None and self.fences.broken():
            return "it writes beyond the ends of an output"
        if self.trace is not None and self.trace.used:
            return f"it calls {self.trace.used} of PyTorch, which the policy does not allow"
        results = loading.flatten(last)
        lax = "outputs" in self.spec.without
        problem = mismatch(results, self.layout.outputs, self.device.kind) if not lax else ""
        if not problem and self.spec.folder and "views" not in self.spec.without:
            problem = self.device.borrowed(
                results, [] if before is None else loading.flatten(before)
            )
        if not problem:
            for result, place in zip(results, self.layout.outputs_of(number), strict=True):
                found = leniently(result, place) if lax else result
                take(found, tensor_at(self.memory, place))
        return problem

    def fail(self, sequence: int, kind: str, message: str) -> None:
        """Answer that the callable failed."""
        text = json.dumps([kind, message[-MESSAGE_LIMIT:]])
        self.channel.send(pack(Op.FAIL, sequence, text.encode()))


def main(descriptors: Sequence[int], spec: Spec) -> None:
    """Run one worker in this freshly forked process: channel, errors file, shared memory."""
    channel, errors, arena = descriptors
    _alone(channel, errors, arena)
    memory = mapped(arena)
    os.close(arena)
    os.environ.update(spec.environment)
    import torch

    link = socket.socket(fileno=channel)
    layers: tuple[str, ...] = ()
    if spec.traced:
        warm()
    if spec.jail is not None:
        layers = sandbox.confine(**spec.jail)
    # Only now: this starts threads, and those would stay outside the jail.
    if spec.threads:
        torch.set_num_threads(spec.threads)
    torch.set_grad_enabled(False)
    try:
        loop = Loop(link, memory, spec)
    except Exception as error:  # no fault of the callable, which is not there yet
        os.write(2, f"its device does not start: {describe(error)}".encode())
        raise SystemExit(1) from None
    link.send(pack(Op.HELLO, 0, " ".join(layers).encode()))
    loop.serve()


def _alone(*keep: int) -> None:
    """Nothing inherited but `keep`: no descriptor, no terminal, no signal handler."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(keep[1], 2)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in keep[:1] + keep[2:]:
            _close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the one that listed the folder
        os.close(descriptor)


def _await(channel: socket.socket) -> bytes:
    """The next frame: poll for a moment, then sleep."""
    until = time.monotonic() + SPIN_S
    while time.monotonic() < until:
        try:
            return channel.recv(MAX_FRAME, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
    frame = channel.recv(MAX_FRAME)
    if not frame:
        raise SystemExit(0)
    return frame


def _private(value: Any) -> Any:
    import torch

    return value.clone() if isinstance(value, torch.Tensor) else value


def _without_torch_threads() -> None:
    """They spin for milliseconds after their last work, and take processors from a runtime that
    brings its own."""
    import torch

    torch.set_num_threads(1)


def _settled() -> None:
    """Collect now what is garbage, and look at the rest no more: the collection at a burst's end
    sees only what its calls made."""
    gc.collect(1)  # nothing is older; a full collection would take Python's free lists too
    gc.freeze()


def _nothing(*_: Any) -> None:
    """In place of a call too long to be made once more."""


def describe(error: BaseException) -> str:
    """An exception in few lines: what it says, and where in the callable's own source."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if "/epitaxy/worker/" not in f.filename and "/torch/" not in f.filename
    ]
    where = f" at line {own[-1].lineno}: {own[-1].line}" if own else ""
    text = str(error).strip() or "no message"
    return f"{type(error).__name__}: {text[: MESSAGE_LIMIT - 400]}{where[:300]}"
