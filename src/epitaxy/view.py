"""View: what proposers see of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epitaxy.candidate import Candidate
from epitaxy.ledger import Judged
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.proposer import Left, Tool
from epitaxy.timing import unix_s

if TYPE_CHECKING:
    from epitaxy.study import Study


class View:
    """What proposers see: the ledger's records of this problem on this machine."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self.problem = study.problem
        self.seed = study.seed
        own = getattr(study.machine, "toolchains", None)
        self.toolchains = tuple(own if own is not None else plugins("toolchains").names())

    @property
    def chip(self) -> Any:
        """The machine's chip."""
        return self._study.machine.chip()

    def judged(self) -> Sequence[Judged]:
        """Every candidate with its latest verdict, oldest first."""
        return tuple(self._study.known.values())

    def pending(self) -> Sequence[Candidate]:
        """Asked for and not yet judged."""
        return tuple(self._study.waiting.values())

    def history(self) -> Sequence[tuple[Problem, str, float]]:
        """(problem, genome, speed-up) of accepted candidates of every problem on this machine."""
        return self._study.ledger.outcomes(self._study.machine_digest)

    def best(self, count: int = 1) -> Sequence[Judged]:
        """The fastest accepted ones, fastest first."""
        found = [(c, v) for c, v in self.judged() if v.accepted]
        return sorted(found, key=lambda p: -p[1].merit)[:count]

    def tools(self) -> Sequence[Tool]:
        """What proposers may ask besides."""
        return self._study.tools(self._study)

    def left(self) -> Left:
        """What remains of the budget."""
        return self._study.left()

    def note(self, kind: str, **body: Any) -> None:
        """Keep plain data in the ledger, for this problem and machine."""
        kept = {"machine": self._study.machine_digest, "body": body}
        self._study.ledger.add_event(self.problem.digest, kind, unix_s(), **kept)

    def notes(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """What was kept so, oldest first."""
        machine = self._study.machine_digest
        events = self._study.ledger.events(self.problem.digest)
        return [b["body"] for k, _, b in events if k == kind and b.get("machine") == machine]

    def say(self, phase: str) -> None:
        """Show what is going on."""
        self._study.say(phase)
