"""The agent against models and servers that misbehave, and its keys that nobody may see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import agent_case
import pytest
from agent_case import DONE, KEY, MODELS, Server, Step
from agent_case import sends_all as sends

from epitaxy.cli import UNUSABLE, main
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.proposer import Tool
from epitaxy.proposers import agent
from epitaxy.proposers.agent import Agent, choice, client, conversation
from epitaxy.proposers.agent.calls import split
from epitaxy.study import Study, View
from epitaxy.testing import MODEL, PROBLEM

ANTHROPIC, OPENAI = MODELS[:2]
EACH = pytest.mark.parametrize("model", [ANTHROPIC, OPENAI])


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No start from the grower, which would import PyTorch, and short pauses."""
    monkeypatch.setattr(agent, "START", "scripted")
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def search(monkeypatch, tmp_path):
    """Serve a script, and run a study against it: (study, server, phases told)."""

    def run(script, model=ANTHROPIC, **options):
        told: list[str] = []
        with Server(script) as server, Ledger(tmp_path / "ledger.sqlite") as ledger:
            agent_case.point(monkeypatch.setenv, server)
            study = agent_case.study(PROBLEM, ReplayMachine(), ledger, model, **options)
            study.optimize([lambda progress: told.append(progress.phase)])
            study.events = ledger.events(PROBLEM.digest)
        return study, server, told

    return run


MALFORMED = {
    "no JSON": ("judge", '{"files": [', "not JSON"),
    "no object": ("judge", "[1, 2]", "expected object"),
    "nothing": ("judge", {}, "'files' is missing"),
    "a wrong type": ("judge", {"files": "kernel.cpp", "intent": "x"}, "expected array"),
    "a wrong item": ("judge", {"files": [{"name": "a.cpp"}], "intent": "x"}, "'text' is missing"),
    "no file": ("judge", {"files": [], "intent": "x"}, "no file is sent"),
    "a path": ("judge", {"files": [{"name": "forward.py", "text": ""},
                                   {"name": "../x", "text": ""}], "intent": "x"}, "leaves"),
    "no entry": ("judge", {"files": [{"name": "a.cpp", "text": ""}], "intent": "x"}, "forward.py"),
    "an unknown parent": ("judge", {"files": [{"name": "a.cpp", "text": ""}], "intent": "x",
                                    "parent": "ffffffffffff"}, "unknown candidate"),
    "an unknown argument": ("finish", {"reason": "x", "certain": True}, "unknown argument"),
    "an unknown tool": ("shell", {"command": "env"}, "unknown tool 'shell'"),
    "an unknown file": ("read_file", {"candidate": "ffff", "file": "x"}, "unknown candidate"),
    "a sweep of nothing": ("grow", {"vary": {"region0.unroll": "4"}}, "no list"),
    "too many": ("grow", {"count": 99}, "ask for 1 to 4"),
}  # fmt: skip


@EACH
def test_malformed_calls_are_told_and_mended(search, model):
    calls = [Step(calls=[(tool, given)]) for tool, given, _ in MALFORMED.values()]
    study, server, _ = search([*calls, sends(intent="2x"), DONE], model)
    for (name, (_, _, says)), asked in zip(MALFORMED.items(), server.asked[1:], strict=False):
        assert asked.results[0].startswith("error: "), name
        assert says in asked.results[0], name
    assert study.best[0].intent == "2x"
    assert study.stop_reason == "the model is done: at the limit"


def test_several_calls_at_once_are_all_answered(search):
    files = sends(intent="2x").calls[0][1]["files"]
    both = Step(calls=[("judge", {"files": files, "intent": "2x"}), ("nothing", {}),
                       ("judge", {"files": files, "intent": "the same"})])  # fmt: skip
    _, server, _ = search([both, DONE])
    results = server.asked[1].results
    assert "2.000x" in results[0]
    assert results[1].startswith("error: unknown tool")
    assert len(results) == 3


@EACH
def test_a_refusal_ends_it_with_the_models_words(search, model):
    study, server, _ = search([Step(text="I cannot help with that.", refuse=True)], model)
    assert study.stop_reason == "the model refused: I cannot help with that."
    assert len(server.asked) == 1


