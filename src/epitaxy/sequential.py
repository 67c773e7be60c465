"""A sequential test that dismisses hopeless candidates after a few rounds, and rarely errs.

A round speaks against a candidate when it took more than `hopeless` times the baseline's time of
the same round, its waits for a processor taken off. Of a candidate that deserves to be measured,
disturbances make at most one round in ten (BY_CHANCE) look so; of a hopeless one nine in ten. The
likelihood ratio of the two is a martingale at most while the first holds, so by Ville's inequality
it ever exceeds 1 / ERROR with probability of at most ERROR, however often one looks: Wald,
"Sequential tests of statistical hypotheses", 1945; Ville, "Etude critique de la notion de
collectif", 1939. Rounds need not be independent, as long as none speaks against a deserving
candidate with more than BY_CHANCE given those before it.

With these numbers three rounds in a row are enough (9**3 = 729 > 500), and each round in favour
takes one away.
"""

from __future__ import annotations

import math

HOPELESS = 2.0
"""A round this many times as long as the baseline's speaks against the candidate, unless a search
knows better ones: then that many times as long as what is wanted."""
BY_CHANCE, HABIT = 0.1, 0.9
ERROR = 1 / 500
"""How often a candidate that deserves to be measured is dismissed: at most this."""


class Trial:
    """One candidate against one baseline, round by round."""

    def __init__(self, hopeless: float = HOPELESS) -> None:
        self.hopeless = hopeless
        self.rounds = 0
        self._log_ratio = 0.0
        self.dismissed = False

    def add(self, theirs_s: float, ours_s: float, waited_s: float = 0.0) -> bool:
        """Count one round (s per call; `waited_s` of `ours_s` is not the candidate's doing).

        Whether it is dismissed, from now on for good.
        """
        self.rounds += 1
        if ours_s - waited_s > self.hopeless * theirs_s:
            self._log_ratio += math.log(HABIT / BY_CHANCE)
        else:
            self._log_ratio += math.log((1 - HABIT) / (1 - BY_CHANCE))
        self.dismissed = self.dismissed or self._log_ratio >= math.log(1 / ERROR)
        return self.dismissed
