"""What a server may spend on judging: whoever starts it can bound that."""

from __future__ import annotations

from epitaxy.budget import Budget
from epitaxy.errors import BadInput
from epitaxy.timing import now_s


class Allowance:
    """Counts what is judged from now on; without a budget, there is no end."""

    def __init__(self, budget: Budget | None) -> None:
        self.budget = budget
        self.judged = 0
        self._start_s = now_s()

    def ask(self, count: int = 1) -> None:
        """Raise BadInput where `count` more candidates must not be judged."""
        budget = self.budget
        if budget is None:
            return
        if budget.seconds is not None and now_s() - self._start_s >= budget.seconds:
            raise BadInput("the time for judging is over", "export what is proven")
        if budget.candidates is not None and self.judged + count > budget.candidates:
            left = max(0, budget.candidates - self.judged)
            told = f"{left} of {budget.candidates} candidates may still be judged"
            raise BadInput(told, "ask for fewer" if left else "export what is proven")
