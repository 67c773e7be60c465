"""Guards: what the judge holds against each kind of cheating, and what it looks at between calls.

Every guard has a name, so that a test can take it away and show that it was needed. A verdict
reached without one says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from epitaxy import timing
from epitaxy.cases import BLEND, OTHER_BLEND, Cases
from epitaxy.errors import UnknownName
from epitaxy.record import FrozenDict
from epitaxy.roofline import below_physics
from epitaxy.verdict import Finding, Floor

GUARDS: Mapping[str, str] = FrozenDict(
    sandbox="candidates run confined",
    oracle="outputs are compared with the float64 oracle",
    distributions="inputs come from several distributions, not only the file's own",
    inputs="the inputs are intact after a call",
    weights="parameters are not the ones that a constructor draws",
    reload="parameters that are loaded anew are taken up",
    seeds="inputs are drawn with secret seeds",
    symbols="a built library calls nothing that no kernel needs",
    poison="recycled memory is spoiled before a call",
    outputs="outputs have the exact type, shape and dtype, in plain memory",
    views="outputs are new memory, finished, and not a view of an input",
    traced="no operator of PyTorch runs where the policy does not list it",
    fences="nothing is written beyond the ends of an output, nor read beyond those of an input",
    bounds="array bounds hold, and nothing depends on variables never set",
    recheck="outputs of timed calls are compared again",
    fresh="inputs change between timed calls, at the same addresses",
    repeats="a call on contents never seen takes no longer than its repetition",
    early="nothing is worked out before the clock starts",
    idle="nothing runs between the calls",
    witness="the outputs of every call are in the broker's memory when the clock stops",
    device_clock="the device's own clock and the broker's agree",
    physics="no time is below the physical floor",
)

_NEXT = {
    0: (BLEND, OTHER_BLEND),
    1: (BLEND, OTHER_BLEND),
    BLEND: (OTHER_BLEND,),
    OTHER_BLEND: (BLEND,),
}
"""What a slot holds next, by what it holds: who looks at a few places only cannot tell both."""
IDLE_S = 0.008
"""How long a candidate is watched doing nothing."""
IDLE_LIMIT_S = 50e-6
"""A process that waits for a frame uses no processor time at all; this much is a doubt."""
DOUBTS = 12
"""How often a suspicion is looked into before it counts."""
SLACK_S = 1e-6
COPY_BYTES_PER_S = 4e9
"""What is copied at least, also from streamed stores, or where outputs lie in another order. Copies
of a device with a clock of its own are not in the time."""
COLD_BYTES_PER_S = 4e9
"""How slowly contents that another core has just written may come: a cold call is no cheat."""
FRESH_BYTES = 32 << 20
"""Inputs rewritten for one look at repetitions."""
LOOK_S = 0.5
"""What the calls of one burst of a look take together at most, where that leaves one call."""
EARLY_S = 120e-6
"""What preparing a burst may take beyond what it takes an honest worker and half as much again."""
CLOCKS_S, CLOCKS_SHARE = 50e-6, 0.05
"""By how much a device's clock and the broker's may differ, over one and a half times what an
honest worker's do: starting and stopping, and a share of the burst."""
RECHECK_BYTES = 4 << 20
"""Outputs up to this size are compared after every burst, larger ones after a share of them."""


