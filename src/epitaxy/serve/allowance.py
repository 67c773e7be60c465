"""What a server may spend on judging: whoever starts it can bound that."""

from __future__ import annotations

import threading
from pathlib import Path

from epitaxy.budget import Budget
from epitaxy.errors import BadInput
from epitaxy.ledger import Ledger
from epitaxy.timing import now_s, unix_s

BEGUN, CHARGED = "mcp budget begun", "mcp budget charged"
"""Kinds of events, of no problem, by which a budget outlives the server."""
IN_ALL = "in all"


def understood(text: str) -> tuple[Budget | None, bool]:
    """What a user wrote, and whether it is "in all". Raises BadInput."""
    plain = text.strip().removesuffix(IN_ALL)
    return (Budget.parse(plain) if text else None), plain != text.strip()


class Allowance:
    """Counts what is judged from now on; without a budget, there is no end.

    One that is `lasting` counts in the ledger, from the first server's start: a server that is
    started again goes on, and servers beside each other share it.
    """

    def __init__(
        self, budget: Budget | None = None, ledger: Path | None = None, lasting: bool = False
    ) -> None:
        self.budget, self.judged = budget, 0
        self.ledger, self._lasting = ledger, lasting and budget is not None
        self._start_s = now_s()
        self._charging = threading.Lock()
        if self._lasting:
            self._go_on()
            self._count()

    @classmethod
    def parse(cls, text: str, ledger: Path | None) -> Allowance:
        """As a user writes it: "20", "30m", "20 in all"; "" is without end. Raises BadInput."""
        budget, lasting = understood(text)
        return cls(budget, ledger, lasting)

    def _go_on(self) -> None:
        with Ledger(self.ledger) as ledger:
            begun = [unix for kind, unix, _ in ledger.events("") if kind == BEGUN]
            if not begun:
                ledger.add_event("", BEGUN, unix_s())
        self._start_s -= max(0.0, unix_s() - begun[0]) if begun else 0.0

    def _count(self) -> None:
        with Ledger(self.ledger) as ledger:
            self.judged = sum(kind == CHARGED for kind, _, _ in ledger.events(""))

    @property
    def left(self) -> int | None:
        """Candidates that may still be judged; None: without end."""
        most = self.budget.candidates if self.budget else None
        return None if most is None else max(0, most - self.judged)

    def ask(self, count: int = 1) -> None:
        """Raise BadInput where `count` more candidates must not be judged."""
        budget = self.budget
        if budget is None:
            return
        if self._lasting:
            self._count()
        if budget.seconds is not None and now_s() - self._start_s >= budget.seconds:
            raise BadInput("the time for judging is over", "export what is proven")
        if (left := self.left) is not None and count > left:
            told = f"{left} of {budget.candidates} candidates may still be judged"
            raise BadInput(told, "ask for fewer" if left else "export what is proven")

    def charge(self, what: str) -> None:
        """One more, before it is begun: one that is cancelled or fails has cost its time too.

        `what`: the tool. Raises BadInput where it must not be.
        """
        with self._charging:
            self.ask()
            self.judged += 1
            if self._lasting:
                with Ledger(self.ledger) as ledger:
                    ledger.add_event("", CHARGED, unix_s(), tool=what)
