"""Precision policies: what each permits, on real kernels that round their operands."""

import pytest
import torch

from epitaxy.candidate import Candidate
from epitaxy.cases import Cases
from epitaxy.cli import main
from epitaxy.errors import BadInput, UnknownName
from epitaxy.judge import Judge
from epitaxy.precision import precision, precisions
from epitaxy.problem import Policy, Problem, load, open_reference
from epitaxy.proposers.grower.growth import grow_program
from epitaxy.references._narrow import rounded

FILE = """
import torch
import torch.nn as nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(256, 128) / 16)
    def forward(self, x):
        return FORWARD
def get_inputs():
    return [torch.randn(512, 256)]
def get_init_inputs():
    return []
"""
CHAIN = FILE.replace("FORWARD", "torch.relu(x) + 0.5 * x")
PRODUCT = FILE.replace("FORWARD", "x @ self.w")
KERNEL = """
#include <cstdint>
#include <cstring>
static inline float narrow(float v) {
  const int lost = LOST;
  if (lost == 0) return v;
  uint32_t u;
  std::memcpy(&u, &v, 4);
  u += (1u << (lost - 1)) - 1 + ((u >> lost) & 1);
  u &= ~((1u << lost) - 1);
  std::memcpy(&v, &u, 4);
  return v;
}
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
#pragma omp parallel for
  for (int64_t i = 0; i < 512 * 256; ++i) {
    const float v = narrow(x[i]);
    y[i] = (v > 0 ? v : 0.0f) + 0.5f * v;
    if (v != v) y[i] = v;
  }
}
"""
BITS = {24: 0, 11: 13, 8: 16}
"""Bits kept: bits of a float32 that are lost."""
MODEL = """
import torch
import torch.nn as nn
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(256, 128) / 16)
    def forward(self, x):
        return ROUNDED
"""
ROUNDED = "x.to(torch.bfloat16).to(torch.float32) @ self.w.to(torch.bfloat16).to(torch.float32)"


pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def machine(machine_of):
    with machine_of(threads=1) as made:
        yield made


def problem(tmp_path, source, name):
    path = tmp_path / "p.py"
    path.write_text(source)
    return load(path, precision=name)


def chain(of, bits):
    """A kernel for CHAIN that keeps so many bits of its operands."""
    return Candidate(
        problem=of.digest, toolchain="cpp", entry="forward.py", proposer="test",
        files={"kernel.cpp": KERNEL.replace("LOST", str(BITS[bits])),
               "forward.py": grow_program(open_reference(of)).forward},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "bits", "meets"),
    [
        ("fp32-strict", 24, None),
        ("fp32-strict", 11, "fp16-accumulate-fp32"),
        ("fp32-strict", 8, "bf16-accumulate-fp32"),
        ("tf32-like", 11, "fp16-accumulate-fp32"),
        ("fp16-accumulate-fp32", 11, None),
        ("fp16-accumulate-fp32", 8, "bf16-accumulate-fp32"),
        ("bf16-accumulate-fp32", 8, None),
    ],
)
def test_kernels_that_round_are_accepted_only_where_that_is_permitted(
    name, bits, meets, machine, tmp_path
):
    of = problem(tmp_path, CHAIN, name)
    judge = Judge(of, machine, baselines=["eager"])
    try:
        verdict = judge.judge(chain(of, bits), "screen")
    finally:
        judge.close()
    if meets is None:
        assert verdict.status == "accepted", verdict.reason
    else:
        assert verdict.status == "incorrect"
        assert f"only as exact as {meets} permits" in verdict.reason
        assert verdict.refusal.check == "precision"
        assert f"--precision {meets}" in verdict.refusal.mend


def test_a_rounded_product_is_named_and_no_better_policy_takes_it(machine, tmp_path):
    for name, status in (("tf32-like", "incorrect"), ("bf16-accumulate-fp32", "accepted")):
        of = problem(tmp_path, PRODUCT, name)
        judge = Judge(of, machine, baselines=["eager"])
        candidate = Candidate(
            problem=of.digest, toolchain="torch", entry="model_new.py", proposer="test",
            files={"model_new.py": MODEL.replace("ROUNDED", ROUNDED)},
        )  # fmt: skip
        try:
            verdict = judge.judge(candidate, "screen")
        finally:
            judge.close()
        assert verdict.status == status, verdict.reason
        if status == "incorrect":
            assert "only as exact as bf16-accumulate-fp32" in verdict.reason


