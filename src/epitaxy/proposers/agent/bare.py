"""The way of a model without the harness: what anybody has who can build, check and time a kernel.

It is there to be compared with: `benchmarks/harness.py`.
"""

from __future__ import annotations

from epitaxy import trim
from epitaxy.candidate import Candidate
from epitaxy.proposer import Tool, View
from epitaxy.proposers.agent import calls
from epitaxy.proposers.agent.context import FOLDER, filled
from epitaxy.verdict import Verdict

FORMAT = FOLDER / "prompts" / "format.md"
"""How a candidate's files look, and what is refused."""


class Bare:
    """The problem's file and the judge: no card, guide, grower, ledger, profile or diagnosis."""

    cold = False

    def system(self, view: View) -> str:
        """How a candidate looks."""
        return filled("bare_system.md.j2")

    def opening(self, view: View, strategy: str, parent: Candidate | None) -> str:
        """The problem's file; the fastest kernel of its own, where there is one already."""
        return filled(
            "bare_task.md.j2", problem=view.problem, parent=parent, left=view.left(),
            files=dict(parent.files) if parent else {},
        )  # fmt: skip

    def verdict(self, candidate: Candidate, found: Verdict, best: float) -> str:
        """Whether it is correct; its time and that of PyTorch's best; else the errors."""
        log = trim.compiler(found.build_log) if found.status == "build_failed" else ""
        return filled("bare_verdict.md.j2", candidate=candidate, verdict=found, log=log)

    def tools(self, view: View) -> tuple[Tool, ...]:
        """To judge, to end, and to read its own files again."""
        return calls.OWN
