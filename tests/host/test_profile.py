"""profile and disassemble at the command line, with a real compiler."""

import json

import pytest

from epitaxy.cli import DONE, UNUSABLE, main

SOURCE = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2.0 + 1.0

def get_inputs():
    return [torch.randn(512, 512)]

def get_init_inputs():
    return []
"""
KERNEL = """
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 512; i++) y[i] = x[i] * 2.0f + 1.0f;
}
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    (tmp_path / "p.py").write_text(SOURCE)
    (tmp_path / "k.cpp").write_text(KERNEL)
    return str(tmp_path / "k.cpp"), str(tmp_path / "p.py")


def test_the_hot_loop_is_shown_with_its_source(files, capsys):
    kernel, problem = files
    assert main(["disassemble", kernel, "--problem", problem, "--json"]) == DONE
    shown = json.loads(capsys.readouterr().out)
    assert shown["function"] == "region0._omp_fn.0"
    assert shown["source"] == "kernel.cpp:6"
    assert shown["figures"]["vector_share"] == 1
    assert any("y[i] = x[i]" in text for text in shown["code"].values())
    assert main(["disassemble", kernel, "--problem", problem, "--function", "nosuch"]) == UNUSABLE
    assert "known: region0._omp_fn.0" in capsys.readouterr().err


def test_sources_need_their_problem(files, capsys):
    assert main(["disassemble", files[0]]) == UNUSABLE
    assert "give --problem" in capsys.readouterr().err
