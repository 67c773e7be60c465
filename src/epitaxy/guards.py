"""Guards: what the judge holds against each kind of cheating, and what it looks at between calls.

Every guard has a name, so that a test can take it away and show that it was needed. A verdict
reached without one says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from epitaxy import timing
from epitaxy.cases import BLEND, Cases
from epitaxy.errors import UnknownName
from epitaxy.record import FrozenDict
from epitaxy.verdict import Finding

GUARDS: Mapping[str, str] = FrozenDict(
    sandbox="candidates run confined",
    oracle="outputs are compared with the float64 oracle",
    distributions="inputs come from several distributions, not only the file's own",
    inputs="the inputs are intact after a call",
    poison="recycled memory is spoiled before a call",
    outputs="outputs have the exact type, shape and dtype, in plain memory",
    fences="nothing is written beyond the ends of an output",
    recheck="outputs of timed calls are compared again",
    fresh="inputs change between timed calls, at the same addresses",
    repeats="a call on contents never seen takes no longer than its repetition",
    idle="nothing runs between the calls",
    witness="the outputs of every call are in the broker's memory when the clock stops",
    physics="no time is below the physical floor",
)

IDLE_S = 0.008
"""How long a candidate is watched doing nothing."""
IDLE_LIMIT_S = 50e-6
"""A process that waits for a frame uses no processor time at all; this much is a doubt."""
DOUBTS = 12
"""How often a suspicion is looked into before it counts."""
SLACK_S = 1e-6
COPY_BYTES_PER_S = 8e9
"""What one thread copies at least out of memory that the kernel's outputs were streamed to."""
COLD_BYTES_PER_S = 4e9
"""How slowly contents that another core has just written may come: a cold call is no cheat."""
FRESH_BYTES = 32 << 20
"""Inputs rewritten for one look at repetitions."""


class Refused(Exception):
    """A stage's refusal: the verdict's status and why."""

    def __init__(self, status: str, reason: str, finding: Finding | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.finding = status, reason, finding


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

    @property
    def novelty(self) -> float:
        """How much longer the first call on new contents takes: a ratio, at least 1."""
        return max(1.0, min(self.first) / min(self.again)) if self.first else 1.0

    @property
    def copy_s(self) -> float:
        """What taking a call's outputs costs on top of a call, in seconds."""
        if not self.witnessed:
            return 0.0
        return max(0.0, timing.median(self.witnessed) - timing.median(self.again))


class Watch:
    """Looks at one worker between its timed calls, at rounds that it cannot foresee.

    `on(guard)` says whether a guard is in force.
    """

    def __init__(
        self, cases: Cases, worker: Any, slots: Sequence[int], on: Callable[[str], bool]
    ) -> None:
        self.cases, self.worker, self.slots, self.on = cases, worker, slots, on
        self.holds = {slot: slot for slot in slots}
        self.manners = Manners()
        self._rng = random.Random(random.SystemRandom().getrandbits(64))
        self._last: int | None = None

    def after(self, slot: int, look: bool) -> None:
        """After a burst that ended with `slot`. Raises Refused."""
        self._last = slot
        if look:
            self.recheck()
            self._renew()
            self.look()

    def recheck(self) -> None:
        """Compare the outputs of the last timed call, unless that was done. Raises Refused."""
        if self._last is not None and self.on("recheck"):
            self._compare(self.worker.outputs(), self.holds[self._last])
        self._last = None

    def look(self) -> None:
        """One look at its manners; the timed contents are in place afterwards."""
        if self.on("repeats") or self.on("idle") or self.on("witness"):
            slots = self._unseen()
            self._idle()
            self.manners.first.append(self._burst(slots))
            self.manners.again.append(self._burst(slots))
            for slot in self.slots:
                self.worker.write(slot, self.cases.get(self.holds[slot]).inputs)
        if self.on("witness"):
            self._witness()

    def conclude(self, time_s: float, model: Manners) -> None:
        """Refuse bad manners, measured by those of an honest worker, `model`.

        A suspicion is looked into again and again: a disturbance passes, a habit does not. Raises
        Refused.
        """
        for _ in range(DOUBTS):
            doubt = self._keeps(model) or self._late(time_s, model)
            if doubt is None:
                return
            self.look()
        doubt = self._keeps(model) or self._late(time_s, model)
        if doubt is not None:
            raise doubt

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
        copy_s = 2 * model.copy_s + size / COPY_BYTES_PER_S
        if min(mine.witnessed) <= 1.5 * time_s + copy_s + SLACK_S:
            return None
        return refusal(
            "witness",
            f"a call takes {_us(time_s)}, but {_us(min(mine.witnessed))} when its outputs are "
            "taken at once: it answers before it has computed",
            "return finished tensors",
        )

    def _burst(self, slots: Sequence[int]) -> float:
        seconds: float = self.worker.burst(slots) - self.worker.overhead_s
        return max(seconds, 1e-9) / len(slots)

    def _renew(self) -> None:
        """Fresh contents at the same addresses: what was kept from earlier calls is stale now."""
        if self.on("fresh"):
            for slot in self.slots:
                others = [n for n in (0, 1, BLEND) if n != self.holds[slot]]
                self.holds[slot] = self._rng.choice(others)
                self.worker.write(slot, self.cases.get(self.holds[slot]).inputs)

    def _unseen(self) -> list[int]:
        """Slots filled with contents that no call has seen."""
        each = max(1, sum(s.bytes for s in self.cases.problem.inputs if s))
        count = max(1, min(self.worker.slots, FRESH_BYTES // each))
        for slot in range(count):
            self.worker.write(slot, self.cases.unseen(self._rng.getrandbits(40)))
        return self._rng.sample(range(count), count)

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
        number = self._rng.randrange(len(slots))
        self._compare(self.worker.seen(number), self.holds[slots[number]])

    def _compare(self, outputs: list[Any], number: int) -> None:
        if not self.on("oracle"):
            return
        case = self.cases.get(number)
        error = self.cases.error(outputs, case)
        if not error <= self.cases.limit(case):
            raise Refused("incorrect", f"a timed call gave a wrong result (error {error:.2g})")


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"
