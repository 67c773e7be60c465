"""A kernel that somebody wrote, ported: its constants are read, the port is grown and proved."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from brief import be_brief

from epitaxy.chip import Chip, Level
from epitaxy.cli import main
from epitaxy.probe.store import save

DOCUMENT = Path(__file__).parents[2] / "docs" / "port.md"
CHIP = Chip(
    id="stand-in", name="Stand-in", vendor="none", kind="cpu", cores=2, vector_bytes=32,
    measured=True, peak_flops_per_s={"float32": 1e12},
    levels=(
        Level(name="L2", bytes=1 << 20, read_bytes_per_s=1e12, write_bytes_per_s=1e12),
        Level(name="DRAM", bytes=0, read_bytes_per_s=1e12, write_bytes_per_s=1e12),
    ),
)  # fmt: skip
"""Spares this test a probe: no figure is looked at."""

REFERENCE = """import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs():
    return [torch.randn(128, 512)]

def get_init_inputs():
    return []
"""
KERNEL = """import torch
import triton
import triton.language as tl


@triton.jit
def _rows(x, y, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    at = tl.program_id(0) * 512 + tl.arange(0, 512)
    e = tl.load(x + at)
    e = tl.exp(e - tl.max(e, 0))
    tl.store(y + at, e / tl.sum(e, 0))


def run(x):
    y = torch.empty_like(x)
    _rows[(256,)](x, y, BLOCK_M=64, BLOCK_N=512, num_warps=4)
    return y
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    be_brief(monkeypatch.setattr)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "rmsnorm.py").write_text(REFERENCE)
    (tmp_path / "kernel.py").write_text(KERNEL)
    save(CHIP)
    return tmp_path


def documented(to):
    """The document's line that ports to this toolchain, as words after `epitaxy`."""
    lines = map(shlex.split, DOCUMENT.read_text(encoding="utf-8").splitlines())
    return next(x[1:] for x in lines if x[:2] == ["epitaxy", "port"] and to in x)


def test_the_documented_lines_port_a_kernel_of_people_and_then_its_port(place, capsys):
    words = [*documented("nki-trainium"), "--budget", "1", "--out", str(place / "out"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    notes = found["original"]["notes"]
    read = "read from its constants: BLOCK_M=64, BLOCK_N=512, num_warps of 32 lanes=128"
    assert read in notes
    assert "not judged: it defines no ModelNew" in notes
    verdict = found["port"]["verdict"]
    assert (verdict["status"], verdict["basis"]) == ("accepted", "simulated")
    assert verdict["time_s"] is None
    assert {c["outcome"] for c in found["carried"]} == {"no like"}
    assert "nothing of the original's tiling has a like" in " ".join(found["port"]["notes"])
    assert "the floor goes from" in found["moving"]
    page = (place / "out" / "port.html").read_text()
    assert "nc_matmul" not in page
    assert "_rows" in page
    assert (place / "out" / "export" / "model_new.py").is_file()

    _, its, *rest = documented("cpp")
    given = found["port"]["candidate"]["id"]
    assert len(its) == len(given)  # the document's is one of somebody else's ledger
    budget = rest.index("--budget") + 1
    assert main(["port", given, *rest[:budget], "1", *rest[budget + 1 :], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["original"]["candidate"]["id"] == given
    assert again["original"]["verdict"]["basis"] == "simulated"
    verdict = again["port"]["verdict"]
    assert (verdict["status"], verdict["basis"]) == ("accepted", "measured")
    assert verdict["time_s"] > 0
