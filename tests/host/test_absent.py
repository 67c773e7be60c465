"""Triton for chips that are not here: grown, built by the real compilers, checked on this CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from epitaxy.candidate import Candidate
from epitaxy.checked import CheckingJudge
from epitaxy.chip import find_chip
from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.judge import Judge
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.proposers.triton import plugin as triton_grower
from epitaxy.record import FrozenDict
from epitaxy.testing import MachineConformance, SampleView, ToolchainConformance
from epitaxy.toolchains._absent import same_but_numbers

ROOT = Path(__file__).parents[2]
HERE = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HERE, reason="Triton is not installed: .[triton]")
CHIPS = {"triton_nvidia": "h100_sxm", "triton_amd": "mi300x"}
HEADER = "import torch\nimport triton\nimport triton.language as tl\n\n\n"
RELU = f"""{HEADER}@triton.jit
def _relu(x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i, tl.maximum(tl.load(x + i), 0.0, propagate_nan=tl.PropagateNan.ALL))


def _region0(x):
    y = torch.empty((8, 16), dtype=torch.float32, device=x.device)
    _relu[(1,)](x, y, BLOCK=128)
    return [y]
"""
FORWARD = """class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(('float32', (8, 16)),))
    def forward(x):
        y, = _region0(x)
        return y
"""


class TestNvidia(ToolchainConformance):
    plugin = "triton_nvidia"
    files = FrozenDict({"kernels.py": RELU, "forward.py": FORWARD})
    entry = "forward.py"
    broken = FrozenDict({"kernels.py": RELU.replace("tl.arange(0, BLOCK)", "nothing"),
                         "forward.py": FORWARD})  # fmt: skip


class TestAmd(TestNvidia):
    plugin = "triton_amd"


class TestAbsent(MachineConformance):
    plugin = "absent"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    absent = plugins("machines").get("absent")
    absent.home = tmp_path_factory.mktemp("home")
    made = absent.of(find_chip("h100_sxm"))
    yield made
    made.close()


SMALL = """import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs():
    return [torch.randn(32, 100)]

def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("p") / "rows.py"
    path.write_text(SMALL)
    return load(path)


def grown(problem, chip="h100_sxm", toolchain="triton_nvidia"):
    view = SampleView(problem=problem, chip=find_chip(chip), toolchains=(toolchain,))
    return triton_grower().propose(view, 1)[0]


def test_the_grower_writes_triton_with_the_problems_own_sizes(problem):
    candidate = grown(problem)
    text = candidate.files["kernels.py"]
    assert "tl.max(" in text
    assert "column < 100" in text
    assert candidate.toolchain == "triton_nvidia"
    assert "small/kernels.py" not in candidate.files  # small as it is


def test_large_problems_bring_a_form_that_an_interpreter_can_bear():
    candidate = grown(load(ROOT / "examples" / "rmsnorm.py"))
    whole, small = (candidate.files[f"{p}kernels.py"] for p in ("", "small/"))
    assert "float32[16, 64, 128, 128]" in whole
    assert "float32[2, 64, 128, 128]" in small


@pytest.mark.parametrize(
    ("file", "chip", "holds"),
    [
        ("examples/linear_gelu.py", "h100_sxm", ("tl.dot(a, b", 'input_precision="tf32x3"')),
        ("examples/linear_gelu.py", "mi300x", ("tl.dot(a, b", 'input_precision="ieee"')),
        ("suites/level2/causal_attention.py", "h100_sxm", ("range(0, 256, BLOCK_N)", "= higher")),
        ("examples/cumsum.py", "mi300x", ("tl.cumsum(",)),
        ("examples/matrix_vector.py", "h100_sxm", ("tl.sum(x1_ * x0_",)),
        ("examples/groupnorm_swish.py", "h100_sxm", ("range(0, 73728, BLOCK_N)",)),
        ("examples/groupnorm_swish.py", "mi300x", ("range(0, 73728, BLOCK_N)",)),
    ],
)
def test_each_kind_of_region_is_written_for_each_chip(file, chip, holds):
    toolchain = {v: k for k, v in CHIPS.items()}[chip]
    candidate = grown(load(ROOT / file), chip, toolchain)
    whole, small = (candidate.files[f"{p}kernels.py"] for p in ("", "small/"))
    assert all(text in whole for text in holds), whole
    assert same_but_numbers(whole, small)
    assert grown(load(ROOT / file), chip, toolchain).digest == candidate.digest


@needs_triton
def test_softmax_is_checked_and_never_timed(problem, machine):
    judge = CheckingJudge(problem, machine)
    try:
        verdict = judge.judge(grown(problem))
        assert (verdict.status, verdict.basis) == ("accepted", "checked"), verdict.reason
        assert verdict.time_s is None
        assert verdict.speedup is None
        assert verdict.metrics["registers"] > 0
        assert 0 < verdict.metrics["occupancy"] <= 1
        wrong = changed(grown(problem), "tl.sum(", "2.0 * tl.sum(")
        assert judge.judge(wrong).status == "incorrect"
        outside = changed(grown(problem), "mask=within", "mask=column < 4000")
        fault = judge.judge(outside)
        assert fault.status == "crashed"
        assert "outside the tensors" in fault.reason
    finally:
        judge.close()


