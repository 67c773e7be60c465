"""`epitaxy bench` on a small folder: a table whatever happens in a problem, and resume."""

import json
import os
import subprocess
import sys

import pytest

GOOD = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.cumsum(torch.tanh(x), 1)
N = 256
def get_inputs():
    return [torch.randn(N, N)]
def get_init_inputs():
    return []
"""
UNGROWN = GOOD.replace("torch.cumsum(torch.tanh(x), 1)", "torch.linalg.inv(x)")
BROKEN = "import torch\nraise RuntimeError('not today')\n"


def bench(place, *arguments):
    """(exit code, stdout, stderr) of the command."""
    env = {**os.environ, "EPITAXY_HOME": str(place / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "epitaxy.cli", "bench", *map(str, arguments)],
        capture_output=True, text=True, cwd=place, env=env, timeout=400, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for name, text in {"1_broken": BROKEN, "2_inverse": UNGROWN, "10_scan": GOOD}.items():
        path = folder / "kb" / "KernelBench" / "level1" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def first(place):
    return bench(place, "kb", "--scale", "0.5", "--budget", "1", "--out", "out", "--json")


def test_one_broken_problem_stops_nobody(place, first):
    code, out, err = first
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [r["problem"] for r in rows] == ["1_broken", "2_inverse", "10_scan"]
    assert [r["status"] for r in rows][:2] == ["error", "left to the framework"]
    assert "not today" in rows[0]["reason"]
    assert "linalg_inv" in rows[1]["reason"]
    assert rows[2]["speedup"] > 0
    assert {"eager", "compile", "max_autotune"} <= set(rows[2]["ratios"])
    assert rows[2]["scale"] == ["N: 256 to 128"]
    assert min(rows[2]["seconds"][p] for p in ("capture", "baselines", "search", "final")) > 0
    assert "Spent" in err


def test_table_page_and_products_are_left(place, first):
    out = place / "out"
    assert "<svg" in (out / "table.html").read_text()
    assert "10_scan" in (out / "table.md").read_text()
    assert json.loads((out / "table.json").read_text()) == json.loads(first[1])
    row = json.loads(first[1])["rows"][2]
    folder = out / "level1" / "10_scan"
    product = (folder / "export" / "model_new.py").read_text()
    if row["status"] == "faster":
        assert "_epitaxy_kernel" in product
    else:  # the kernel lies beside the original, which is what is handed back
        assert "_epitaxy_kernel" not in product
        assert "_epitaxy_kernel" in (folder / "candidate" / "model_new.py").read_text()
    assert "N = 128" in (out / "scaled" / "level1" / "10_scan.py").read_text()


def test_the_same_command_resumes(place, first):
    code, out, err = bench(place, "kb", "--scale", "0.5", "--budget", "1", "--out", "out", "--json")
    assert code == 0
    assert "already done" in err
    assert json.loads(out)["rows"][2] == json.loads(first[1])["rows"][2]
