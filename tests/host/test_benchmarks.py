"""The benchmark scripts at a size that only shows that they run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import calibrate
import rate

from epitaxy import timing


@pytest.fixture
def brief(monkeypatch):
    """Plans with as few rounds as there may be."""
    plans = {
        name: plan.replace(rounds=8, most=8, processes=min(2, plan.processes), limit_s=1.0)
        for name, plan in timing.PLANS.items()
    }
    monkeypatch.setattr(timing, "PLANS", plans)


def test_calibration_runs_resumes_and_reports(brief, tmp_path):
    command = ["--sizes", "short", "--threads", "1", "--runs", "1", "--out", str(tmp_path / "cal")]
    calibrate.main(command)
    document = json.loads((tmp_path / "cal.json").read_text())
    assert [(e["kind"], e["runs"]) for e in document["summary"]] == [("same", 1), ("slower", 1)]
    assert document["summary"][1]["planted"] >= 0.03
    assert {len(r["processes"]) for r in document["runs"]} == {2}
    lines = (tmp_path / "cal.jsonl").read_text()
    calibrate.main(command)  # all is done: nothing runs again
    assert (tmp_path / "cal.jsonl").read_text() == lines
    assert (tmp_path / "cal.md").read_text().count("| short |") == 2


def test_the_rate_counts_every_candidate(brief, tmp_path):
    found = rate.main(
        ["--candidates", "4", "--wrong", "0.5", "--size", "short", "--depth", "1",
         "--out", str(tmp_path / "rate")]
    )  # fmt: skip
    assert found["judged"] == 4
    assert found["per_minute"] > 0
    assert sum(found["statuses"].values()) == 4
    assert found["statuses"]["incorrect"] >= 1
    assert "per minute" in (tmp_path / "rate.md").read_text()
