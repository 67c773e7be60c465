"""Budget: what a study may spend."""

from __future__ import annotations

import re

from epitaxy.errors import BadInput
from epitaxy.record import Record, record


@record
class Budget(Record):
    """What a study may spend: seconds of search, or judged candidates; and US dollars at most."""

    seconds: float | None = None
    candidates: int | None = None
    usd: float | None = None

    def validate(self) -> None:
        if (self.seconds is None) == (self.candidates is None):
            raise BadInput("a budget is seconds or candidates", "set exactly one")
        if not ((self.seconds or 0) > 0 or (self.candidates or 0) > 0):
            raise BadInput("a budget must be more than 0", "try 2m, 90s or 200")
        if self.usd is not None and not self.usd > 0:
            raise BadInput("a cost must be more than 0", "try 2usd")

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """ "90s", "2m", "1h" are times; "200" is judged candidates. Raises BadInput."""
        if isinstance(text, Budget):
            return text
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", str(text))
        if not match:
            raise BadInput(f"budget {text!r} is not understood", "try 2m, 90s or 200 (candidates)")
        number, unit = float(match[1]), match[2]
        if unit:
            return cls(seconds=number * {"s": 1, "m": 60, "h": 3600}[unit])
        if number != int(number):
            raise BadInput(f"budget {text!r} is not a whole number of candidates", "try 200 or 90s")
        return cls(candidates=int(number))

    def costing(self, text: str) -> Budget:
        """This budget with at most so many US dollars: "2usd", "0.5 usd"; "" sets no limit."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*usd\s*", text, re.IGNORECASE)
        if text and not match:
            raise BadInput(f"cost {text!r} is not understood", "try 2usd or 0.5usd")
        return self.replace(usd=float(match[1])) if match else self
