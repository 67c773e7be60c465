"""`epitaxy diagnose` and `epitaxy readers`, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epitaxy.cli import DONE, UNUSABLE, main
from epitaxy.metric import Diagnosis

SAMPLES = Path(__file__).parents[1] / "data" / "reports"
GEMM = str(SAMPLES / "ncu_raw.csv")
LDS = str(SAMPLES / "counter_collection.csv")


def test_bottlenecks_come_ranked_with_gain_formula_source_and_move(capsys):
    assert main(["diagnose", GEMM]) == DONE
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert any("gemm" in x and "GH100" in x and "tail wave" in x for x in lines)
    assert any("43 % of its time" in x and "1.15 waves" in x for x in lines)
    assert "1, 2. tail wave: choose tiles" in said.out
    assert "waves = launch__waves_per_multiprocessor" in said.out
    assert "NVIDIA Nsight Compute 2025" in said.out
    assert "rules not evaluated" in said.err
    assert "divergence: needs smsp__thread_inst_executed_per_inst_executed.ratio" in said.err
    assert "3 launches: metrics of the one of median time" in said.err


def test_one_kernel_of_several(capsys):
    assert main(["diagnose", GEMM, "--kernel", "add"]) == DONE
    said = capsys.readouterr().out
    assert "gemm" not in said
    assert "88 %" in said


def test_json_is_the_whole_record(capsys):
    assert main(["diagnose", LDS, "--chip", "mi300x", "--json"]) == DONE
    found = Diagnosis.from_dict(json.loads(capsys.readouterr().out))
    assert found.first.rule == "amd_lds_conflicts"
    assert found.kernels[0].profile.chip == "gfx942"
    assert {u.rule for u in found.kernels[0].unevaluated} >= {"amd_mfma_bound"}


def test_readers_are_listed(capsys):
    assert main(["readers", "--json"]) == DONE
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert {"ncu", "rocpd", "perf_json", "kineto", "tpu_bundles", "neuron_parquet"} <= set(names)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["diagnose"], "Missing argument 'REPORT'"),
        (["diagnose", "nowhere.csv"], "there is no nowhere.csv"),
        (["diagnose", GEMM, "--kernel", "gemn"], "unknown kernel 'gemn'"),
        (["diagnose", GEMM, "--chip", "h1000"], "unknown chip 'h1000'"),
        (["diagnose", GEMM, "--chip", "mi300x"], "is no chip that ncu reports on"),
        (["diagnose", GEMM, "--reader", "perf"], "unknown reader 'perf'"),
        (["diagnose", GEMM, "--reader", "kineto"], "is not what kineto reads"),
        (["diagnose", LDS, "--reader", "ncu"], "is not what ncu reads"),
        (["diagnose", str(SAMPLES)], "no report that a reader knows"),
    ],
)
def test_wrong_input_is_one_short_line(capsys, arguments, says):
    assert main(arguments) == UNUSABLE
    line = capsys.readouterr().err.strip()
    assert says in line
    assert len(line.splitlines()) == 1
    assert len(line) < 400


def test_the_documents_transcript_is_what_is_said(capsys):
    text = (SAMPLES.parents[2] / "docs" / "diagnose.md").read_text()
    shown = text.partition("ncu_raw.csv\n")[2].partition("\n```")[0].splitlines()
    assert len(shown) > 8
    assert main(["diagnose", GEMM]) == DONE
    assert [x.rstrip() for x in capsys.readouterr().out.splitlines()] == shown
