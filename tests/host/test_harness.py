"""The comparison with and without the harness, end to end, with scripts in the agent's place."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import sys
from pathlib import Path

import agent_case
import pytest
import relu_case
from agent_case import DONE, MODELS, Server, sends, sends_all
from test_docs import CHIP

from epitaxy.desk import Desk
from epitaxy.errors import BadInput
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.probe.store import save
from epitaxy.problem import load

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import harness
import harness_judge
from harness_arms import ByCommand, ByStudy
from harness_page import STAND_IN, Limits, Row, Series, _protocol, page

SCRIPT = Path(__file__).with_name("harness_agent.py")
BIAS = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.arange(256.0))
    def forward(self, x):
        return x + self.bias
def get_inputs():
    return [torch.randn(64, 256)]
def get_init_inputs():
    return []
"""


@pytest.fixture
def plan(tmp_path):
    """A plan over one problem, judged by intent; `stand_in` as every script must say."""

    def made(runner, source, **more):
        file = tmp_path / "small.py"
        file.write_text(source)
        more = {"limits": Limits(4, 2.0, 50_000), "stand_in": True} | more
        return harness.Plan(
            runner, ReplayMachine(), "script", tmp_path / "out", tmp_path / "work", files=[file],
            open_judge=lambda problem, machine: agent_case.QuickJudge("a machine"), **more,
        )  # fmt: skip

    return made


def test_a_model_of_the_own_loop_with_and_without_tools(plan, monkeypatch):
    def script(asked):
        if len(asked.body["messages"]) > 1:
            return DONE
        return sends(intent="3x") if "grow" in asked.tools else sends_all(intent="2x")

    with Server(script) as server:
        agent_case.point(monkeypatch.setenv, server)
        series = harness.compare(plan(ByStudy(MODELS[0]), relu_case.SOURCE))
    rows = {row.arm: row for row in series.rows}
    assert [rows[arm].speedup for arm in ("with", "without", "grower")] == [3.0, 2.0, 1.5]
    assert [rows[arm].by for arm in ("with", "without", "grower")] == ["agent", "agent", "grower"]
    assert rows["without"].judged == 1
    assert rows["grower"].judged <= 4
    assert rows["with"].read_tokens == 2400
    assert rows["with"].usd > 0
    assert rows["grower"].read_tokens is None
    bare = next(asked for asked in server.asked if "grow" not in asked.tools)
    assert set(bare.tools) == {"judge", "finish", "read_file"}
    assert "_epitaxy_guarded" in bare.system
    assert "class Model" in bare.first
    assert not any(word in bare.first + bare.system for word in ("floor", "limit", "Chip"))
    told = next(a.results[0] for a in server.asked if a.results and "a call" in a.results[0])
    assert "eager takes" in told


def test_a_command_with_the_server_and_with_a_judge_alone(plan, monkeypatch, tmp_path):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    save(CHIP)
    made = plan(ByCommand(f"{sys.executable} {SCRIPT}", "script"), BIAS, baselines=("eager",))
    rows = {}
    for arm in ("with", "without"):
        rows[arm] = harness.one(made, made.files[0], arm, 0)
    assert {row.status for row in rows.values()} == {"accepted"}
    assert {row.by for row in rows.values()} == {"command"}
    assert rows["with"].judged == 0
    assert rows["without"].judged == 1
    assert rows["without"].remarks == []
    assert (rows["with"].read_tokens, rows["with"].usd) == (900, 0.25)
    said = (made.work / "small-without-1" / "said.txt").read_text()
    heard = json.loads(said.splitlines()[0])
    assert heard["correct"], "the example of the task is a candidate"
    assert heard["may_still_be_judged"] == 3
    assert set(heard) == {"correct", "status", "time_s", "baselines_time_s", "may_still_be_judged"}
    assert set(heard["baselines_time_s"]) == {"eager"}
    words = json.loads((made.work / "small-with-1" / "said.txt").read_text().splitlines()[0])
    assert words[words.index("--budget") + 1] == "4 in all"
    ledger = Path(words[words.index("--ledger") + 1])
    assert ledger.name == "ledger.sqlite"
    assert not ledger.is_relative_to(made.work), "earlier answers do not lie next door"
    for arm, row in rows.items():
        with Ledger(made.work / f"small-{arm}-1" / "ledger.sqlite") as ledger:
            kept = ledger.verdict(row.candidate)
            assert (kept.status, kept.plan) == ("accepted", "full")
            assert ledger.candidate(row.candidate).proposer == row.by


def test_both_ways_are_prepared_before_their_clock(plan, monkeypatch):
    """Alike, in the home that the command is given; only without the server, the judge stays."""
    prepared = []

    @contextlib.contextmanager
    def judging(words, home, stays):
        (home / "ready").write_text("")
        prepared.append((words[words.index("--most") :][:2], stays, "--baseline" in words))
        yield
        prepared.append("over")

    monkeypatch.setattr("harness_arms.judging", judging)
    made = plan(ByCommand('cat "$EPITAXY_HOME/ready"', "reader"), BIAS)
    for arm in ("with", "without"):
        row = harness.one(made, made.files[0], arm, 0)
        assert row.ended == "exit code 0; nothing in answer"
    assert prepared == [
        (["--most", "4"], False, False), "over", (["--most", "4"], True, False), "over",
    ]  # fmt: skip


def test_a_command_that_does_not_end_is_ended(plan, monkeypatch):
    monkeypatch.setattr("harness_arms.judging", lambda *_: contextlib.nullcontext())
    made = plan(ByCommand("sleep 60", "sleeper"), BIAS, limits=Limits(5, 0.02, 100))
    row = harness.one(made, made.files[0], "without", 0)
    assert (row.status, row.speedup) == ("no answer", None)
    assert row.ended == "the time was over; nothing in answer"
    assert row.wall_s < 10


