"""ReplayJudge: a judge that answers from the ledger and measures nothing."""

from __future__ import annotations

from epitaxy import timing
from epitaxy.candidate import Candidate
from epitaxy.ledger import Ledger
from epitaxy.problem import Problem
from epitaxy.toolchain import Build
from epitaxy.verdict import Verdict


class ReplayJudge:
    """Answers for `problem` from the verdicts recorded in `ledger`, machine faults left out.

    `machine` is a fingerprint's digest; without one, verdicts of every machine count.
    It never writes to the ledger and does not close it.
    """

    def __init__(self, ledger: Ledger, problem: Problem, machine: str | None = None) -> None:
        self.problem = problem
        self.machine_digest = machine or "replay"
        self._verdicts: dict[str, list[Verdict]] = {}
        for verdict in ledger.verdicts(problem.digest, machine):
            if verdict.status != "machine_fault":
                self._verdicts.setdefault(verdict.candidate, []).append(verdict)

    def judge(self, candidate: Candidate, plan: str = "screen", best: float = 0.0) -> Verdict:
        """The latest recorded verdict under `plan`; a full one also answers for a screening.

        What was never judged so is a machine fault: it says nothing about the candidate.
        Raises BadInput on an unknown plan.
        """
        wanted = timing.plan(plan).name
        known = self._verdicts.get(candidate.digest, [])
        for accepted_plan in (wanted, "full"):
            found = [v for v in known if v.plan == accepted_plan]
            if found:
                return found[-1]
        return Verdict(
            candidate=candidate.digest,
            problem=self.problem.digest,
            machine=self.machine_digest,
            plan=wanted,
            status="machine_fault",
            reason=f"the ledger holds no {wanted} verdict on {candidate.id}: nothing to replay",
            judged_unix_s=timing.unix_s(),
        )

    def baselines(self) -> dict[str, float]:
        """Seconds per call of each baseline: the median over the recorded verdicts."""
        times: dict[str, list[float]] = {}
        for verdicts in self._verdicts.values():
            for verdict in verdicts:
                for row in verdict.comparisons:
                    times.setdefault(row.baseline, []).append(row.time_s)
        return {name: timing.median(seconds) for name, seconds in sorted(times.items())}

    def build(self, candidate: Candidate) -> Build:
        """What is known of the candidate's build: no folder, the recorded log."""
        known = self._verdicts.get(candidate.digest)
        if not known:
            return Build(
                ok=False, folder="", log=f"{candidate.id} was never built: nothing to replay"
            )
        return Build(ok=known[-1].status != "build_failed", folder="", log=known[-1].build_log)

    def close(self) -> None:
        """Nothing runs, so nothing ends."""
