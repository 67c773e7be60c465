"""Rows of the comparison with and without the harness: whose an answer is, its said cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fake_records
import pytest

from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.record import FrozenDict

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from harness_arms import Task, tokens_told, written_by
from harness_page import Limits, Row, Series, page


class TestWhoseItIs:
    """The answer in a folder is matched with what the run's ledger holds."""

    def task(self, tmp_path):
        problem = fake_records.problem(name="softmax", source="y = x")
        grown = fake_records.candidate(problem, 1)
        task = Task(problem, Path("x.py"), "with", 0, tmp_path, Limits(), ReplayMachine())
        with Ledger(task.ledger) as ledger:
            ledger.add_problem(problem)
            ledger.add_candidate(grown)
        return task, grown

    def test_what_the_grower_wrote_is_the_growers(self, tmp_path):
        task, grown = self.task(tmp_path)
        hand = grown.replace(proposer="hand", intent="from answer", genome="", parents=())
        assert written_by(task, hand) == grown
        exported = hand.replace(files=FrozenDict({**grown.files, "model_new.py": "x"}))
        assert written_by(task, exported) == grown

    def test_what_was_changed_is_the_commands(self, tmp_path):
        task, grown = self.task(tmp_path)
        for files in (
            {**grown.files, "kernel.cpp": "// mine"},
            {**grown.files, "more.h": "// mine"},
            {"forward.py": grown.files["forward.py"]},
        ):
            it = grown.replace(proposer="hand", files=FrozenDict(files))
            assert written_by(task, it) == it.replace(proposer="command")


@pytest.mark.parametrize(
    "usage",
    [
        '{"input_tokens": Infinity, "output_tokens": 1}',
        '{"input_tokens": 1e999, "output_tokens": 1}',
        '{"input_tokens": NaN, "output_tokens": 1}',
        '{"input_tokens": "7", "output_tokens": 1}',
        '{"input_tokens": true, "output_tokens": 1}',
        '{"input_tokens": -7, "output_tokens": 1}',
        '{"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": [3]}',
        "[1]",
        "[" * 100_000,
    ],
)
def test_odd_counts_are_not_told(usage):
    assert tokens_told(f'{{"usage": {usage}}}') == {}


@pytest.mark.parametrize("usd", ['"0.25"', "Infinity", "NaN", "[1]", "null", "-1", "true"])
def test_odd_money_is_not_told(usd):
    said = f'{{"usage": {{"input_tokens": 1, "output_tokens": 1}}, "total_cost_usd": {usd}}}'
    told = tokens_told(said)
    assert told == {"read_tokens": 1, "cached_tokens": 0, "written_tokens": 1, "usd": None}
    rows = [Row("one", "with", 0, "no answer", 0, 1.0, "done", **told)]
    assert "| – |" in page(Series("it", "here", "2026-01-01", Limits(), True, rows))


def test_tokens_are_read_as_coding_agents_print_them():
    openai = {"input_tokens": 900, "cached_input_tokens": 200, "output_tokens": 100}
    line = json.dumps({"type": "turn.completed", "usage": openai})
    found = tokens_told(f'{{"usage": 3}}\n{line}\nnot JSON')
    assert (found["read_tokens"], found["cached_tokens"], found["usd"]) == (900, 200, None)
    assert tokens_told("nothing") == {}