class Refused(Exception):
    """A stage's refusal: the verdict's status and why."""

    def __init__(self, status: str, reason: str, finding: Finding | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.finding = status, reason, finding


def possible(time_s: float, limit: Floor) -> None:
    """Refuse a time that is far below what memory needs.

    Bytes must move whatever the algebra; flops can be saved by a better formula.
    """
    moved = limit.replace(time_s=limit.memory_s, compute_s=0.0)
    if below_physics(time_s, moved):
        raise refusal(
            "physics",
            f"{time_s * 1e6:.1f} us is far below the floor of {moved.time_s * 1e6:.1f} us",
            "it skips work, or the probe is stale: run epitaxy probe",
        )


def refusal(check: str, message: str, mend: str) -> Refused:
    """A refusal by the guard or check of that name."""
    finding = Finding(check=check, severity="refusal", message=message, mend=mend)
    return Refused("refused", f"{check}: {message}", finding)


def switched_off(names: Iterable[str], checks: Sequence[str]) -> frozenset[str]:
    """`names`, each of which must be a guard or a static check. Raises UnknownName."""
    for name in names:
        if name not in GUARDS and name not in checks:
            raise UnknownName.of("guard", name, [*GUARDS, *checks])
    return frozenset(names)


class Manners:
    """Times of one worker on contents never seen, on repetitions, and with every output taken.

    Seconds per call. Minima are compared: a disturbance lengthens, a cheat lengthens always.
    """

    def __init__(self) -> None:
        self.first: list[float] = []
        self.again: list[float] = []
        self.witnessed: list[float] = []
        self.armed: list[tuple[int, float]] = []
        """Calls of a burst and seconds to prepare them; `timed` are those of timed bursts."""
        self.timed: list[tuple[int, float]] = []
        self.clocks: list[tuple[float, float]] = []
        """Seconds of a timed burst, or one like it, by the broker's clock and by the device's,
        where that has one."""

    @property
    def apart_s(self) -> float:
        """By how much the two clocks differ, mostly."""
        return timing.median([abs(a - b) for a, b in self.clocks]) if self.clocks else 0.0

    @property
    def novelty(self) -> float:
        """How much longer the first call on new contents takes: a ratio, at least 1."""
        return max(1.0, min(self.first) / min(self.again)) if self.first else 1.0

    def arming_s(self, calls: int) -> float:
        """What preparing a burst of so many calls takes, from the shortest and longest ones."""
        few, many = min(n for n, _ in self.armed), max(n for n, _ in self.armed)
        least = min(s for n, s in self.armed if n == few)
        each = (min(s for n, s in self.armed if n == many) - least) / max(many - few, 1)
        return least + max(0.0, each) * max(0, calls - few)

    @property
    def copy_s(self) -> float:
        """What taking a call's outputs costs on top of a call, in seconds; rather too much, since
        repetitions find their inputs colder than witnessed calls do."""
        if not self.witnessed:
            return 0.0
        return max(0.0, timing.median(self.witnessed) - min(self.again))


class Watch:
    """Looks at one worker between its timed calls, at rounds that it cannot foresee.

    `on(guard)` says whether a guard is in force; `call_s` is about what an honest call takes.
    """

    def __init__(
        self,
        cases: Cases,
        worker: Any,
        slots: Sequence[int],
        on: Callable[[str], bool],
        call_s: float,
    ) -> None:
        self.cases, self.worker, self.slots, self.on = cases, worker, slots, on
        self._most = max(1, int(LOOK_S / max(call_s, 1e-6)))
        self.holds = {slot: slot for slot in slots}
        self.manners = Manners()
        self._rng = random.Random(random.SystemRandom().getrandbits(64))
        self._last: int | None = None
        self._right: dict[int, list[Any]] = {}

    def after(self, slot: int, check: bool, look: bool) -> None:
        """After a burst that ended with `slot`: check its outputs, look closer. Raises Refused."""
        self._last = slot
        self.manners.timed.append(self.worker.armed)
        self._clocked()
        if check or look:
            self.recheck()
        if look:
            self.intact()
            self._renew()
            self.look()

    def recheck(self) -> None:
        """Compare the outputs of the last timed call, unless that was done. Raises Refused."""
        if self._last is not None and self.on("recheck"):
            self._compare(self.worker.outputs(), self.holds[self._last])
        self._last = None

    def intact(self) -> None:
        """Whether the timed inputs are what was written there. Raises Refused."""
        if not self.on("inputs"):
            return
        for slot, number in self.holds.items():
            pairs = zip(self.worker.inputs(slot), self.cases.get(number).inputs, strict=True)
            kept = [(a, b) for a, b in pairs if a is not None]
            if not self.cases.reference.same([a for a, _ in kept], [b for _, b in kept]):
                raise refusal("inputs", "it writes to its inputs", "write to fresh tensors")

    def look(self) -> None:
        """One look at its manners; the timed contents are in place afterwards."""
        if any(self.on(name) for name in ("repeats", "idle", "witness", "early")):
            unseen = self._unseen()
            slots = self._rng.sample(list(unseen), len(unseen))
            # Written anew for the repetition too: the caches and the machine are as they were.
            for times in (self.manners.first, self.manners.again):
                for slot, contents in unseen.items():
                    self.worker.write(slot, contents)
                self._idle()
                times.append(self._burst(slots))
            for slot in self.slots:
                self.worker.write(slot, self.cases.get(self.holds[slot]).inputs)
            self._as_timed()
        if self.on("witness"):
            self._witness()

    def conclude(self, time_s: float, model: Manners, now: Callable[[], Manners]) -> None:
        """Refuse bad manners, measured by those of an honest worker, `model`.

        A suspicion is looked into again and again: a disturbance passes, a habit does not. What
        lasts is measured by an honest worker's manners of `now` too: the machine may have become
        busy since the first were taken. Raises Refused.
        """
        self.recheck()
        self.intact()
        for _ in range(DOUBTS):
            doubt = self._doubt(time_s, model)
            if doubt is None:
                return
            self.look()
        doubt = self._doubt(time_s, model)
        if doubt is not None and self._doubt(time_s, now()) is not None:
            raise doubt

    def _doubt(self, time_s: float, model: Manners) -> Refused | None:
        first = self._apart(model) or self._keeps(model)
        return first or self._late(time_s, model) or self._ahead(time_s, model)

    def _clocked(self) -> None:
        if (both := getattr(self.worker, "clocks_s", None)) is not None:
            self.manners.clocks.append(both)

    def _apart(self, model: Manners) -> Refused | None:
        """Whether the device's clock and the broker's mostly differ in timed bursts: a time is a
        median too, so that a burst now and then in which they agree excuses nothing."""
        if not self.on("device_clock") or not self.manners.clocks:
            return None
        room_s = 1.5 * model.apart_s + CLOCKS_S
        over = [(abs(a - b) - room_s - CLOCKS_SHARE * a, a, b) for a, b in self.manners.clocks]
        over_s, wall_s, device_s = sorted(over)[(len(over) - 1) // 2]
        if over_s <= 0:
            return None
        return refusal(
            "device_clock",
            f"a burst takes {_us(wall_s)}, but {_us(device_s)} by the device's own clock: it works "
            "on a stream that it does not join, or meddles with the clock",
            "work on the current stream, or have it wait for yours",
        )

    def _ahead(self, time_s: float, model: Manners) -> Refused | None:
        """Whether every timed burst took long to prepare, by what an honest one takes."""
        mine = self.manners.timed
        if not self.on("early") or not mine or not model.armed:
            return None
        over_s, calls = min((s - 1.5 * model.arming_s(n) - EARLY_S, n) for n, s in mine)
        if over_s <= 0.1 * time_s * calls:
            return None
        return refusal(
            "early",
            f"preparing {calls} calls takes {_us(over_s)} too long: it works before the clock "
            "starts",
            "compute when called",
        )

    def _keeps(self, model: Manners) -> Refused | None:
        mine = self.manners
        if not self.on("repeats") or not mine.first:
            return None
        repeat_s = min(mine.again)
        cold_s = sum(s.bytes for s in self.cases.problem.inputs if s) / COLD_BYTES_PER_S
        if min(mine.first) <= 1.5 * model.novelty * repeat_s + cold_s + SLACK_S:
            return None
        return refusal(
            "repeats",
            f"a call on new contents takes {_us(min(mine.first))}, repeated {_us(repeat_s)}: "
            "results are kept from call to call",
            "compute in every call",
        )

    def _late(self, time_s: float, model: Manners) -> Refused | None:
        mine = self.manners
        if not self.on("witness") or not mine.witnessed:
            return None
        size = sum(s.bytes for s in self.cases.problem.outputs)
        copy_s = 2 * model.copy_s + (0.0 if mine.clocks else size / COPY_BYTES_PER_S)
        if min(mine.witnessed) <= 1.5 * time_s + copy_s + SLACK_S:
            return None
        return refusal(
            "witness",
            f"a call takes {_us(time_s)}, but {_us(min(mine.witnessed))} when its outputs are "
            "taken at once: it answers before it has computed",
            "return finished tensors",
        )

    def _burst(self, slots: Sequence[int]) -> float:
        seconds = self.worker.burst(slots)
        self.manners.armed.append(self.worker.armed)  # now: what is empty is armed too
        return float(max(seconds - self.worker.overhead_s, 1e-9) / len(slots))

    def _as_timed(self) -> None:
        """A burst like the timed ones, for how long preparing it takes."""
        calls = self.manners.timed[-1][0] if self.manners.timed else 1
        self._burst(self._rng.choices(list(self.slots), k=calls))
        self._clocked()
        self.manners.timed.append(self.worker.armed)

    def _renew(self) -> None:
        """Fresh contents at the same addresses: what was kept from earlier calls is stale now."""
        if self.on("fresh"):
            for slot in self.slots:
                self.holds[slot] = self._rng.choice(_NEXT[self.holds[slot]])
                self.worker.write(slot, self.cases.get(self.holds[slot]).inputs)

    def _unseen(self) -> dict[int, Sequence[Any]]:
        """Contents for some slots that no call has seen."""
        each = max(1, sum(s.bytes for s in self.cases.problem.inputs if s))
        count = max(1, min(self.worker.slots, FRESH_BYTES // each, self._most))
        return {slot: self.cases.unseen(self._rng.getrandbits(40)) for slot in range(count)}

    def _idle(self) -> None:
        if not self.on("idle"):
            return
        used_s = min(self.worker.busy_s(IDLE_S) for _ in range(3)) if self._busy() else 0.0
        if used_s > IDLE_LIMIT_S:
            raise refusal(
                "idle",
                f"it used {_us(used_s)} of processor time between its calls",
                "start no thread that outlives a call, or let it sleep until the next",
            )

    def _busy(self) -> bool:
        return bool(self.worker.busy_s(IDLE_S) > IDLE_LIMIT_S)

    def _witness(self) -> None:
        slots = self._rng.choices(list(self.slots), k=self.worker.witnessed)
        seconds = max(self.worker.witness(slots) - self.worker.overhead_s, 1e-9)
        self.manners.witnessed.append(seconds / len(slots))
        for number, slot in enumerate(slots):
            self._compare(self.worker.seen(number), self.holds[slot])

    def _compare(self, outputs: list[Any], number: int) -> None:
        if not self.on("oracle"):
            return
        if number in self._right and self.cases.reference.same(outputs, self._right[number]):
            return
        case = self.cases.get(number)
        error = self.cases.error(outputs, case)
        if not error <= self.cases.limit(case):
            raise Refused("incorrect", f"a timed call gave a wrong result (error {error:.2g})")
        self._right[number] = outputs


class Rounds:
    """What happens after each burst of a round: candidates are watched, `closely` in some rounds.

    Large outputs are fetched in a share of the rounds only; in those everyone's are, so that
    everyone's caches suffer alike.
    """

    def __init__(
        self,
        workers: Mapping[str, Any],
        watches: Mapping[str, Watch],
        closely: Set[int],
        rechecks: bool,
    ) -> None:
        self._workers, self._watches = workers, watches
        self._closely, self._rechecks = closely, rechecks
        problem = next(iter(watches.values())).cases.problem
        self._every = 1 + sum(s.bytes for s in problem.outputs) // RECHECK_BYTES
        self._shift = random.SystemRandom().randrange(1 << 16)

    def after(self, number: int, name: str, slot: int) -> None:
        """After the burst of worker `name` in round `number`, which ended with `slot`."""
        check = (number + self._shift) % self._every == 0
        if name in self._watches:
            self._watches[name].after(slot, check, number in self._closely)
        elif check and self._rechecks:
            self._workers[name].outputs()


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"