@pytest.mark.parametrize("forward", ["x @ self.w", "torch.softmax(x, 1)", "x.sum(1)", "x.norm()"])
def test_on_every_distribution_rounding_is_told_from_more_of_it(forward, tmp_path):
    """Operands rounded as one policy permits pass under it, and fail under the next better one."""
    names = ["tf32-like", "bf16-accumulate-fp32"] if "@" in forward else ["bf16-accumulate-fp32"]
    better = ["fp32-strict", *names]
    for name in names:
        of = problem(tmp_path, FILE.replace("FORWARD", forward), name)
        cases = Cases(open_reference(of), 11, lambda *_: None)
        strict = precision(better[better.index(name) - 1])
        told = False
        for case in map(cases.get, filter(cases.usable, range(cases.count))):
            out = rounded_operands(cases, case, precision(name))
            assert cases.error(out, case) <= cases.limit(case)
            told |= cases.error(out, case) > cases.limit(case, strict)
        assert told


def rounded_operands(cases, case, to):
    """The reference on rounded inputs and weights, computed in float32."""
    (x,), w = case.inputs, cases.reference.state()["w"]
    kept = w.clone()
    w.copy_(rounded(w, to))
    try:
        return cases.reference.run([rounded(x, to)])
    finally:
        w.copy_(kept)


def test_rounding_is_that_of_the_formats():
    x = torch.cat(
        [
            torch.randn(9999) * 10 ** torch.empty(9999).uniform_(-9, 9),
            torch.tensor([0.0, -0.0, torch.inf, torch.nan, 65519.0, 65520.0, 1e-8, 6e-8]),
        ]
    )
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        got = rounded(x, precision(f"{name}-accumulate-fp32"))
        torch.testing.assert_close(got, x.to(dtype).float(), rtol=0, atol=0, equal_nan=True)


def test_a_policy_is_part_of_the_digest_and_of_the_record(tmp_path):
    found = {name: problem(tmp_path, CHAIN, name) for name in precisions()}
    assert len({p.digest for p in found.values()}) == len(found)
    for name, made in found.items():
        assert made.policy.precision == name
        assert Problem.from_dict(made.to_dict()).digest == made.digest
    assert "special" not in found["tf32-like"].to_dict()["policy"], "older digests must hold"
    assert precision("fp32").name == "fp32-strict", "the name in older records"


def test_unknown_names_say_the_nearest(tmp_path, capsys):
    with pytest.raises(UnknownName) as caught:
        precision("tf32")
    assert "tf32-like" in caught.value.mend
    with pytest.raises(BadInput):
        Policy(precision="fp31")
    (tmp_path / "p.py").write_text(CHAIN)
    for command in (["optimize", "FILE"], ["judge", "x", "--problem", "FILE"], ["bench", "."]):
        words = [w.replace("FILE", str(tmp_path / "p.py")) for w in command]
        assert main([*words, "--precision", "tf32-lik"]) == 2
        error = capsys.readouterr().err
        assert "unknown precision 'tf32-lik' — did you mean 'tf32-like'?" in error


def test_a_recorded_candidate_can_be_judged_under_another_policy(machine, tmp_path, monkeypatch):
    from epitaxy.commands import rejudge
    from epitaxy.commands.recorded import recorded_run

    of, ledger = problem(tmp_path, CHAIN, "fp32-strict"), tmp_path / "l.sqlite"
    folder = tmp_path / "k"
    folder.mkdir()
    for name, text in chain(of, 8).files.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(rejudge, "open_machine", lambda *_: machine)
    file = str(tmp_path / "p.py")
    first = rejudge.judge_one(str(folder), file, ledger).judged[0]
    assert first[1].status == "incorrect"
    policy = {"precision": "bf16-accumulate-fp32"}
    second = rejudge.judge_one(first[0].digest, file, ledger, policy=policy)
    assert second.judged[0][1].accepted, second.judged[0][1].reason
    assert second.problem.policy.precision == policy["precision"]
    assert recorded_run(file, ledger, policy).best is not None
    assert recorded_run(file, ledger).best is None
