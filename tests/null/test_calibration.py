"""The calibration's bookkeeping: what runs next, what is kept, and what the page says."""

from __future__ import annotations

import json
import random
import sys
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import calibrate
import calibration_report as page
import simulate

from epitaxy.errors import BadInput

CELLS = [("short", 1, "warm"), ("long", 0, "cold")]


def row(cell="medium/0/warm", kind="same", outcome="no evidence", **changes):
    ratio = {"no evidence": 1.001, "faster": 1.03, "slower": 0.97}[outcome]
    facts = {
        "cell": cell, "kind": kind, "outcome": outcome, "speedup": ratio, "low": ratio * 0.99,
        "high": ratio * 1.01, "detectable": 0.015, "time_s": 1e-3, "rounds": 60, "seconds": 2.0,
        "planted": 0.03 if kind == "slower" else 0.0, "processes": [1.0, 1.001, 0.999],
        "twins": [1.002, 0.998, 1.0], "others_cores": 0.0, "waited_share": 0.0,
    }  # fmt: skip
    return {**facts, **changes}


class TestTurns:
    def run(self, runs: int, cost_s: dict[str, float], most: int = 1000):
        rows: list[dict] = []
        for cell, kind in calibrate.turns(CELLS, runs, rows):
            name = "/".join(map(str, cell))
            rows.append({"cell": name, "kind": kind, "seconds": cost_s[cell[0]]})
            if len(rows) == most:
                break
        return rows

    def count(self, rows, cell: str, kind: str) -> int:
        return sum((r["cell"], r["kind"]) == (cell, kind) for r in rows)

    def test_everything_is_done_once_and_then_it_ends(self):
        rows = self.run(10, {"short": 1.0, "long": 1.0})
        for cell in ("short/1/warm", "long/0/cold"):
            assert self.count(rows, cell, "same") == 10
            assert self.count(rows, cell, "slower") == 5

    def test_time_is_shared_evenly_when_it_is_cut_off(self):
        rows = self.run(200, {"short": 1.0, "long": 10.0}, most=110)
        short, long = (
            sum(r["seconds"] for r in rows if r["cell"].startswith(name))
            for name in ("short", "long")
        )
        assert 0.7 < short / long < 1.4

    def test_what_is_kept_counts(self):
        rows = [{"cell": "short/1/warm", "kind": "same", "seconds": 1.0}] * 10
        first = next(calibrate.turns(CELLS[:1], 10, rows))
        assert first == (CELLS[0], "slower")

    def test_no_time_no_turn(self):
        assert list(calibrate.turns(CELLS, 5, [], until_s=0.0)) == []


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert calibrate.kept(path) == []
    path.write_text(json.dumps(row()) + '\n{"cell": "sho')
    assert [r["cell"] for r in calibrate.kept(path)] == ["medium/0/warm"]


def test_bad_arguments_are_named():
    good = {"sizes": "short", "conditions": "warm", "threads": "1,0"}
    assert calibrate.wanted(Namespace(**good)) == [("short", 1, "warm"), ("short", 0, "warm")]
    with pytest.raises(BadInput, match="huge"):
        calibrate.wanted(Namespace(**{**good, "sizes": "huge"}))
    with pytest.raises(BadInput, match="tepid"):
        calibrate.wanted(Namespace(**{**good, "conditions": "tepid"}))


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"),
    [(0, 200, 0.0, 0.01487), (2, 200, 0.00178, 0.03116), (100, 100, 0.97049, 1.0)],
)
def test_bounds_of_a_share(hits, runs, low, high):
    """Clopper and Pearson's, one-sided 95 %; for 0 of n it is 1 - 0.05**(1/n)."""
    assert page.binomial_bounds(hits, runs) == pytest.approx((low, high), abs=2e-4)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_hold_the_share(counts):
    hits, runs = counts
    low, high = page.binomial_bounds(hits, runs)
    assert 0 <= low <= hits / runs <= high <= 1


class TestPage:
    ROWS = (
        [row() for _ in range(199)]
        + [row(outcome="faster")]
        + [row(kind="slower", outcome="slower") for _ in range(97)]
        + [row(kind="slower") for _ in range(3)]
    )

    def test_it_says_what_was_wanted_and_met(self):
        same, slower = page.summary(self.ROWS)
        assert (same["share"], same["met"], same["runs"]) == (0.005, True, 200)
        assert (slower["share"], slower["met"]) == (0.97, True)
        assert same["process_sd"] == pytest.approx(0.0012, abs=2e-4)

    def test_too_many_errors_are_not_met(self):
        (same,) = page.summary([row(outcome="faster")] * 3 + [row()] * 197)
        assert not same["met"]
        (slower,) = page.summary([row(kind="slower")] * 2 + [row(kind="slower", outcome="slower")])
        assert not slower["met"]

    def test_slower_against_itself_is_no_false_faster(self):
        (same,) = page.summary([row(outcome="slower")])
        assert same["share"] == 0

    def test_all_of_it_is_written(self, tmp_path):
        text = page.write(self.ROWS, {"cpu": "A", "cores_used": "4"}, tmp_path / "deep" / "cal")
        assert "faster 1 | 0.5% (≤ 2.3%) | ≤ 1% | yes" in text
        assert "slower 97 | 97.0% (≥ 92.4%) | ≥ 95% | yes" in text
        assert "![intervals of all runs](cal.svg)" in text
        document = json.loads((tmp_path / "deep" / "cal.json").read_text())
        assert len(document["runs"]) == 300
        tree = ElementTree.parse(tmp_path / "deep" / "cal.svg")
        lines = [e for e in tree.iter() if e.tag.endswith("line")]
        assert len(lines) == 300 + 2 * 2

    def test_times_have_units(self):
        assert [page.human(s) for s in (2.0, 1.5e-3, 5e-6, 3e-10)] == [
            "2 s",
            "1.5 ms",
            "5 µs",
            "0.3 ns",
        ]


class TestSimulation:
    def run(self, scenario, slower: float, runs: int) -> list[str]:
        rng = random.Random(7)
        with simulate.steady_processor():
            return [simulate.measured(scenario, slower, rng)[0].outcome for _ in range(runs)]

    @pytest.mark.parametrize("name", ["quiet", "half-speed phases"])
    def test_a_whole_measurement_does_not_call_a_copy_faster(self, name):
        assert self.run(simulate.SCENARIOS[name], 1.0, 8).count("faster") <= 1

    def test_a_whole_measurement_finds_a_planted_loss(self):
        assert self.run(simulate.SCENARIOS["quiet"], 1.03, 8).count("slower") >= 7

    def test_half_speed_phases_take_their_share_of_the_time(self):
        weather = simulate.Weather(simulate.Scenario(half=0.2), random.Random(3))
        slow = 0
        for _ in range(20_000):
            weather.step()
            slow += weather.half
        assert slow / 20_000 == pytest.approx(0.2, abs=0.05)

    def test_a_row_of_the_table(self):
        text = simulate.line("quiet", simulate.SCENARIOS["quiet"], 2)
        assert text.startswith("| quiet | 0.0% |")
        assert text.count("|") == simulate.HEADER.splitlines()[0].count("|")
