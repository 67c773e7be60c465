"""Measure: the timed part of a judgement: how long to go on, and what the times amount to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
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
BEHIND = 1.05
"""A baseline that surely takes this much longer than another is timed in one process only."""


class Patience:
    """The planned rounds, more on a disturbed machine or for a wide interval, fewer for a
    hopeless candidate where the plan has one process.

    Going on depends on the width of the interval, not on where it lies, so that nobody is
    favoured (Chow, Robbins, "On the asymptotic theory of fixed-width sequential confidence
    intervals", 1965).
    """

    def __init__(
        self, chosen: Plan, activity: Callable[[], Activity | None], hopeless: float = HOPELESS
    ) -> None:
        self.plan = chosen
        self.trial = Trial(hopeless)
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
    """All the times of one judgement, process after process.

    Where the plan has one process, a candidate that takes more than `hopeless` times as long as
    the strongest baseline is dismissed after a few rounds.
    """

    def __init__(self, chosen: Plan, machine: Any, hopeless: float = HOPELESS) -> None:
        self.plan, self.hopeless = chosen, hopeless
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
        pace = Patience(self.plan, self._activity, self.hopeless)
        taken = timing.interleave(workers, slots, self.plan, rng, after, pace)
        self.taken.append(taken)
        self.dismissed = self.dismissed or pace.trial.dismissed
        if (activity := pace.activity) is not None:
            self.activities.append(activity)
        return taken

    @property
    def enough(self) -> bool:
        """Whether no more processes are needed: like going on within one, a question of the
        interval's width and not of where it lies."""
        done = len(self.taken)
        if done >= self.plan.processes:
            return True
        if done < self.plan.fewest:
            return False
        comparisons = self.comparisons()
        closest = min(comparisons, key=lambda c: c.speedup, default=None)
        return closest is not None and closest.half_width <= self.plan.narrow

    def contenders(self, names: Iterable[str]) -> list[str]:
        """The baselines among `names` that may be the strongest: the others take BEHIND times as
        long as one of them, with the confidence of all intervals. Of slow ones only as many, the
        strongest first, as fit into the plan's time with the least rounds."""
        found = {n: timing.median(self.times(n)) for n in names if self.times(n)}
        if not found:
            return list(names)
        first, *others = sorted(found, key=found.__getitem__)
        room_s = timing.LONGER * self.plan.limit_s / timing.LEAST_ROUNDS - found[first]
        kept = [first]
        for name in others:
            room_s -= found[name]
            if room_s >= 0 and self._against(name, first).low <= BEHIND:
                kept.append(name)
        return kept

    def _against(self, name: str, first: str) -> Comparison:
        """How many times as long as `first` a party takes, in the processes that timed both."""
        both = [t for t in self.taken if name in t.times and first in t.times]
        theirs, best = ([s for t in both for s in t.times[n]] for n in (name, first))
        rounds = [taken.rounds for taken in both]
        return paired.compare(name, theirs, best, rounds=rounds, spread=paired.PRIOR)

    def times(self, name: str, beside: str = "") -> list[float]:
        """Seconds per call of a party, in the order taken; in processes that timed `beside` too."""
        return [t for taken in self._with(beside) for t in taken.times.get(name, ())]

    def _with(self, name: str) -> list[Taken]:
        return [taken for taken in self.taken if not name or name in taken.times]

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
        """The candidate against one party, with all that makes the ratio uncertain.

        The time of a party that some processes did not time is brought to what the candidate took
        in all of them: a machine's speed changes, and times side by side should tell the ratio.
        """
        beside = self.times(OURS, beside=name)
        found = paired.compare(
            name,
            self.times(name),
            beside,
            rounds=[taken.rounds for taken in self._with(name)],
            again=self.times(AGAIN, beside=name),
            spread=paired.PRIOR,
            waits=(self._waits(name), self._waits(OURS, beside=name)),
        )
        pace = timing.median(self.times(OURS)) / timing.median(beside)
        return found.replace(time_s=found.time_s * pace)

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
                f"dismissed after {sum(self._rounds)} rounds: it takes more than "
                f"{self.hopeless:.2g} times as long as the strongest baseline"
            )
            found.append(Finding(check="timing", severity="note", message=text))
        if self.behind:
            text = f"clearly slower, or slow, so timed in fewer processes: {', '.join(self.behind)}"
            found.append(Finding(check="timing", severity="note", message=text))
        return found

    @property
    def behind(self) -> list[str]:
        """The parties that some processes did not time."""
        return [n for n in self.samples if len(self._with(n)) < len(self.taken)]

    def _waits(self, name: str, beside: str = "") -> list[float]:
        return [w for taken in self._with(beside) for w in taken.waits.get(name, ())]

    @property
    def _rounds(self) -> list[int]:
        return [taken.rounds for taken in self.taken]
