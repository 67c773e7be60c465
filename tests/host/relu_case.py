"""A small problem that several tests judge, and C++ for it."""

from __future__ import annotations

from pathlib import Path

from epitaxy.problem import Problem, load

SOURCE = """
import torch
import torch.nn as nn
class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x) + 0.5 * x
def get_inputs():
    return [torch.randn(64, 4096)]
def get_init_inputs():
    return []
"""
KERNEL = """
#include <cstdint>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
#pragma omp parallel for
  for (int64_t i = 0; i < 64 * 4096; ++i) BODY
}
"""
"""BODY stands for the statement of one element."""
HONEST = "y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];"


def problem(folder: Path) -> Problem:
    """The problem, loaded from a file in `folder`."""
    (folder / "relu_half.py").write_text(SOURCE)
    return load(folder / "relu_half.py")
