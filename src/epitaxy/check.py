"""Check: one reason to refuse a candidate. One file, and one bad candidate that only it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epitaxy.candidate import Candidate
from epitaxy.problem import Problem
from epitaxy.verdict import Finding


class Check(Protocol):
    """A static check of a candidate's sources, run before anything is built."""

    name: str

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """Findings; one of severity "refusal" ends the judgement. Must not run the candidate."""
