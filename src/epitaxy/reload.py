"""Parameters loaded anew: what a candidate must answer once its weights are others.

Packing weights at the first call is not charged, but a kernel that keeps the packed ones for ever
is wrong as soon as its user loads a checkpoint.
"""

from __future__ import annotations

import secrets
from typing import Any

from epitaxy.cases import Case, Cases


class Reload:
    """Other parameters for a problem, with the outputs of case 0 under them, made when wanted."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases
        self._made: tuple[dict[str, Any], Case, float] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """Parameters by name; empty where the problem has none that can be others."""
        return self._make()[0]

    def error(self, outputs: Any) -> float:
        """By how much `outputs` are off, as a part of what is allowed: above 1 they are wrong."""
        _, case, limit = self._make()
        return self._cases.error(outputs, case) / max(limit, 1e-300)

    def _make(self) -> tuple[dict[str, Any], Case, float]:
        if self._made is None:
            reference, first = self._cases.reference, self._cases.get(0)
            with reference.other_parameters(secrets.randbits(40)) as differ:
                state = {name: value.clone() for name, value in reference.state().items()}
                case = Case(reference, first.distribution, first.inputs) if differ else first
                usable = differ and not case.unusable
                self._made = state if usable else {}, case, self._cases.limit(case)
        return self._made
