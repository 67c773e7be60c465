"""The agent against a server that speaks the real protocols: whole searches."""

from __future__ import annotations

import _thread
import importlib.util
import json
import signal

import agent_case
import pytest
import torch
from agent_case import DONE, KEY, MODELS, Server, Step, sends, sends_files

from epitaxy.exporting import export_recorded
from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.proposers.agent import Agent, client, conversation
from epitaxy.study import Budget, Study, create_study
from epitaxy.testing import ProposerConformance


@pytest.fixture(scope="module")
def relu(tmp_path_factory):
    return agent_case.problem(tmp_path_factory.mktemp("problem"))


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def search(monkeypatch, relu, ledger):
    """Serve a script, and run a study against it; (study, server)."""
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)

    def run(script, model=MODELS[0], **options):
        with Server(script) as server:
            agent_case.point(monkeypatch.setenv, server)
            study = agent_case.study(relu, ReplayMachine(), ledger, model, **options)
            study.optimize()
        return study, server

    return run


CHEATS = {
    "reads the harness": sends_files(
        {"kernel.cpp": '#include <fstream>\nstd::ifstream f("/proc/self/maps");\n'}, "look around"
    ),
    "patches the timer": sends_files(
        {"forward.py": "import time\ntime.perf_counter = lambda: 0.0\nclass ModelNew(Model): pass"},
        "a faster clock",
    ),
    "knows the outputs": sends("y[i] = 0.25f;", "outputs are nearly constant"),
}


def test_from_a_cold_problem_to_an_exported_kernel(monkeypatch, relu, machine_of, ledger, tmp_path):
    """Everything real but the model: grower, compiler, sandbox, judge; and cheats are told off."""
    script = [sends("y[i] = nothing;", "a typo"), *CHEATS.values(), sends(), DONE]
    with Server(script) as server, machine_of() as machine:
        agent_case.point(monkeypatch.setenv, server)
        agent = Agent().asking(MODELS[0])
        judge = Judge(relu, machine, baselines=["eager"])
        study = Study(relu, machine, agent, ledger, Budget.parse("9"), judge=judge)
        # Without the last judging in fresh processes, which other tests look at.
        while asked := study.ask(1):
            study.tell(asked[0], judge.judge(asked[0], "screen"))
        agent.close()
        judge.close()
        sent = [(c, v) for c, v in study.view().judged() if c.proposer == "agent"]
    told = [a.results[0] for a in server.asked[1:]]
    statuses = ["build_failed", "refused", "refused", "incorrect", "accepted"]
    assert [v.status for _, v in sent] == statuses
    assert "'nothing' was not declared" in told[0]
    assert "fstream" in told[1]
    assert "refused: clocks" in told[2]
    assert "error" in told[3]
    assert "accepted" in told[4]
    assert "eager" in told[4]
    assert agent.stop_reason() == "the model is done: at the limit"
    assert study.best is not None
    card = export_recorded(ledger, sent[-1][0].id, tmp_path / "product")
    spec = importlib.util.spec_from_file_location("exported", card.model)
    exported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exported)
    x = torch.randn(64, 4096)
    assert torch.allclose(exported.ModelNew()(x), torch.relu(x) + 0.5 * x)


@pytest.mark.parametrize("model", MODELS)
def test_every_protocol_carries_a_search(model, search, tmp_path):
    study, server = search(
        [sends(intent="2x as fast"), sends("y[i] = 2.0f;", "cheat with a constant"),
         sends("y[i] = 3.0f;", "3x as fast"), DONE], model,
    )  # fmt: skip
    assert study.stop_reason == "the model is done: at the limit"
    assert study.best[0].intent == "3x as fast"
    assert "The best so far" in server.asked[1].results[0]
    assert "refused: sources: reads a clock" in server.asked[2].results[0]
    spent = study.proposer.spent()
    assert (spent.requests, spent.input_tokens, spent.cached_tokens) == (4, 4800, 4000)
    assert bool(spent.usd) == (not model.startswith("local"))
    assert bool(study.notes) == model.startswith("local"), "an unknown price is said aloud"
    assert KEY in str(server.asked[0].headers)


def test_a_conversation_only_grows_at_its_end_and_is_cached(search):
    _, server = search([sends(intent="2x"), sends("y[i] = 1.0f;", intent="1x"), DONE])
    bodies = [asked.body for asked in server.asked]
    for before, after in zip(bodies, bodies[1:], strict=False):
        assert after["messages"][: len(before["messages"])] == before["messages"]
        assert after["tools"] == before["tools"]
    assert all(body["cache_control"] for body in bodies)
    assert bodies[0]["tools"][-1]["cache_control"]


def test_files_that_are_not_sent_are_the_parents(search):
    study, server = search([sends(intent="2x"), DONE])
    sent = study.best[0]
    assert sent.intent == "2x"
    assert set(sent.files) == {"forward.py", "kernel.cpp", "epx.h"}
    assert "_region0" in sent.files["forward.py"]
    assert "## kernel.cpp" in server.asked[0].first
    assert "#include <cstdint>" not in server.asked[0].first, "the helpers cost no tokens"


def test_islands_differ_in_strategy_and_share_what_they_find(search):
    def script(asked):
        if len(asked.body["messages"]) > 1:
            return DONE
        way = len(asked.first.split("# Your way")[1])
        return sends(f"y[i] = {way}.0f;", f"2x from a way of {way} characters")

    study, server = search(script, islands=3)
    openings = [a.first for a in server.asked if len(a.body["messages"]) == 1]
    assert len({text.split("# Your way")[1] for text in openings}) == 3
    assert len([c for c, _ in study.view().judged() if c.proposer == "agent"]) == 3


