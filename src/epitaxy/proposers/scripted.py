"""A proposer that reads candidates from a list: for tests, and to judge known sources again."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.candidate import Candidate
from epitaxy.proposer import View
from epitaxy.verdict import Verdict


def plugin() -> Scripted:
    """A script without lines."""
    return Scripted()


class Scripted:
    """Proposes `candidates` in order, each once; those judged or pending already are skipped."""

    name = "scripted"

    def __init__(self, candidates: Sequence[Candidate] = ()) -> None:
        self._left = list(candidates)
        self.learned: list[Verdict] = []

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """The next `count` candidates of the script that are for this problem and are new."""
        known = {c.digest for c, _ in view.judged()} | {c.digest for c in view.pending()}
        found: list[Candidate] = []
        while self._left and len(found) < count:
            candidate = self._left.pop(0)
            if candidate.problem == view.problem.digest and candidate.digest not in known:
                known.add(candidate.digest)
                found.append(candidate)
        return found

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """Keep the verdicts in `learned`; the script stays as it is."""
        self.learned.extend(verdicts)

    def stop_reason(self) -> str:
        """Why the last answer was short."""
        return "the script is at its end"
