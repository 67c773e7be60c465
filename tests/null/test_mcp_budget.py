"""A server's budget: what is charged, when, and that nothing goes around it."""

from __future__ import annotations

import fake_records
import pytest
from test_study import FakeJudge

from epitaxy import insight
from epitaxy.budget import Budget
from epitaxy.desk import Desk
from epitaxy.errors import BadInput, Cancelled
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.serve.allowance import Allowance
from epitaxy.serve.tools import Tools

PROBLEM = fake_records.problem(name="softmax", source="y = torch.softmax(x, 1)")
SOME = [fake_records.candidate(PROBLEM, step) for step in range(1, 6)]
SPENT = "0 of {} candidates may still be judged"


class Machine(ReplayMachine):
    """As if it ran what it is asked for."""

    recorded = False


class Server:
    """The tools over one ledger, started with a budget; the judge cancels what is in `ended`."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.path = folder, folder / "ledger.sqlite"
        self.judge = FakeJudge("here")
        self.ended = self.judge.answers
        monkeypatch.setattr(Desk, "open_judge", lambda desk: self.judge)
        with Ledger(self.path) as ledger:
            ledger.add_problem(PROBLEM)
            for candidate in SOME:
                ledger.add_candidate(candidate)

    def start(self, budget):
        allowance = Allowance.parse(budget, self.path)
        machine = Machine(fake_records.CHIP, {"cpu": "EPYC", "cores": "4"})
        self.judge.machine = Desk(PROBLEM, machine, Ledger(self.path)).machine_digest
        return Tools([], self.folder, machine, self.path, allowance=allowance)


@pytest.fixture
def server(tmp_path, monkeypatch):
    return Server(tmp_path, monkeypatch)


def hush(text):
    """Nobody listens."""


def judge(tools, number):
    return tools.judge(hush, "softmax", candidate=SOME[number].id)


def test_the_second_new_candidate_is_one_too_many(server):
    tools = server.start("1")
    assert not judge(tools, 0).known
    with pytest.raises(BadInput, match=SPENT.format(1)):
        judge(tools, 1)
    assert judge(tools, 0).known, "what was judged is told again"
    assert tools.problem_card(hush, "softmax").name == "softmax"
    assert len(server.judge.calls) == 1
    tools.close()


def test_one_that_is_cancelled_is_charged(server):
    tools = server.start("2")
    server.ended[SOME[0].digest] = Cancelled("it was cancelled", "call again")
    for _ in range(2):
        with pytest.raises(Cancelled):
            judge(tools, 0)
    with pytest.raises(BadInput, match=SPENT.format(2)):
        judge(tools, 1)
    tools.close()


def test_each_of_those_that_are_grown_is_charged_as_it_begins(server, monkeypatch):
    monkeypatch.setattr("epitaxy.desk.grow", lambda desk, *given: (SOME[: given[-1]], "", {}))
    monkeypatch.setattr("epitaxy.desk.grow_card", lambda grown, verdicts, *_: verdicts)
    tools = server.start("4")
    with pytest.raises(BadInput, match="4 of 4"):
        tools.grow(hush, "softmax", count=5)
    server.ended[SOME[2].digest] = Cancelled("it was cancelled", "call again")
    with pytest.raises(Cancelled):
        tools.grow(hush, "softmax", count=4)
    assert len(server.judge.calls) == 3
    assert not judge(tools, 3).known
    with pytest.raises(BadInput, match=SPENT.format(4)):
        judge(tools, 4)
    assert len(tools.grow(hush, "softmax", count=4, plan="")) == 0, "to write them costs nothing"
    tools.close()


def test_profiling_what_was_never_judged_is_charged(server, monkeypatch):
    taken = []

    def profile(it, problem, machine, *more):
        taken.append(it)
        return fake_records.profiled(it, tools._warm.machine_digest)

    monkeypatch.setattr(insight, "profile", profile)
    tools = server.start("2")
    judge(tools, 0)
    for _ in range(2):
        tools.profile(hush, SOME[0].id)
    tools.profile(hush, SOME[1].id)
    with pytest.raises(BadInput, match=SPENT.format(2)):
        tools.profile(hush, SOME[2].id)
    assert taken == [SOME[0], SOME[0], SOME[1]]
    tools.close()


def test_an_experiment_of_ones_own_is_charged(server, monkeypatch):
    monkeypatch.setattr("epitaxy.experiments.parse", lambda text, name: text)
    tools = server.start("1")
    judge(tools, 0)
    with pytest.raises(BadInput, match=SPENT.format(1)):
        tools.explore(hush, recipe="a = 1")
    tools.close()


def test_when_the_time_is_over_nothing_is_measured(server):
    tools = server.start("0.000001s")
    for work in (
        lambda: judge(tools, 0),
        lambda: tools.grow(hush, "softmax"),
        lambda: tools.profile(hush, SOME[0].id),
        lambda: tools.explore(hush, "gather"),
    ):
        with pytest.raises(BadInput, match="time for judging is over"):
            work()
    tools.close()


def test_a_budget_in_all_outlives_the_server(server):
    judge(server.start("9"), 4)  # another one, before: it bounds itself alone
    judge(server.start("2 in all"), 0)
    judge(server.start("2 in all"), 1)
    with pytest.raises(BadInput, match=SPENT.format(2)):
        judge(server.start("2 in all"), 2)
    assert not judge(server.start("1"), 3).known
    first = Allowance.parse("1h in all", server.path)
    late = Allowance.parse("1h in all", server.path)
    assert abs(late._start_s - first._start_s) < 60
    with Ledger(server.path) as ledger:
        assert ledger.audit().intact


def test_servers_beside_each_other_share_a_budget_in_all(server):
    one, other = server.start("2 in all"), server.start("2 in all")
    judge(one, 0)
    judge(other, 1)
    for tools in (one, other):
        with pytest.raises(BadInput, match=SPENT.format(2)):
            judge(tools, 2)


def test_a_budget_that_is_not_understood():
    with pytest.raises(BadInput, match="not understood"):
        Allowance.parse("many in all", None)
    Allowance().ask(1000)
    Allowance(Budget(candidates=3)).ask(3)