@needs_triton
def test_a_kernel_over_the_chips_local_memory_is_refused_with_its_bytes(problem, machine):
    text = f"""{HEADER}@triton.jit
def _big(x, y):
    i = tl.arange(0, 128)[:, None]
    j = tl.arange(0, 32)[None, :]
    total = tl.zeros([128, 128], tl.float32)
    for k in range(0, 64):
        a = tl.load(x + i * 128 + j + k * 32)
        b = tl.load(x + tl.trans(i) + tl.trans(j) * 128 + k * 32)
        total = tl.dot(a, b, total, input_precision="tf32")
    tl.store(y + i * 128 + tl.trans(i), total)


def _region0(x0):
    y = torch.empty((32, 100), dtype=torch.float32, device=x0.device)
    _big[(1,)](x0, y, num_warps=8, num_stages=9)
    return [y]
"""
    own = grown(problem)
    candidate = own.replace(files={**own.files, "kernels.py": text})
    build = plugins("toolchains").get("triton_nvidia").build(candidate, problem, machine.home)
    assert not build.ok
    assert "232448" in build.log
    assert "bytes of shared memory" in build.log


@needs_triton
def test_the_interpreter_is_right_on_bfloat16_products_and_sums():
    code = """
import epitaxy.toolchains._triton_interpreter
import torch, triton, triton.language as tl
@triton.jit
def k(a, b, c, s):
    i = tl.arange(0, 32)[:, None]; j = tl.arange(0, 32)[None, :]
    x = tl.load(a + i * 32 + j); y = tl.load(b + i * 32 + j)
    tl.store(c + i * 32 + j, tl.dot(x, y)); tl.store(s, tl.sum(tl.sum(x, 1), 0))
a, b = (torch.randn(32, 32).bfloat16() for _ in "ab")
c = torch.empty(32, 32, dtype=torch.bfloat16); s = torch.empty(1, dtype=torch.bfloat16)
k[(1,)](a, b, c, s)
assert torch.equal(c, (a.float() @ b.float()).bfloat16())
assert abs(float(s) - float(a.float().sum())) < 0.5
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    # Triton reads a kernel's source: it has to lie in a file.
    done = run_as_file(code, environment)
    assert done.returncode == 0, done.stderr


def run_as_file(code, environment):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.py")
        path.write_text(code)
        command = [sys.executable, str(path)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@needs_triton
def test_optimize_for_a_chip_that_is_not_here(tmp_path):
    (tmp_path / "rows.py").write_text(SMALL)
    environment = {
        **os.environ, "EPITAXY_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    command = [sys.executable, "-m", "epitaxy.cli", "optimize", "rows.py", "--chip", "mi300x",
               "--budget", "1", "--out", "out", "--json"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["basis"] == "checked"
    assert found["time_s"] is None
    assert found["speedup"] is None
    assert "not timed" in found["headline"]
    assert (tmp_path / "out" / "candidate" / "kernels.py").is_file()


def test_the_judge_of_this_machine_refuses_what_is_for_another_chip(problem, machine_of):
    """It would be judged as the reference that it falls back to."""
    with machine_of() as local:
        verdict = Judge(problem, local).judge(grown(problem))
    assert verdict.status == "refused"
    assert "not here" in verdict.reason


def test_chips_that_nothing_builds_for_are_said():
    with pytest.raises(BadInput, match="no toolchain builds"):
        plugins("machines").get("absent").of(find_chip("gaudi3"))


@pytest.mark.skipif(HERE, reason="Triton is installed")
def test_a_missing_triton_is_said_with_its_mend():
    with pytest.raises(BadEnvironment) as missing:
        plugins("machines").get("absent").of(find_chip("h100_sxm"))
    assert "epitaxy[triton]" in missing.value.mend


@pytest.mark.parametrize(
    "line",
    ["triton.runtime.driver", "tl.inline_asm_elementwise", "tl.core.load", "torch.load"],
)
def test_static_checks_know_what_a_kernel_may_take_from_triton(problem, line):
    own = Candidate(
        problem=problem.digest, toolchain="triton_nvidia", entry="forward.py", proposer="t",
        files={"kernels.py": RELU, "forward.py": FORWARD},
    )  # fmt: skip
    check = plugins("checks").get("sources")
    assert check.check(own, problem) == []
    bad = own.replace(files={**own.files, "kernels.py": RELU + f"\n\nodd = {line}\n"})
    assert check.check(bad, problem)


def changed(candidate, old, new):
    text = candidate.files["kernels.py"]
    assert old in text
    return candidate.replace(files={**candidate.files, "kernels.py": text.replace(old, new)})


TRUTHS = (
    HEADER
    + """@triton.jit
def _is(x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i, (tl.load(x + i) == 3).to(tl.int64))
"""
)


@needs_triton
def test_the_interpreter_widens_truths_to_the_type_that_was_compared(tmp_path):
    """It stored single bytes, and left the rest of each number as the memory had it."""
    (tmp_path / "kernel.py").write_text(TRUTHS)
    script = (
        "import sys, torch; sys.path.insert(0, sys.argv[1])\n"
        "import epitaxy.toolchains._triton_interpreter\n"
        "from kernel import _is\n"
        "y = torch.full((16,), -1)\n"
        "_is[(1,)](torch.arange(16), y, BLOCK=16)\n"
        "print(y.tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout or "[]") == [int(i == 3) for i in range(16)], done.stderr


def test_attention_in_half_precision_is_grown(tmp_path):
    path = tmp_path / "attend.py"
    path.write_text(
        "import torch\n\nclass Model(torch.nn.Module):\n    def forward(self, q, k, v):\n"
        "        attend = torch.nn.functional.scaled_dot_product_attention\n"
        "        return attend(q, k, v, is_causal=True)\n\n\ndef get_inputs():\n"
        "    return [torch.randn(1, 2, 64, 32).half() for _ in range(3)]\n\n\n"
        "def get_init_inputs():\n    return []\n"
    )
    text = grown(load(path)).files["kernels.py"]
    assert "weights.to(tl.float16)" in text
    assert "replaces aten.scaled_dot_product_attention" in text
