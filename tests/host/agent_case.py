"""What the tests of the agent share: a small problem, kernels for it, a judge that is quick."""

from __future__ import annotations

from typing import Any

from relu_case import HONEST, KERNEL, problem
from scripted_model import Asked, Server, Step

from epitaxy.budget import Budget
from epitaxy.proposers.agent import Agent
from epitaxy.study import Study
from epitaxy.timing import unix_s
from epitaxy.toolchain import Build
from epitaxy.verdict import Comparison, Floor, Verdict

MODELS = ("anthropic/claude-haiku-4-5", "openai/gpt-5-mini", "local/some-model")
VARIABLES = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    "local": ("EPITAXY_API_KEY", "EPITAXY_BASE_URL", "/v1"),
}
KEY = "sk-planted-0123456789-never-written"


def sends(body: str = HONEST, intent: str = "plain loop", **more: Any) -> Step:
    """A step in which the model sends a kernel to the judge."""
    return sends_files({"kernel.cpp": KERNEL.replace("BODY", body)}, intent, **more)


def sends_all(body: str = HONEST, intent: str = "plain loop") -> Step:
    """The same without a parent to take forward.py from."""
    texts = {"kernel.cpp": KERNEL.replace("BODY", body)}
    return sends_files({**texts, "forward.py": "class ModelNew(Model): pass\n"}, intent)


def sends_files(files: dict[str, str], intent: str, **more: Any) -> Step:
    """The same with any files."""
    listed = [{"name": n, "text": t} for n, t in files.items()]
    return Step(calls=[("judge", {"files": listed, "intent": intent, **more})])


class QuickJudge:
    """Accepts whatever comes, at speed-ups by intent ("2.5x ..."); refuses "cheat ..."."""

    def __init__(self, machine_digest: str) -> None:
        self.machine = machine_digest
        self.judged: list[str] = []

    def baselines(self) -> dict[str, float]:
        """One."""
        return {"eager": 1e-3}

    def build(self, candidate: Any) -> Build:
        """Nothing is built."""
        return Build(ok=True, folder="")

    def judge(self, candidate: Any, plan: str = "screen", best: float = 0.0) -> Verdict:
        """By the candidate's intent alone."""
        self.judged.append(candidate.intent)
        told = {"candidate": candidate.digest, "problem": candidate.problem, "plan": plan}
        told |= {"machine": self.machine, "judged_unix_s": unix_s()}
        if candidate.intent.startswith("cheat"):
            return Verdict(**told, status="refused", reason="sources: reads a clock")
        head = candidate.intent.split("x")[0]
        ratio = float(head) if head.replace(".", "").isdigit() else 1.5
        time_s = 1e-3 / ratio
        against = Comparison(
            baseline="eager", time_s=1e-3, speedup=ratio, low=ratio, high=ratio, detectable=0.01,
            outcome="faster" if ratio > 1 else "no evidence", pairs=9,
        )  # fmt: skip
        limit = Floor(time_s=1e-5, limit="DRAM", compute_s=0.0, memory_s=1e-5, measured=True)
        return Verdict(
            **told, status="accepted", time_s=time_s, comparisons=(against,), floor=limit,
            samples={"candidate": (time_s,), "eager": (1e-3,)},
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to close."""


def study(problem: Any, machine: Any, ledger: Any, model: str, budget: str = "30", **more: Any):
    """A study with an agent for `model` and the quick judge."""
    islands, cost = more.pop("islands", 1), more.pop("cost", "")
    spend = Budget.parse(budget).costing(cost)
    made = Study(problem, machine, Agent().asking(model, islands), ledger, spend, **more)
    made._judge = QuickJudge(made.machine_digest)
    return made


def point(set_variable: Any, server: Server) -> None:
    """Point every provider to `server`, with a planted key; `set_variable(name, value)` does it."""
    for key, url, path in VARIABLES.values():
        set_variable(key, KEY)
        set_variable(url, server.url + path)


DONE = Step(calls=[("finish", {"reason": "at the limit"})])

__all__ = ["HONEST", "Asked", "Server", "Step", "problem"]