class TestPage:
    SERIES = Series(
        "some/model", "a machine, 4 cores", "2026-01-01", Limits(), True,
        [
            Row("one", "with", 0, "accepted", 3, 60.0, "done", 4.0, 3.9, 4.1, "compile",
                by="grower"),
            Row("one", "without", 0, "no answer", 3, 60.0, "done"),
            Row("two", "without", 0, "accepted", 3, 60.0, "done", 0.5, 0.4, 0.6, "eager"),
            Row("two", "with", 0, "incorrect", 3, 60.0, "done", remarks=["used | more"]),
        ],
    )  # fmt: skip

    def test_says_what_counts_and_for_whom(self):
        text = page(self.SERIES)
        assert f"**{STAND_IN}" in text
        assert "| one | 4.00x compile (3.90–4.10, by the grower) | no answer | not run |" in text
        assert "with 4.00x, without 1.00x." in text
        assert "Left out of them, since they broke the protocol: 1 of 4 runs." in text
        assert "With over without, on the 1 problems that have both: 4.00." in text
        assert "300000 tokens" in text
        assert Series.of(json.loads(json.dumps(self.SERIES.to_dict()))) == self.SERIES

    def test_a_script_is_never_a_result(self, plan):
        made = plan(ByStudy(MODELS[0]), BIAS)
        with pytest.raises(BadInput, match="no result"):
            harness.compare(dataclasses.replace(made, out=harness.RESULTS))

    def test_another_plan_does_not_go_on_with_these_rows(self, plan):
        made = plan(ByStudy(MODELS[0]), BIAS)
        made.out.mkdir()
        made.kept.write_text(json.dumps(self.SERIES.to_dict()))
        with pytest.raises(BadInput, match="another agent, machine or limits"):
            harness.compare(made)

    def test_which_way_is_first_alternates(self):
        files = [Path("a.py"), Path("b.py"), Path("c.py")]
        first = [arm for _, arm, _ in list(harness.order(files, 1))[::3]]
        assert first == ["with", "without", "grower"]
        assert all((harness.ROOT / name).is_file() for name in harness.PROBLEMS)

    def test_what_broke_the_protocol_is_in_no_mean(self):
        broke = Row("one", "with", 1, "accepted", 9, 60.0, "", 50.0, 49.0, 51.0, "eager",
                    remarks=["more than 4 candidates judged"])  # fmt: skip
        text = page(dataclasses.replace(self.SERIES, rows=[*self.SERIES.rows[:2], broke]))
        assert "50.00x eager (49.00–51.00, left out)" in text
        assert "with 4.00x, without 1.00x." in text
        assert "1 of 3 runs. With over without: 4.00." in text

    def test_two_problems_of_one_name_are_refused(self, plan, tmp_path):
        made = plan(ByStudy(MODELS[0]), BIAS)
        other = tmp_path / "other" / "small.py"
        other.parent.mkdir()
        other.write_text(BIAS.replace("x + self.bias", "x * self.bias"))
        for files in ([made.files[0], other], [made.files[0]] * 2):
            with pytest.raises(BadInput, match="two problems are called small"):
                harness.compare(dataclasses.replace(made, files=files))

    def test_an_edited_problem_does_not_go_on_with_the_rows_of_the_old(self, plan):
        made = plan(ByStudy(MODELS[0]), BIAS)
        (known,) = harness.named(made.files).values()
        fresh = harness.begun(made, {})
        row = Row("small", "with", 0, "accepted", 1, 1.0, "done", digest=known.digest)
        made.out.mkdir()
        made.kept.write_text(json.dumps(dataclasses.replace(fresh, rows=[row]).to_dict()))
        assert harness.begun(made, {"small": known.digest}).rows == [row]
        with pytest.raises(BadInput, match="another text of small"):
            harness.begun(made, {"small": "f" * 64})


def test_an_edited_problem_is_not_judged(tmp_path):
    file = tmp_path / "small.py"
    file.write_text(BIAS)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        desk = Desk(load(str(file)), ReplayMachine(), ledger, judge=agent_case.QuickJudge("it"))
        answers = harness_judge.Answers(desk, file, BIAS.encode(), 2)
        (tmp_path / "model_new.py").write_text("class ModelNew: ...")
        request = json.dumps({"folder": str(tmp_path)}).encode()
        file.write_text(BIAS + "# another")
        assert json.loads(answers.line(request))["error"] == "small.py was edited"
        assert ledger.events("") == []
        for broken in (b"", b"[1]", b'{"folder": 3}', b"[" * 60_000):
            assert json.loads(answers.line(broken))["error"] == "that is no request"


def test_the_page_that_has_no_figures_tells_this_protocol():
    text = (harness.RESULTS / "harness.md").read_text()
    assert _protocol(Limits()) in text
    assert all(Path(name).stem in text for name in harness.PROBLEMS)


def test_a_run_is_kept_on_another_file_system_too(tmp_path, monkeypatch):
    run, kept = tmp_path / "run", tmp_path / "kept" / "one"
    (run / "work").mkdir(parents=True)
    (run / "work" / "said.txt").write_text("done")
    (run / "work" / "broken").symlink_to("nowhere")
    os.mkfifo(run / "work" / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run / "judge.sock"))

    def elsewhere(*_):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "rename", elsewhere)
    harness.move(run, kept)
    assert sorted(p.name for p in kept.rglob("*")) == ["broken", "said.txt", "work"]
    assert not run.exists()