@EACH
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_stream_that_breaks_off_is_asked_for_again(search, model, cut):
    broken = sends("y[i] = 1.0f;", "9x that never arrived whole")
    broken.cut = cut
    study, server, told = search([broken, sends(intent="2x"), DONE], model)
    assert study.best[0].intent == "2x"
    assert len(server.asked) == 3
    assert server.asked[0].body == server.asked[1].body
    assert any("again in" in phase for phase in told)


@EACH
def test_a_limit_of_rate_is_waited_for_as_the_server_asks(search, model):
    start = time.monotonic()
    limited = Step(status=429, headers={"retry-after": "1"})
    study, server, told = search([limited, sends(intent="2x"), DONE], model)
    assert time.monotonic() - start > 1
    assert len(server.asked) == 3
    assert any("429" in phase and "again in 1 s" in phase for phase in told)
    assert study.best[0].intent == "2x"


@EACH
def test_servers_in_trouble_are_tried_again(search, model):
    troubles = [Step(status=500), Step(status=529), Step(status=503), Step(status=502)]
    study, server, _ = search([*troubles, sends(intent="2x"), DONE], model)
    assert study.best[0].intent == "2x"
    assert len(server.asked) == 6


@EACH
def test_a_server_that_stays_in_trouble_ends_it(search, model):
    study, server, _ = search(lambda _: Step(status=500, says="out of order"), model)
    assert "does not answer: 500 out of order" in study.stop_reason
    assert len(server.asked) == client.TRIES


@EACH
def test_a_pause_of_hours_is_not_waited_for(search, model):
    study, server, _ = search([Step(status=429, headers={"retry-after": "7200"})], model)
    assert "does not answer" in study.stop_reason
    assert len(server.asked) == 1


def test_no_server_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("EPITAXY_BASE_URL", "http://127.0.0.1:9/v1")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        study = agent_case.study(PROBLEM, ReplayMachine(), ledger, "local/nobody")
        study.optimize()
    assert "local does not answer" in study.stop_reason


def test_a_model_that_repeats_itself_is_warned_and_ended(search):
    same = Step(calls=[("read_file", {"candidate": "ffff", "file": "x"})])
    study, server, _ = search(lambda _: same)
    assert "repeats itself: read_file" in study.stop_reason
    assert len(server.asked) == conversation.STUCK
    assert "3th time" in server.asked[conversation.SAME].results[0]


def test_a_model_that_sends_the_same_kernel_again_is_told_its_verdict(search):
    study, server, _ = search([sends(intent="2x"), sends(intent="2x, once more"), DONE])
    assert "judged already" in server.asked[2].results[0]
    assert sum(c.proposer == "agent" for c, _ in study.view().judged()) == 1


def test_a_model_that_calls_no_tool_is_asked_to_and_ended(search):
    study, server, _ = search([Step(text="Let me think."), Step(text="A fine day.")])
    assert study.stop_reason == "the model calls no tool: A fine day."
    assert "Nothing was judged" in server.asked[1].results[0]


def test_a_model_that_only_reads_is_ended(search):
    count = iter(range(1000))
    step = lambda _: Step(calls=[("read_file", {"candidate": f"ffff{next(count)}", "file": "x"})])  # noqa: E731
    study, server, _ = search(step)
    assert study.stop_reason == f"{conversation.IDLE} answers in a row without a candidate"
    assert len(server.asked) == conversation.IDLE


def test_what_was_said_can_be_read(search, tmp_path, capsys):
    first = sends(intent="2x")
    first.text = "I begin."
    search([first, DONE])
    ledger = ["--ledger", str(tmp_path / "ledger.sqlite")]
    assert main(["transcript", PROBLEM.id, *ledger]) == 0
    page = capsys.readouterr().out
    said = (
        "System prompt",
        "I begin.",
        "Calls `judge`",
        agent_case.HONEST,
        "2.000x",
        "at the limit",
    )
    places = [page.index(text) for text in said]
    assert places == sorted(places)
    assert main(["transcript", PROBLEM.id, "--with", "grower", *ledger]) == UNUSABLE
    assert "grower asks no model" in capsys.readouterr().err


