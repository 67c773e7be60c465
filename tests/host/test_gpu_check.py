"""`benchmarks/gpu.py`: what it says without a GPU, and what it makes of a search's records."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from epitaxy.machines import _gpu
from epitaxy.suites import find

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402

COMPARED = {"speedup": 1.5, "low": 1.4, "high": 1.6, "time_s": 3e-4}
ROW = {
    "judged": 5, "counts": {"accepted": 5}, "stopped": "", "order": 0.9, "order_pairs": 5,
    "status": "accepted", "basis": "measured", "plan": "full", "time_s": 2e-4, "of_limit": 0.8,
    "limit": "memory: HBM3", "energy_j": 0.05, "baseline_energy_j": None, "energy_note": "",
    "against": {
        "eager": {**COMPARED, "speedup": 4.0, "low": 3.0, "high": 5.0},
        "max_autotune": COMPARED,
        "max_autotune_no_graphs": {**COMPARED, "speedup": 2.0, "low": 1.9, "high": 2.1},
    },
    "genome": "rows=4", "candidate": "x", "determinism": "bitwise",
}  # fmt: skip


class Timed:
    def __init__(self, cost, time_s):
        self.metrics, self.time_s = {"predicted_cost": cost}, time_s


def test_without_a_gpu_it_says_that_nothing_was_measured(tmp_path, capsys):
    if _gpu.here():
        pytest.skip("a GPU is here")
    assert gpu.main(["--out", str(tmp_path / "gpu")]) == {}
    assert "not yet measured" in capsys.readouterr().out
    text = (tmp_path / "gpu.md").read_text()
    assert "make gpu-check" in text
    assert text == (ROOT / "docs" / "results" / "gpu.md").read_text()


def test_one_failure_does_not_keep_the_rest_from_running(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    log, stub = tmp_path / "log", tmp_path / "python"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *attacks*) exit 1;; esac\n')
    stub.chmod(0o755)
    (tmp_path / "made").touch()
    own = [f"STAMP={tmp_path / 'made'}", f"BIN={tmp_path}"]
    done = subprocess.run(["make", "-C", str(ROOT), "gpu-check", *own], capture_output=True)
    assert done.returncode != 0
    said = log.read_text().splitlines()
    assert [line.split()[-1] for line in said] == ["-s", "cuda", "benchmarks/gpu.py"]


def test_an_unknown_problem_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["softmaks", "--out", str(tmp_path / "gpu")])
    assert "row_softmax" in capsys.readouterr().err


def test_the_order_of_predictions_is_held_against_times():
    straight = [Timed(c, c * 1e-5 + 1e-6) for c in (1.0, 1.5, 2.5, 4.0)]
    assert gpu.ranked(straight) == (pytest.approx(1.0), 4)
    turned = [Timed(c, 1e-3 - c * 1e-5) for c in (1.0, 1.5, 2.5, 4.0)]
    assert gpu.ranked(turned)[0] == pytest.approx(-1.0)
    assert gpu.ranked(straight[:3]) == (None, 3), "three have no order worth the name"
    assert gpu.ranked([Timed(1.0, t) for t in (1.0, 2.0, 3.0, 4.0)]) == (None, 4)
    assert gpu.ranked([Timed(1.0, None), Timed(0.0, 1.0)]) == (None, 0)
    assert gpu.ranks([3.0, 1.0, 3.0]) == [1.5, 0.0, 1.5]


def test_the_page_quotes_the_strongest_mode_and_says_what_is_missing():
    document = {
        "chip": "NVIDIA H100", "date": "2026-01-01",
        "conditions": {"gpu": "NVIDIA H100 80GB HBM3", "driver": "1", "torch": "2"},
        "problems": {
            "row_softmax": ROW,
            "cumsum": {"status": "incorrect", "why": "an error", "order": None, "order_pairs": 0},
        },
    }  # fmt: skip
    page = gpu.page(document)
    line = next(x for x in page.splitlines() if x.startswith("|row_softmax"))
    assert "|1.50 (1.40–1.60)|" in line, "of the two modes the stronger"
    assert "|4.00 (3.00–5.00)|" in line
    assert "|0.2000|" in line
    assert "|80%|memory: HBM3|50|not measured|+0.90 of 5|" in line
    assert "memory-bound and fused: 1.50 (1 of 2 problems)" in page
    assert "- cumsum: an error" in page
    assert "not yet measured: rmsnorm_residual" in page


def test_it_goes_on_where_it_stopped_and_not_beyond_its_time(tmp_path, monkeypatch, capsys):
    class Machine:
        def require(self):
            pass

        def chip(self):
            from epitaxy.chip import find_chip

            return find_chip("h100")

        def fingerprint(self):
            return {"gpu": "G", "driver": self.driver}

    machine = Machine()
    machine.driver = "1"
    begun = []
    monkeypatch.setattr(gpu, "accelerator", lambda: machine)
    monkeypatch.setattr(gpu, "one", lambda name, options: begun.append(name) or dict(ROW))
    out = ["--out", str(tmp_path / "gpu")]
    gpu.main(["row_softmax", "cumsum", "--minutes", "1", *out])
    assert begun == [], "a problem may take longer than that"
    assert "not yet run: row_softmax, cumsum" in capsys.readouterr().out
    gpu.main(["row_softmax", *out])
    gpu.main(["row_softmax", "cumsum", *out])
    assert begun == ["row_softmax", "cumsum"]
    assert set(json.loads((tmp_path / "gpu-h100_sxm.json").read_text())["problems"]) == set(begun)
    failed = tmp_path / "gpu-h100_sxm.json"
    document = json.loads(failed.read_text())
    document["problems"]["cumsum"] = {"status": "error", "why": "no compiler"}
    failed.write_text(json.dumps(document))
    gpu.main(["row_softmax", "cumsum", *out])
    assert begun == ["row_softmax", "cumsum", "cumsum"], "what failed is tried again"
    begun.pop()
    machine.driver = "2"
    gpu.main(["cumsum", *out])
    assert begun == ["row_softmax", "cumsum", "cumsum"]
    assert len(list(tmp_path.glob("*.json"))) == 2, "the older measurement stays beside"


def test_the_suite_holds_what_it_names():
    files = {e.path.stem for e in find([str(gpu.SUITE)])}
    assert files == set(gpu.NAMES)
    assert set(gpu.PRODUCTS) <= files
