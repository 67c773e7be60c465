"""The benchmark scripts at a size that only shows that they run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import calibrate
import rate
import search

pytestmark = pytest.mark.usefixtures("brief")


def test_calibration_runs_resumes_and_reports(tmp_path):
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


def test_the_rate_counts_every_candidate(tmp_path):
    found = rate.main(
        ["--candidates", "2", "--wrong", "0.5", "--size", "short", "--depth", "1",
         "--out", str(tmp_path / "rate")]
    )  # fmt: skip
    assert found["judged"] == 2
    assert found["per_minute"] > 0
    assert sum(found["statuses"].values()) == 2
    assert found["statuses"]["incorrect"] >= 1
    assert "per minute" in (tmp_path / "rate.md").read_text()


def test_search_replays_a_recording(tmp_path):
    """Faster with each step of `tile`, whatever `unroll` is: every strategy gets there."""
    problems = []
    for file in ("examples/softmax.py", "examples/rmsnorm.py"):
        space = {"tile": [16, 32, 64, 128], "unroll": [1, 2, 4]}
        rows = [
            {"genome": f"region0(tile={t} unroll={u})", "ratio": 16 / t, "build_s": 1.0}
            for t in space["tile"]
            for u in space["unroll"]
        ]
        start = "region0(tile=16 unroll=1)"
        problems.append({"file": file, "start": start, "space": {"region0": space}, "rows": rows})
    (tmp_path / "s.recorded.json").write_text(json.dumps({"problems": problems}))
    found = search.main(["replay", "--seeds", "1", "--out", str(tmp_path / "s")])
    assert len(found["runs"]) == 2 * len(search.STRATEGIES)
    for run in found["runs"]:
        assert len(run["curve"]) == 12
        assert run["curve"][-1] == 1
        assert run["curve"] == sorted(run["curve"])
        assert run["curve"][run["candidates"] - 1] >= search.ENOUGH
    assert "| softmax | 12 |" in (tmp_path / "s.md").read_text()


def test_search_records_a_small_space(tmp_path):
    command = ["record", "--genomes", "2", "--only", "sum_columns", "--out", str(tmp_path / "s")]
    (entry,) = search.main(command)["problems"]
    assert entry["start"] in {row["genome"] for row in entry["rows"]}
    assert all(row["ratio"] > 0 and row["build_s"] > 0 for row in entry["rows"])
    first = (tmp_path / "s.recorded.json").read_text()
    search.main(command)  # nothing is recorded twice
    assert (tmp_path / "s.recorded.json").read_text() == first