class TestKeys:
    @EACH
    def test_a_server_that_echoes_the_key_does_not_get_it_written(
        self, search, model, tmp_path, capfd
    ):
        echo = Step(text=f"your key is {KEY}", calls=[("finish", {"reason": f"I know {KEY}"})])
        inside = sends(f"y[i] = 2.0f; // {KEY}", f"2x by {KEY}")
        study, server, told = search(
            [Step(status=500, says=f"bad day, {KEY}"), inside, echo], model
        )
        assert KEY in str(server.asked[0].headers)
        assert study.best[0].intent == "2x by [key]"
        told += [study.stop_reason, *capfd.readouterr()]
        study, _, more = search([Step(status=401, says=f"wrong key {KEY}")], model)
        assert "refuses: 401 wrong key [key]" in study.stop_reason
        assert not any(KEY in text for text in [*told, *more, study.stop_reason])
        assert "[key]" in str(study.events)
        for path in (p for p in tmp_path.rglob("*") if p.is_file()):
            assert KEY.encode() not in path.read_bytes(), path

    def test_it_is_not_in_what_candidates_see(self, monkeypatch, tmp_path):
        from epitaxy.machines._zygote import clean_environment

        for name, _, _ in agent_case.VARIABLES.values():
            monkeypatch.setenv(name, KEY)
        assert KEY not in str(clean_environment(tmp_path, {}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--with", "agent"], "no model is named — give --model provider/model"),
        (["--with", "agent", "--model", "gpt"], "'gpt' is not understood — name it provider/model"),
        (["--with", "agent", "--model", "antropic/x"], "did you mean 'anthropic'?"),
        (["--with", "agent", "--model", "openai/x"], "no key for openai — set OPENAI_API_KEY"),
        (["--with", "agent", "--model", "local/x"], "where is local/x? — set EPITAXY_BASE_URL"),
        (["--with", "agent", "--model", "ollama/x", "--islands", "9"], "9 islands"),
        (["--model", "openai/x"], "grower asks no model"),
        (["--max-cost", "2usd"], "grower asks no model"),
        (["--with", "agent", "--model", "ollama/x", "--max-cost", "much"], "try 2usd"),
    ],
)
def test_a_wrong_word_is_one_line(monkeypatch, capsys, options, says):
    for name in [n for n in os.environ if n.endswith(("_API_KEY", "_BASE_URL"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("EPITAXY_MODEL", raising=False)
    assert main(["optimize", "m.py", *options]) == UNUSABLE
    line = capsys.readouterr().err.strip()
    assert says in line
    assert len(line.splitlines()) == 1


def test_without_a_model_the_plugin_says_what_is_missing():
    from epitaxy.errors import BadInput
    from epitaxy.testing import SampleView

    with pytest.raises(BadInput, match="no model"):
        Agent().propose(SampleView(), 1)


KILLED = """
import sys
sys.path[:0] = [sys.argv[1]]
import agent_case
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.proposer import Tool
from epitaxy.proposers import agent
from epitaxy.testing import PROBLEM
agent.START = "scripted"
with Ledger(sys.argv[2]) as ledger:
    agent_case.study(PROBLEM, ReplayMachine(), ledger, sys.argv[3]).optimize()
"""


def test_a_killed_run_goes_on_where_it_was(monkeypatch, tmp_path):
    steps = [sends(intent="2x"), sends("y[i] = 1.0f;", "1x"), Step(text="gone", wait_s=60)]
    arguments = [str(Path(__file__).parent), str(tmp_path / "ledger.sqlite"), ANTHROPIC]
    with Server(steps) as server:
        agent_case.point(monkeypatch.setenv, server)
        process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments])
        while len(server.asked) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        last = server.asked[-1].body["messages"]
    with Server([DONE]) as server, Ledger(arguments[1]) as ledger:
        agent_case.point(monkeypatch.setenv, server)
        study = agent_case.study(PROBLEM, ReplayMachine(), ledger, ANTHROPIC)
        study.optimize()
        assert ledger.audit().intact
    assert server.asked[0].body["messages"] == last
    assert study.stop_reason == "the model is done: at the limit"
    assert len(server.asked) == 1


class TestChoice:
    def judged(self, texts):
        quick = agent_case.QuickJudge("m")
        from epitaxy.handmade import written

        made = [written({"model_new.py": MODEL + text}, PROBLEM, intent=text) for text in texts]
        return [(c, quick.judge(c)) for c in made]

    def test_distance(self):
        one, twin, other = self.judged(["# 2x\n", "# 3x other comment\n", "\na = 12345\nb = 4\n"])
        assert choice.distance(one[0], twin[0]) == 0
        assert 0 < choice.distance(one[0], other[0]) < 1

    def test_better_and_unlike_parents_are_drawn_more_often(self):
        import random

        pairs = self.judged([f"aaaa = {i}\nbbbb = {i}\n" for i in range(4)])
        rng = random.Random(0)
        drawn = [choice.parent(pairs, [], rng) for _ in range(300)]
        counts = [drawn.count(c) for c, _ in pairs]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] > 0
        apart = [choice.parent(pairs, [pairs[0][0]], rng) for _ in range(300)]
        assert apart.count(pairs[0][0]) < counts[0] / 4
        assert choice.parent([], [], rng) is None

    def test_a_sample_is_diverse(self):
        near, far, best = self.judged(["aaaa = 1\n", "cccc = 1\ndddd = 2\neeee = 3\n", ""])
        assert choice.diverse([near, far], 1, [best[0]]) == [far]
        assert choice.diverse([best], 3, [best[0]]) == []

    def test_dead_ends_name_each_reason_once(self):
        pairs = self.judged(["cheat one", "cheat two", "fine"])
        assert len(choice.dead_ends(pairs, 8)) == 1


