"""A hand-made problem, kernel and program for the tests of the way from candidate to product."""

from __future__ import annotations

from epitaxy.candidate import Candidate
from epitaxy.problem import Problem, TensorSpec
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.forward import write_forward
from epitaxy.proposers.grower.program import FrameworkCall, Program, Ref, RegionCall

ROWS, COLUMNS = 8, 33
SOURCE = f"""
import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, columns: int = {COLUMNS}):
        super().__init__()
        self.inner = nn.Linear(columns, columns)
        self.register_buffer("bias", torch.arange(columns, dtype=torch.float32) / columns)

    def forward(self, x):
        return torch.softmax(self.inner(x) + self.bias, dim=-1)


def get_inputs():
    return [torch.randn({ROWS}, {COLUMNS})]


def get_init_inputs():
    return []
"""
KERNEL = f"""#include <cmath>
// softmax(x + bias) over rows
extern "C" void region0(const void* const* in, void* const* out) {{
  const float* x = (const float*)in[0];
  const float* bias = (const float*)in[1];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int r = 0; r < {ROWS}; ++r) {{
    const float* row = x + r * {COLUMNS};
    float* to = y + r * {COLUMNS};
    float most = -INFINITY, sum = 0;
    for (int c = 0; c < {COLUMNS}; ++c) most = std::fmax(most, row[c] + bias[c]);
    for (int c = 0; c < {COLUMNS}; ++c) sum += to[c] = std::exp(row[c] + bias[c] - most);
    for (int c = 0; c < {COLUMNS}; ++c) to[c] /= sum;
  }}
}}
"""
X = TensorSpec(shape=(ROWS, COLUMNS), dtype="float32")
BIAS = TensorSpec(shape=(COLUMNS,), dtype="float32")
SOFTMAX = Region(
    name="region0",
    inputs=(X, BIAS),
    outputs=(X,),
    stores=(),
    source=("aten.add.Tensor", "aten._softmax.default"),
)
PROGRAM = Program(
    inputs=("x",),
    state=(("w", "inner.weight"), ("b", "inner.bias"), ("bias", "bias")),
    steps=(
        FrameworkCall(
            target="torch.ops.aten.linear.default",
            args=(Ref("x"), Ref("w"), Ref("b")),
            kwargs=(),
            results=("h",),
        ),
        RegionCall(region=SOFTMAX, args=("h", "bias"), results=("y",)),
    ),
    outputs=("y",),
    left=("aten.linear",),
)
PROBLEM = Problem(
    name="linear and softmax",
    reference="torch_module",
    source=SOURCE,
    entry="Model",
    inputs=(X,),
    outputs=(X,),
    parameters=(TensorSpec(shape=(COLUMNS, COLUMNS), dtype="float32"), BIAS, BIAS),
)


def candidate(kernel: str = KERNEL, program: Program = PROGRAM, **more: object) -> Candidate:
    """A candidate with this kernel for PROBLEM (or `problem=`)."""
    problem = more.pop("problem", PROBLEM)
    assert isinstance(problem, Problem)
    forward = write_forward(program, problem)
    return Candidate(
        problem=problem.digest,
        toolchain="cpp",
        files={"kernel.cpp": kernel, "forward.py": forward},  # type: ignore[arg-type]
        entry="forward.py",
        proposer="hand",
        **more,  # type: ignore[arg-type]
    )
