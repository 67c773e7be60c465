"""Kernels with one planted bottleneck, by their recorded metrics: which cause is named first.

The record is of `benchmarks/planted.py` on four-core Zen 3, two cores used (docs/results); asked
here is what the rules make of it, with nothing built or timed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epitaxy.diagnose import diagnose
from epitaxy.metric import Profile, metrics_of

RECORD = json.loads(
    (Path(__file__).parents[1] / "data" / "planted_cpu.json").read_text(encoding="utf-8")
)
PLANTED = sorted(n for n, r in RECORD.items() if r["planted"])
CLEAN = sorted(n for n, r in RECORD.items() if not r["planted"])


def diagnosed(metrics):
    made = Profile(
        kernel="k", family="cpu", source="profile", metrics=metrics_of(metrics, "record")
    )
    return diagnose([made])


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_cause_is_first(name):
    found = diagnosed(RECORD[name]["metrics"])
    assert found.first is not None
    assert found.first.rule == RECORD[name]["planted"]
    assert found.first.gain > 0.1
    assert found.first.move
    assert found.first.evidence


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_kernel_is_not_accused(name):
    assert [
        f.rule for f in diagnosed(RECORD[name]["metrics"]).bottlenecks if (f.gain or 0) > 0.15
    ] == []


def test_there_are_enough_of_both():
    assert len(PLANTED) >= 12
    assert len(CLEAN) >= 3


def test_a_cause_that_is_taken_away_is_not_named():
    """The same metrics, but what the ablation saved is nothing: no bottleneck comes of habit."""
    values = dict(RECORD["denormals"]["metrics"])
    for end in ("time_ratio", "low", "high"):
        values[f"ablation.denormals_flushed.{end}"] = 1.0
    assert "denormals" not in [f.rule for f in diagnosed(values).bottlenecks]


def test_a_wide_interval_decides_nothing():
    values = dict(RECORD["divides"]["metrics"]) | {"ablation.cheap_divides.high": 1.4}
    assert "divides" not in [f.rule for f in diagnosed(values).bottlenecks]


def test_rules_without_their_ablation_say_what_they_need():
    values = {
        k: v for k, v in RECORD["denormals"]["metrics"].items() if "denormals_flushed" not in k
    }
    needs = {u.rule: u.needs for u in diagnosed(values).kernels[0].unevaluated}
    assert "ablation.denormals_flushed.high" in needs["denormals"]
