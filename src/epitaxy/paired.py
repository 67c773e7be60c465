"""Statistics of paired times: intervals that hold, and the least effect that can be seen.

Two things make a ratio of times uncertain. Within a process, rounds differ: that part comes from
a bootstrap of the median, widened where neighbouring rounds resemble one another. Between
processes, the same code differs for as long as it lives, by where its memory happens to lie: more
rounds do not help, and that part comes from the fresh processes of the candidate, from its control
(a second process of the same code) and from PRIOR. Both are added as independent errors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from epitaxy.errors import BadInput
from epitaxy.timing import median
from epitaxy.verdict import Comparison

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.99
"""Of intervals: "faster" is said wrongly at most once in two hundred."""
RESAMPLES = 2000
POWER_Z = 1.645
"""What is detectable is found nineteen times in twenty: 95 % of a normal distribution."""
MOST_WAITED = 0.95

_T_995 = (
    63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169,
    3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845,
)  # fmt: skip
_Z_995 = 2.576


@dataclasses.dataclass(frozen=True)
class Spread:
    """How much processes of the same code differ: standard deviation of the logarithm of the
    time, known as well as from `df` differences."""

    sd: float
    df: float


PRIOR = Spread(sd=0.005, df=3)
"""What is assumed before any process was compared: half a percent, loosely.

Twins of one kernel differ by 0.2 to 1 % on the machines seen so far (docs/judge.md).
"""


def student(df: float) -> float:
    """The 99.5 % point of Student's t (two-sided 99 %), by its table; rounded towards caution."""
    whole = max(1, int(df))
    return _T_995[whole - 1] if whole <= len(_T_995) else _Z_995 + 5.4 / whole


def compare(
    baseline: str,
    theirs: Sequence[float],
    ours: Sequence[float],
    *,
    rounds: Sequence[int] = (),
    again: Sequence[float] = (),
    spread: Spread | None = None,
    waits: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Comparison:
    """Candidate against baseline from paired times (s): the median of theirs/ours.

    `rounds`: how many of the pairs each fresh process gave, in order (none: one process); `again`:
    times of a second process of the candidate in the same rounds. `spread`: what to assume of
    processes before these (none: processes do not differ). `waits`: how long threads waited for a
    processor in theirs and in ours (s); the interval is widened to hold the medians that would have
    come out without any of one side's waits, but for what both wait as a habit. Raises BadInput
    when the samples are not pairs.
    """
    if not len(ours) or any(len(x) != len(ours) for x in (theirs, again or ours)):
        raise BadInput("times must come in pairs", f"{len(theirs)} against {len(ours)}")
    import numpy as np

    mine = np.log(np.asarray(ours, dtype=float))
    within = Within(np.log(np.asarray(theirs, dtype=float)) - mine, rounds)
    between = 0.0
    if spread is not None:
        control = Within(np.log(np.asarray(again, dtype=float)) - mine, rounds) if again else None
        known = updated(spread, within, control)
        between = known.sd * math.sqrt(1 + 1 / len(within.parts))
        reach = student(known.df) * between
    else:
        reach = 0.0
    middle, low, high = within.interval()
    their_waits, our_waits = beyond_habit(*waits)
    slack = (
        max(0.0, middle - without(theirs, their_waits, ours)),
        max(0.0, -middle - without(ours, our_waits, theirs)),
    )
    low = middle - math.hypot(middle - low, reach) - slack[0]
    high = middle + math.hypot(high - middle, reach) + slack[1]
    bounds = _ratio(low), _ratio(middle), _ratio(high)
    outcome = "faster" if bounds[0] > 1 else "slower" if bounds[2] < 1 else "no evidence"
    seen = (high - low) / 2 + POWER_Z * math.hypot(within.error, between)
    return Comparison(
        baseline=baseline,
        time_s=median(theirs),
        speedup=bounds[1],
        low=bounds[0],
        high=bounds[2],
        outcome=outcome,
        detectable=_ratio(seen) - 1,
        pairs=len(ours),
        confidence=CONFIDENCE,
    )


def _ratio(logarithm: float) -> float:
    """e to that power; a number also where two pairs of anything give no bound at all."""
    return math.exp(min(logarithm, 700.0))


def beyond_habit(theirs: Sequence[float], ours: Sequence[float]) -> tuple[list[float], list[float]]:
    """The waits of both sides (s), less what the median round of either waits at least.

    Threads that are woken together wait a little until they are spread over the processors: a habit
    of all alike, which cannot decide who is faster.
    """
    if not len(theirs) or not len(ours):
        return list(theirs), list(ours)
    habit = min(median(theirs), median(ours))
    return [max(0.0, w - habit) for w in theirs], [max(0.0, w - habit) for w in ours]


def without(times: Sequence[float], waits: Sequence[float], others: Sequence[float]) -> float:
    """The median of log(times/others) if `times` had not waited at all (s each); a wait beyond
    MOST_WAITED of a time counts as that."""
    each = zip(times, waits or [0.0] * len(times), others, strict=True)
    return median([math.log((t - min(w, MOST_WAITED * t)) / other) for t, w, other in each])


class Within:
    """Logarithms of paired ratios, by process, and the bootstrap distribution of their median.

    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13 (percentile interval, here
    2,000 resamples within each process, fixed seed). Neighbouring rounds that resemble one another
    hold less evidence than their number: deviations are stretched by sqrt((1 + r) / (1 - r)), r
    being the correlation of neighbours (Bartlett, 1946, for a first-order process).
    """

    def __init__(self, ratios: NDArray[Any], rounds: Sequence[int] = ()) -> None:
        import numpy as np

        counts = list(rounds) or [len(ratios)]
        if sum(counts) != len(ratios):
            raise BadInput("rounds do not add up to the pairs", f"{counts} against {len(ratios)}")
        self.parts: list[NDArray[Any]] = np.split(ratios, np.cumsum(counts)[:-1])
        rng = np.random.default_rng(7)
        draws = [p[rng.integers(0, len(p), (RESAMPLES, len(p)))] for p in self.parts]
        self.stretch = stretch(self.parts)
        self.middle = float(np.median(ratios))
        self._medians = np.median(np.concatenate(draws, axis=1), axis=1)
        self._few = len(ratios) < _FEWEST
        self._ratios = ratios
        self.part_medians = [float(np.median(p)) for p in self.parts]
        each = [float(np.median(d, axis=1).std()) for d in draws]
        self.part_error = self.stretch * math.sqrt(sum(e * e for e in each) / len(each))

    @property
    def error(self) -> float:
        """The standard error of the median, the same process assumed."""
        return max(float(self._medians.std()) * self.stretch, 1e-12)

    def interval(self) -> tuple[float, float, float]:
        """Middle, low and high of the CONFIDENCE interval within these processes."""
        import numpy as np

        if self._few:
            return (self.middle, *self._student())
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(q) for q in np.quantile(self._medians, [tail, 1 - tail]))
        middle = self.middle
        return (
            middle,
            middle - max(0.0, middle - low) * self.stretch,
            middle + max(0.0, high - middle) * self.stretch,
        )

    def _student(self) -> tuple[float, float]:
        """For so few pairs that their extremes are no 99 % interval: Student's, on the mean."""
        count = len(self._ratios)
        sd = float(self._ratios.std(ddof=1)) if count > 1 else 1.0
        reach = student(max(1, count - 1)) * sd / math.sqrt(count) * self.stretch
        return self.middle - reach, self.middle + reach


