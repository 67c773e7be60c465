"""Problems whose file an agent named (`epitaxy mcp --any-problem`): nobody else has looked at what
they call correct. The ledger marks them, and whatever shows them says so."""

from __future__ import annotations

from epitaxy.ledger import Ledger
from epitaxy.problem import Problem
from epitaxy.timing import unix_s

KIND = "named by an agent"
"""Of the event that marks a problem."""
NOTE = (
    "an agent named this problem's file (--any-problem): what it calls correct is the agent's word"
)


def mark(ledger: Ledger, problem: Problem, file: str) -> None:
    """Mark a problem that the ledger does not hold yet: one that it does came from somebody."""
    if any(known.digest == problem.digest for known in ledger.problems()):
        return
    if not note(ledger, problem.digest):
        ledger.add_event(problem.digest, KIND, unix_s(), file=file)


def note(ledger: Ledger, digest: str) -> str:
    """What is to be said of the problem of that digest; "" where it is not marked."""
    return NOTE if any(kind == KIND for kind, _, _ in ledger.events(digest)) else ""
