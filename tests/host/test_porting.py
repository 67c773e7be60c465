"""A kernel that somebody wrote, ported: its constants are read, the port is grown and proved."""

from __future__ import annotations

import json

import pytest

from epitaxy.cli import main

REFERENCE = """import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs():
    return [torch.randn(256, 512)]

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
    (tmp_path / "softmax.py").write_text(REFERENCE)
    (tmp_path / "kernel.py").write_text(KERNEL)
    return tmp_path


def test_a_triton_kernel_of_people_becomes_nki(place, capsys):
    words = ["port", str(place / "kernel.py"), "--from", "triton-nvidia", "--to", "nki-trainium"]
    words += ["--problem", str(place / "softmax.py"), "--budget", "1", "--out", str(place / "out")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    notes = found["original"]["notes"]
    read = "read from its constants: BLOCK_M=64, BLOCK_N=512, num_warps of 32 lanes=128"
    assert read in notes
    assert "not judged: it defines no ModelNew" in notes
    verdict = found["port"]["verdict"]
    assert (verdict["status"], verdict["basis"]) == ("accepted", "simulated")
    assert verdict["time_s"] is None
    assert {c["outcome"] for c in found["carried"]} == {"no like"}
    assert "the floor goes from" in found["moving"]
    page = (place / "out" / "port.html").read_text()
    assert "nc_matmul" not in page
    assert "_rows" in page
    assert (place / "out" / "export" / "model_new.py").is_file()
