"""Proposer: where candidates come from. It sees the ledger's view, never the judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.problem import Problem
from epitaxy.verdict import Verdict


class View(Protocol):
    """What every proposer may see of a study."""

    problem: Problem
    chip: Chip
    seed: int
    toolchains: Sequence[str]

    def judged(self) -> Sequence[tuple[Candidate, Verdict]]:
        """Every candidate of this problem with its latest verdict, oldest first."""

    def pending(self) -> Sequence[Candidate]:
        """Candidates asked for and not yet judged."""

    def history(self) -> Sequence[tuple[Problem, str, float]]:
        """(problem, genome, speed-up) of accepted candidates with a genome, of every problem that
        was studied on this machine."""

    def best(self, count: int = 1) -> Sequence[tuple[Candidate, Verdict]]:
        """The fastest accepted ones, fastest first."""


class Proposer(Protocol):
    """What a source of candidates must offer; `testing.ProposerConformance` checks it."""

    name: str

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` new candidates; an empty answer says that no move is left."""

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """Take note of what became of them."""

    def stop_reason(self) -> str:
        """Why the last answer was empty, in one line."""
