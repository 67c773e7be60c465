"""The determinism class of a verdict, and the policy that asks for the same bits every time."""

import pytest

from epitaxy.candidate import Candidate
from epitaxy.errors import BadProblem
from epitaxy.judge import Judge
from epitaxy.problem import load, open_reference
from epitaxy.proposers.grower.growth import grow_program

FILE = """
import torch
import torch.nn as nn
class Model(nn.Module):
    def forward(self, x):
        return x.sum(1)
def get_inputs():
    return [torch.randn(256, 512)]
def get_init_inputs():
    return []
"""
KERNEL = """
#include <cstdint>
static int calls = 0;
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
  const int order = ORDER;
#pragma omp parallel for
  for (int64_t i = 0; i < 256; ++i) {
    float sums[16] = {};
    for (int64_t k = 0; k < 512; ++k) sums[k % 16] += x[512 * i + k];
    float all = 0;
    for (int64_t k = 0; k < 16; ++k) all += sums[(k * 5 + order) % 16];
    y[i] = all;
  }
}
"""


@pytest.fixture(scope="module")
def machine(machine_of):
    with machine_of(threads=1) as made:
        yield made


@pytest.mark.parametrize(
    ("order", "asked", "status", "kind"),
    [
        ("0", True, "accepted", "bitwise"),
        ("++calls", False, "accepted", "within bounds"),
        ("++calls", True, "refused", "within bounds"),
        ("(++calls > 3 ? 16 : 0)", True, "accepted", "bitwise"),
    ],
)
def test_the_verdict_says_whether_repetitions_give_the_same_bits(
    order, asked, status, kind, machine, tmp_path
):
    (tmp_path / "p.py").write_text(FILE)
    problem = load(tmp_path / "p.py", deterministic=asked)
    candidate = Candidate(
        problem=problem.digest, toolchain="cpp", entry="forward.py", proposer="test",
        files={"kernel.cpp": KERNEL.replace("ORDER", order),
               "forward.py": grow_program(open_reference(problem)).forward},
    )  # fmt: skip
    judge = Judge(problem, machine, baselines=["eager"])
    try:
        verdict = judge.judge(candidate, "screen")
    finally:
        judge.close()
    assert verdict.status == status, verdict.reason
    assert verdict.determinism == kind
    if status == "refused":
        assert verdict.refusal.check == "determinism"


def test_a_problem_that_judges_nobody_is_refused_before_anything_runs(machine, tmp_path):
    (tmp_path / "p.py").write_text(FILE.replace("x.sum(1)", "torch.sigmoid(x.abs() + 40)"))
    judge = Judge(load(tmp_path / "p.py"), machine, baselines=["eager"])
    with pytest.raises(BadProblem, match="a constant") as caught:
        judge.baselines()
    assert caught.value.mend
    judge.close()


def test_its_warnings_go_with_the_verdicts_notes(machine, tmp_path):
    (tmp_path / "p.py").write_text(FILE.replace("256, 512", "4, 8"))
    said = []
    judge = Judge(load(tmp_path / "p.py"), machine, baselines=["eager"], report=said.append)
    judge.baselines()
    judge.close()
    assert any("a call itself costs" in line for line in said)
    assert any(n.check == "size" and n.severity == "warning" for n in judge.notes)
