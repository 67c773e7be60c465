"""Checked: the judge's path for a chip that is not here, where nothing can be timed.

Static checks and the build are those of every candidate, at the problem's own sizes and by the
chip's own compiler. What is run is the toolchain's stand-in (an interpreter on this machine's CPU),
in the same confined worker and against the same oracle, on every distribution. Where the sizes are
more than an interpreter can bear, the reference makes a smaller problem of the same module and the
candidate's own smaller form takes its place: the same kernels but for their numbers, which is
verified. Static metrics then give a predicted cost, by which candidates are ranked.
"""

from __future__ import annotations

import contextlib
from typing import Any

from epitaxy import correct, timing
from epitaxy.candidate import Candidate
from epitaxy.cases import Repeats
from epitaxy.errors import BadCandidate
from epitaxy.guards import Refused
from epitaxy.judge import Judge
from epitaxy.predict import predicted_cost
from epitaxy.problem import Problem, smaller
from epitaxy.timing import Plan
from epitaxy.toolchain import Build, aimed
from epitaxy.verdict import Finding, Verdict


def judge_for(machine: Any) -> type[Judge]:
    """The judge for a machine: one without a clock when the machine has none."""
    return Judge if getattr(machine, "clock", True) else CheckingJudge


class CheckingJudge(Judge):
    """As the judge, without baselines, times and speed-ups."""

    _inner: CheckingJudge | None = None
    _small: Problem | None = None

    def baselines(self) -> dict[str, float]:
        """None: a chip that is not here runs nothing. The problem is looked at once."""
        if not self._ready:
            self._lint()
            self._small = smaller(self.problem)
            self._ready = True
        return {}

    def judge(self, candidate: Candidate, plan: str = "screen", best: float = 0.0) -> Verdict:
        """The verdict on `candidate`, of basis checked or compiled; `best` ends nothing early."""
        self.baselines()
        return self._walk(candidate, timing.plan(plan), self._checked)

    def close(self) -> None:
        """End the processes."""
        if self._inner is not None:
            self._inner.close()
        super().close()

    def _verdict(
        self, candidate: Candidate, chosen: Plan, facts: dict[str, Any], status: str, reason: str
    ) -> Verdict:
        ran = "checked" if getattr(self.machine, "compiles", True) else "simulated"
        basis = {"basis": "compiled" if status == "unchecked" else ran}
        return super()._verdict(candidate, chosen, {**facts, **basis}, status, reason)

    def _checked(
        self, candidate: Candidate, build: Build, chosen: Plan, facts: dict[str, Any]
    ) -> None:
        limit = facts["floor"] = self.floor()
        metrics = dict(facts.get("metrics", {}))
        metrics["bytes_least"] = self.problem.work.bytes
        metrics["intensity"] = self.problem.work.flops / max(1.0, self.problem.work.bytes)
        metrics["predicted_cost"] = predicted_cost(metrics, self.problem.work, self.chip, limit)
        facts["metrics"] = metrics
        facts["findings"] += self.notes
        if self._small is None:
            self._run_here(candidate, build, chosen, facts)
            return
        if self._inner is None:
            self._inner = CheckingJudge(self._small, self.machine, report=self._report)
        made = self._reduced(candidate)
        facts["findings"].append(_note(f"run at smaller sizes: {_sizes(self._small)}"))
        self._inner._run_here(candidate, made, chosen, facts)

    def _reduced(self, candidate: Candidate) -> Build:
        """The candidate's smaller form. Raises Refused where there is none."""
        toolchain = aimed(candidate.toolchain, self.chip)
        try:
            found = toolchain.reduced(candidate, self._small, self._cache)
        except BadCandidate as error:
            raise Refused("unchecked", error.message) from None
        if found is None:
            raise Refused(
                "unchecked", "it has no form for the smaller sizes that an interpreter can bear"
            )
        return found  # type: ignore[no-any-return]

    def _run_here(
        self, candidate: Candidate, build: Build, chosen: Plan, facts: dict[str, Any]
    ) -> None:
        """Every distribution under the stand-in; in the full plan fences and other weights too."""
        cases, job = Repeats(self.cases), self._job(build)
        try:
            with contextlib.ExitStack() as stack:
                worker = stack.enter_context(self.machine.start(job))
                self._prepare(worker)
                correct.check(self._place, worker, chosen, facts, cases)
            if chosen.processes > 1:
                facts["findings"] += correct.harsh(self._place, candidate, job, self._cache)
        finally:
            facts["determinism"] = cases.determinism


def _sizes(problem: Problem) -> str:
    return ", ".join(str(s) for s in problem.inputs if s is not None)


def _note(message: str) -> Finding:
    return Finding(check="stand-in", severity="note", message=message)
