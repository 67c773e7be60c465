"""Measure: the timed part of a judgement: how long to go on, and what the times amount to."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from epitaxy import paired, quiet, timing
from epitaxy.quiet import Activity
from epitaxy.sequential import HOPELESS, Trial
from epitaxy.timing import Plan, Taken, Timed
from epitaxy.verdict import Comparison, Finding

OURS, AGAIN = "candidate", "candidate again"
"""The candidate and its control, a second process of it."""
STEP = 5
"""Rounds between two looks at whether there have been enough."""


class Patience:
    """The planned rounds, more on a disturbed machine or for a wide interval, fewer for a
    hopeless candidate where the plan has one process.

    Going on depends on the width of the interval, not on where it lies, so that nobody is
    favoured (Chow, Robbins, "On the asymptotic theory of fixed-width sequential confidence
    intervals", 1965).
    """

    def __init__(self, chosen: Plan, activity: Callable[[], Activity | None]) -> None:
        self.plan = chosen
        self.trial = Trial()
        self._activity, self._before = activity, activity()

    @property
    def activity(self) -> Activity | None:
        """What the processors did since the first round."""
        now = self._activity()
        return now.since(self._before) if now and self._before else None

    def enough(self, taken: Taken, elapsed_s: float) -> bool:
        """Whether to stop."""
        chosen, rounds = self.plan, taken.rounds
        if chosen.processes == 1 and self._hopeless(taken):
            return True
        late = elapsed_s > chosen.limit_s
        if rounds < timing.LEAST_ROUNDS or not (late or rounds >= chosen.rounds):
            return False
        if rounds >= max(chosen.most, chosen.rounds) or elapsed_s > timing.LONGER * chosen.limit_s:
            return True
        if late:
            return not quiet.disturbed(self.activity, taken)
        if (rounds - chosen.rounds) % STEP:
            return False
        return not (self._imprecise(taken) or quiet.disturbed(self.activity, taken))

    def _hopeless(self, taken: Taken) -> bool:
        others = [v[-1] for name, v in taken.times.items() if not name.startswith(OURS)]
        if OURS not in taken.times or not others:
            return False
        return self.trial.add(min(others), taken.times[OURS][-1], taken.waits[OURS][-1])

    def _imprecise(self, taken: Taken) -> bool:
        ours = taken.times.get(OURS)
        others = {n: timing.median(v) for n, v in taken.times.items() if not n.startswith(OURS)}
        if not ours or not others:
            return False
        import numpy as np

        theirs = taken.times[min(others, key=others.__getitem__)]
        within = paired.Within(np.log(np.asarray(theirs) / np.asarray(ours)))
        _, low, high = within.interval()
        return (high - low) / 2 > self.plan.precise * float(np.sqrt(self.plan.processes))


class Measurement:
    """All the times of one judgement, process after process."""

    def __init__(self, chosen: Plan, machine: Any) -> None:
        self.plan = chosen
        self.taken: list[Taken] = []
        self.activities: list[Activity] = []
        self.dismissed = False
        self._activity: Callable[[], Activity | None] = getattr(machine, "activity", lambda: None)

    def process(
        self,
        workers: Mapping[str, Timed],
        slots: Sequence[int],
        rng: random.Random,
        after: Callable[[int, str, int], Any] = lambda *_: None,
    ) -> Taken:
        """Time `workers` side by side: one of the plan's fresh processes."""
        pace = Patience(self.plan, self._activity)
        taken = timing.interleave(workers, slots, self.plan, rng, after, pace)
        self.taken.append(taken)
        self.dismissed = self.dismissed or pace.trial.dismissed
        if (activity := pace.activity) is not None:
            self.activities.append(activity)
        return taken

    def times(self, name: str) -> list[float]:
        """Seconds per call of a party, in the order taken."""
        return [t for taken in self.taken for t in taken.times.get(name, ())]

    @property
    def samples(self) -> dict[str, tuple[float, ...]]:
        """All times by party, the control apart."""
        names = dict.fromkeys(n for taken in self.taken for n in taken.times if n != AGAIN)
        return {name: tuple(self.times(name)) for name in names}

    @property
    def control(self) -> Comparison | None:
        """The candidate against its own second process; None without one."""
        again = self.times(AGAIN)
        if not again:
            return None
        return paired.compare(
            AGAIN, again, self.times(OURS), rounds=self._rounds, spread=paired.PRIOR
        )

    def comparisons(self) -> tuple[Comparison, ...]:
        """The candidate against every other party."""
        return tuple(self.compare(name) for name in self.samples if name != OURS)

    def compare(self, name: str) -> Comparison:
        """The candidate against one party, with all that makes the ratio uncertain."""
        return paired.compare(
            name,
            self.times(name),
            self.times(OURS),
            rounds=self._rounds,
            again=self.times(AGAIN),
            spread=paired.PRIOR,
            waits=(self._waits(name), self._waits(OURS)),
        )

    def metrics(self) -> dict[str, float]:
        """Figures on the measurement itself, for the verdict."""
        found = {"drift": quiet.trend(self.times(OURS))[0], "rounds": float(sum(self._rounds))}
        found |= {f"rounds_{n}": float(r) for n, r in enumerate(self._rounds, 1)}
        found["waited_share"] = quiet.waited_share(self._waits(OURS), self.times(OURS))
        found["speed_change"] = max(quiet.speed_change(t.pulses) for t in self.taken)
        if self.activities:
            found["others_cores"] = max(a.others for a in self.activities)
            found["stolen_share"] = max(a.stolen for a in self.activities)
        if control := self.control:
            found |= {"control_ratio": control.speedup, "control_half_width": control.half_width}
        return found

    def findings(self) -> list[Finding]:
        """What disturbed the measurement, and whether the candidate was dismissed early."""
        found = quiet.findings(self.taken, self.activities, self.control)
        if self.dismissed:
            text = (
                f"dismissed after {sum(self._rounds)} rounds: it takes more than {HOPELESS:g} "
                "times as long as the strongest baseline"
            )
            found.append(Finding(check="timing", severity="note", message=text))
        return found

    def _waits(self, name: str) -> list[float]:
        return [w for taken in self.taken for w in taken.waits.get(name, ())]

    @property
    def _rounds(self) -> list[int]:
        return [taken.rounds for taken in self.taken]
