"""The agent against a server that speaks the real protocols, and the real judge."""

from __future__ import annotations

import agent_case
import pytest
from agent_case import KEY, Server, Step, sends

from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.proposers.agent import Agent
from epitaxy.study import Budget, Study

MODELS = ("anthropic/claude-haiku-4-5", "openai/gpt-5-mini", "local/some-model")
VARIABLES = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    "local": ("EPITAXY_API_KEY", "EPITAXY_BASE_URL", "/v1"),
}


@pytest.fixture
def told(monkeypatch):
    """Point every provider to a server, with a planted key."""

    def point(server):
        for key, url, path in VARIABLES.values():
            monkeypatch.setenv(key, KEY)
            monkeypatch.setenv(url, server.url + path)

    return point


@pytest.fixture(scope="module")
def relu(tmp_path_factory):
    return agent_case.problem(tmp_path_factory.mktemp("problem"))


@pytest.fixture(scope="module")
def judge(relu, machine_of):
    with machine_of() as machine:
        it = Judge(relu, machine, baselines=["eager"])
        yield it
        it.close()


def test_a_model_writes_a_kernel_that_the_judge_accepts(told, relu, judge, tmp_path):
    steps = [
        sends("y[i] = nothing;", "a typo"),
        sends(intent="plain loop"),
        Step(calls=[("finish", {"reason": "at the limit"})]),
    ]
    with Server(steps) as server, Ledger(tmp_path / "ledger.sqlite") as ledger:
        told(server)
        agent = Agent().asking(MODELS[0])
        study = Study(relu, judge.machine, agent, ledger, Budget.parse("9"), judge=judge)
        # Without the last judging against every baseline, which other tests look at.
        while asked := study.ask(1):
            study.tell(asked[0], study.judge.judge(asked[0], "screen"))
        agent.close()
        sent = [(c, v) for c, v in study.view().judged() if c.proposer == "agent"]
    assert [v.status for _, v in sent] == ["build_failed", "accepted"]
    assert "'nothing' was not declared" in server.asked[1].results[0]
    assert "accepted" in server.asked[2].results[0]
    assert sent[1][0].intent == "plain loop"
    assert agent.stop_reason() == "the model is done: at the limit"


@pytest.mark.parametrize("model", MODELS)
def test_every_protocol_carries_a_search(model, told, relu, tmp_path):
    steps = [
        sends(intent="2x as fast"),
        sends("y[i] = 2.0f;", "cheat with a constant"),
        sends("y[i] = 3.0f;", "3x as fast"),
        Step(text="Done.", calls=[("finish", {"reason": "at the limit"})]),
    ]
    with Server(steps) as server, Ledger(tmp_path / "ledger.sqlite") as ledger:
        told(server)
        study = agent_case.study(relu, ReplayMachine(), ledger, model)
        study.optimize()
    assert study.stop_reason == "the model is done: at the limit"
    assert study.best[0].intent == "3x as fast"
    assert "The best so far" in server.asked[1].results[0]
    assert "refused: sources: reads a clock" in server.asked[2].results[0]
    spent = study.proposer.spent()
    assert (spent.requests, spent.input_tokens, spent.cached_tokens) == (4, 4800, 4000)
    assert bool(spent.usd) == (not model.startswith("local"))
    assert bool(study.notes) == model.startswith("local"), "an unknown price is said aloud"
    assert KEY in str(server.asked[0].headers)
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert KEY.encode() not in path.read_bytes()