_FEWEST = 8
"""Least pairs whose extremes hold the median with 99 %: 2 * 0.5**8 < 0.01."""


def stretch(parts: Sequence[Any]) -> float:
    """How much wider neighbours' resemblance makes an interval: at least 1.

    The correlation is pooled over processes, on values cut off at three deviations, and corrected
    for its bias of about -1/n (Kendall, 1954).
    """
    import numpy as np

    top = bottom = 0.0
    for part in parts:
        centred = part - np.median(part)
        cut = 3 * 1.4826 * float(np.median(np.abs(centred))) or np.inf
        centred = np.clip(centred, -cut, cut)
        centred = centred - centred.mean()
        top += float((centred[1:] * centred[:-1]).sum())
        bottom += float((centred * centred).sum())
    if bottom <= 0:
        return 1.0
    length = sum(map(len, parts)) / len(parts)
    found = min(max(top / bottom + 1 / length, 0.0), 0.9)
    return math.sqrt((1 + found) / (1 - found))


def updated(before: Spread, within: Within, control: Within | None) -> Spread:
    """What is known of the spread after the processes of one judgement.

    The medians of the processes differ by it, and each control's median differs from 0 by it
    sqrt(2)-fold; what the rounds alone explain is taken off both. With the prior's degrees of
    freedom this is the scaled inverse chi-square update (Gelman et al., "Bayesian Data Analysis",
    2013, section 2.6), so that a difference divided by it follows Student's t.
    """
    count = len(within.parts)
    if count < 2:
        return before
    middle = sum(within.part_medians) / count
    squares = sum((m - middle) ** 2 for m in within.part_medians)
    squares = max(0.0, squares - (count - 1) * within.part_error**2)
    df = before.df + count - 1
    if control is not None:
        apart = sum(m * m for m in control.part_medians) / 2
        squares += max(0.0, apart - count * control.part_error**2 / 2)
        df += count
    return Spread(sd=math.sqrt((before.df * before.sd**2 + squares) / df), df=df)