def test_tools_of_the_study_are_offered_and_answer(monkeypatch, relu, tmp_path):
    script = [
        Step(calls=[("problem_card", {}), ("chip_card", {}), ("search", {"words": "nowhere"})]),
        Step(calls=[("read_guide", {"name": "x86_avx512"}), ("lessons", {"most": 2})]),
        Step(calls=[("grow", {"genome": "region0(width=8)", "count": 2})]),
        DONE,
    ]
    with Server(script) as server:
        agent_case.point(monkeypatch.setenv, server)
        agent = Agent().asking(MODELS[2])
        study = create_study(
            relu, machine=ReplayMachine(), proposer=agent, budget="9", ledger=tmp_path / "l.sqlite"
        )
        study._judge = agent_case.QuickJudge(study.machine_digest)
        study.optimize()
    cards = [json.loads(text) for text in server.asked[1].results]
    assert cards[0]["name"] == relu.name
    assert cards[2]["worked"] == []
    grown = [c for c, _ in study.view().judged() if "asked for" in c.intent or c.genome]
    assert len(grown) >= 3
    assert server.asked[3].results[0].count("accepted") == 2


def test_a_long_conversation_begins_anew_from_the_evidence(search, monkeypatch):
    monkeypatch.setattr(conversation, "CONTEXT_TOKENS", 2_000)
    long = sends(intent="2x of much talk")
    long.tokens = (3000, 0, 10)
    _, server = search([long, sends("y[i] = 1.0f;", intent="1x"), DONE])
    lengths = [len(asked.body["messages"]) for asked in server.asked]
    assert lengths == [1, 1, 3]
    assert "2x of much talk" in server.asked[1].first


class TestBudgets:
    def test_of_candidates(self, search):
        count = iter(range(100))
        study, _ = search(lambda _: sends(f"y[i] = {next(count)}.0f;"), budget="5")
        assert study.stop_reason == "the budget is spent"

    def test_of_time_ends_while_the_model_thinks(self, search):
        study, server = search(lambda _: Step(text="hm", wait_s=20), budget="2s")
        assert study.stop_reason == "the budget is spent"
        assert study.seconds["search"] < 10
        assert len(server.asked) == 1

    def test_of_money(self, search):
        dear = sends()
        dear.tokens = (1_000_000, 0, 1000)
        study, server = search([dear, DONE], cost="0.5usd")
        assert study.stop_reason == "0.5 US dollars are spent"
        assert len(server.asked) == 1
        assert study.proposer.spent().usd > 0.5

    def test_nothing_gained_for_long(self, search, monkeypatch):
        monkeypatch.setattr(conversation, "PATIENCE", 3)
        count = iter(range(100))
        study, server = search(lambda _: sends(f"y[i] = {next(count)}.0f;", "1x"))
        assert study.stop_reason == "3 candidates in a row brought nothing"
        assert len(server.asked) == 3


class TestResuming:
    @pytest.fixture
    def interruptible(self):
        """A shell's background jobs ignore interrupts, and what they start inherits that."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.usefixtures("interruptible")
    def test_an_interrupt_while_the_model_thinks(self, search, ledger):
        def script(asked):
            if len(asked.body["messages"]) == 1:
                return sends(intent="2x")
            _thread.interrupt_main()
            return Step(text="too late", wait_s=0.5)

        with pytest.raises(KeyboardInterrupt):
            search(script)
        study, server = search([DONE])
        assert study.stop_reason == "the model is done: at the limit"
        assert len(server.asked[0].body["messages"]) == 3
        assert "2.000x" in server.asked[0].results[0]

    def test_a_call_whose_verdict_was_lost_is_judged(self, search, monkeypatch):
        judge = agent_case.QuickJudge.judge

        def die(self, candidate, plan="screen", best=0.0):
            if candidate.intent == "2x":
                raise KeyboardInterrupt
            return judge(self, candidate, plan, best)

        monkeypatch.setattr(agent_case.QuickJudge, "judge", die)
        with pytest.raises(KeyboardInterrupt):
            search([sends(intent="2x")])
        monkeypatch.setattr(agent_case.QuickJudge, "judge", judge)
        study, server = search([DONE])
        assert study.best[0].intent == "2x"
        assert "2.000x" in server.asked[0].results[0]

    def test_another_model_begins_for_itself(self, search):
        search([sends(intent="2x"), DONE])
        _, server = search([DONE], MODELS[1])
        assert len(server.asked[0].body["messages"]) == 2  # system and task

    def test_what_ended_begins_a_new_chapter(self, search):
        search([sends(intent="2x"), DONE])
        _, server = search([DONE])
        assert "best 1" in server.asked[0].first
        assert "2x" in server.asked[0].first

    def test_a_transcript_of_another_version_is_left_alone(self, search, ledger, relu):
        search([sends(intent="2x"), Step(status=401)])
        kind, _, body = ledger.events(relu.digest)[1]
        assert kind == conversation.KIND
        body = body["body"] | {"chapter": 9, "message": {"instructions": "", "kind": "unknown"}}
        ledger.add_event(relu.digest, kind, 0.0, machine=_machine(ledger, relu), body=body)
        _, server = search([DONE])
        assert len(server.asked[0].body["messages"]) == 1


def _machine(ledger, problem):
    return ledger.events(problem.digest)[1][2]["machine"]


class TestAgent(ProposerConformance):
    @pytest.fixture(autouse=True)
    def _served(self, monkeypatch):
        count = iter(range(1000))
        with Server(lambda _: sends(f"y[i] = {next(count)};")) as server:
            agent_case.point(monkeypatch.setenv, server)
            yield

    def make(self):
        return Agent().asking(MODELS[0])
