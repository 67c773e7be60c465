"""Budget: what a study may spend."""

from __future__ import annotations

import re

from epitaxy.errors import BadInput
from epitaxy.record import Record, record


@record
class Budget(Record):
    """What a study may spend: seconds of search, judged candidates, or both, whichever ends first;
    of a language model, so many US dollars and tokens (read and written) at most."""

    seconds: float | None = None
    candidates: int | None = None
    usd: float | None = None
    tokens: int | None = None

    def validate(self) -> None:
        if self.seconds is None and self.candidates is None:
            raise BadInput("a budget is seconds or candidates", "set one of them")
        if any(n is not None and not n > 0 for n in (self.seconds, self.candidates)):
            raise BadInput("a budget must be more than 0", "try 2m, 90s or 200")
        if any(n is not None and not n > 0 for n in (self.usd, self.tokens)):
            raise BadInput("a cost must be more than 0", "try 2usd or 200000tokens")

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
        """This budget with at most so many US dollars ("2usd", "0.5 usd") or tokens
        ("200000tokens"); "" sets no limit. Raises BadInput."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(usd|tokens)\s*", text, re.IGNORECASE)
        if not text:
            return self
        if not match:
            raise BadInput(f"cost {text!r} is not understood", "try 2usd, 0.5usd or 200000tokens")
        if match[2].lower() == "usd":
            return self.replace(usd=float(match[1]))
        return self.replace(tokens=int(float(match[1])))