def test_helpers_are_split_from_kernels_once():
    whole = {"kernel.cpp": "namespace epx {\nint f();\n}  // namespace epx\n\nint g();\n"}
    parts = split(whole)
    assert parts["kernel.cpp"] == '#include "epx.h"\n\nint g();\n'
    assert "int f();" in parts["epx.h"]
    assert split(parts) == parts
    assert split({"model_new.py": MODEL}) == {"model_new.py": MODEL}


class TestManyCallsInOneAnswer:
    """Each may take half a minute: the budget is looked at between them."""

    @pytest.fixture
    def counted(self, monkeypatch):
        """A study's tool that counts how often it was called."""
        calls = []
        schema = {"type": "object", "properties": {}}
        tool = Tool("count", "Count.", schema, lambda: _add(calls))
        monkeypatch.setattr(View, "tools", lambda self: (tool,))
        return calls

    def test_the_rest_is_not_run_and_told_so(self, search, counted):
        many = Step(calls=[("count", {})] * 4 + [("count", {"x": 1})] * 2 + [sends().calls[0]] * 30)
        study, server, _ = search([many, DONE])
        told = server.asked[1].results
        assert len(told) == 36
        assert len(counted) == 4
        assert "accepted" in told[6]
        assert all("not run: 8 calls" in text for text in told[8:])

    def test_a_budget_that_ends_among_them_ends_them(self, search, counted, monkeypatch):
        left = Study.left
        monkeypatch.setattr(
            Study, "left", lambda self: left(self).replace(candidates=0 if counted[1:] else 9)
        )
        study, _, _ = search([Step(calls=[("count", {})] * 3 + [sends().calls[0]])])
        assert len(counted) == 2
        assert study.stop_reason == "the budget is spent"

    def test_what_is_paid_for_is_judged_and_no_more_is_read(self, search, counted):
        dear = Step(calls=[("count", {}), sends(intent="3x").calls[0]], tokens=(5000, 0, 5))
        study, server, _ = search([dear], cost="5000tokens")
        assert (len(server.asked), len(counted)) == (1, 0)
        assert study.best[0].intent == "3x"
        assert study.stop_reason == "5000 tokens are spent"


def _add(calls):
    calls.append(1)
    return f"call {len(calls)}"
