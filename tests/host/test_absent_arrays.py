"""Pallas and NKI under the suites for plugins, and what the grower writes in them."""

from __future__ import annotations

import json

import pytest

from epitaxy.chip import find_chip
from epitaxy.errors import BadProblem, MachineFault
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.record import FrozenDict
from epitaxy.testing import SampleView, ToolchainConformance
from epitaxy.toolchains import _confined

FORWARD = """import torch


class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(("float32", (8, 16)),))
    def forward(x):
        return _relu(x)[0]
"""
PALLAS = """import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl


def _kernel(x_ref, y_ref):
    y_ref[...] = jnp.maximum(x_ref[...], 0.0)


@_epitaxy_arrays
def _relu(x):
    shape = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    return [pl.pallas_call(_kernel, out_shape=shape, interpret=_epitaxy_interpret)(x)]
"""
NKI = """import nki.isa as nisa
import nki.language as nl


@_epitaxy_arrays
def _relu(x):
    y = nl.ndarray((8, 16), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((8, 16), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.maximum, operand0=0.0)
    nisa.dma_copy(dst=y, src=tile)
    return y
"""
WIDE = NKI.replace("tile = nl.ndarray((8, 16)", "tile = nl.ndarray((8, 60000)")


class TestPallas(ToolchainConformance):
    plugin, entry = "pallas_tpu", "forward.py"
    files = FrozenDict({"kernels.py": PALLAS, "forward.py": FORWARD})
    broken, broken_entry = FrozenDict({**files, "kernels.py": "def broken( :"}), "forward.py"


class TestNki(ToolchainConformance):
    plugin, entry = "nki_trainium", "forward.py"
    files = FrozenDict({"kernels.py": NKI, "forward.py": FORWARD})
    broken, broken_entry = FrozenDict({**files, "kernels.py": "def broken( :"}), "forward.py"

    def test_a_kernel_over_a_limit_is_refused_by_its_name(self, tmp_path):
        it = self.make()
        wide = self.candidate({**self.files, "kernels.py": WIDE}, self.entry, it.name)
        build = it.build(wide, self.problem, tmp_path)
        assert not build.ok
        assert "240000; the chip has 229376 (sbuf_partition_bytes)" in build.log

    def test_a_crash_of_what_builds_is_the_machines_fault(self, tmp_path, monkeypatch):
        it = self.make()
        given = self.candidate(self.files, self.entry, it.name)
        ended = iter([_confined.Ended(128 + 11), _confined.Ended(-6), _confined.Ended(137)])
        monkeypatch.setattr(_confined, "run", lambda *_: next(ended))
        for name in ("SIGSEGV", "SIGABRT"):
            with pytest.raises(MachineFault, match=f"nki_trainium crashed .{name}."):
                it.build(given, self.problem, tmp_path)
        late = it.build(given, self.problem, tmp_path)  # killed at a limit
        assert "ended with status 137" in late.log


LINEAR = """import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(256, 384)

    def forward(self, x):
        return torch.nn.functional.gelu(self.linear(x))

def get_inputs():
    return [torch.randn(128, 256)]

def get_init_inputs():
    return []
"""
SOFTMAX = """import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x * 0.5, dim=-1)

def get_inputs():
    return [torch.randn(256, 512)]

def get_init_inputs():
    return []
"""


SEVERAL = """import torch

class Model(torch.nn.Module):
    def forward(self, a, b, c):
        return torch.relu(torch.bmm(a, b) + 0.5), torch.cumsum(c * 2.0, dim=1)

def get_inputs():
    return [torch.randn(3, 16, 128), torch.randn(3, 128, 128), torch.randn(128, 256)]

def get_init_inputs():
    return []
"""
"""Products of a batch, and running sums."""
LONG = """import torch
import torch.nn.functional as F

class Model(torch.nn.Module):
    def forward(self, x, w, z):
        q, k, v = z.view(1, 160, 3, 2, 32).permute(2, 0, 3, 1, 4)
        causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.softmax(x * w, dim=-1), torch.relu(causal).transpose(1, 2)

def get_inputs():
    return [torch.randn(2, 4, 40000), torch.randn(4, 1), torch.randn(1, 160, 192)]

def get_init_inputs():
    return []
"""
"""Rows of which a partition of SBUF does not hold what is made of them; and attention on queries,
keys and values that lie side by side in memory."""


@pytest.mark.parametrize(
    ("source", "language", "toolchain", "chip"),
    [
        (SEVERAL, "pallas", "pallas_tpu", "tpu_v6e"),
        (SEVERAL, "nki", "nki_trainium", "trainium2"),
        (LINEAR, "pallas", "pallas_tpu", "tpu_v6e"),
        (SOFTMAX, "nki", "nki_trainium", "trainium2"),
        (LINEAR, "nki", "nki_trainium", "trainium2"),
        (LONG, "nki", "nki_trainium", "trainium2"),
        (LONG, "pallas", "pallas_tpu", "tpu_v6e"),
    ],
)
def test_it_is_written_and_judged(tmp_path, source, language, toolchain, chip):
    from epitaxy.checked import judge_for

    found = plugins("toolchains").get(toolchain).available()
    if not found.ok:
        pytest.skip(f"{toolchain}: {found.detail}")
    path = tmp_path / "given.py"
    path.write_text(source)
    problem, facts = load(path), find_chip(chip)
    view = SampleView(problem=problem, chip=facts, toolchains=(toolchain,))
    candidate = plugins("proposers").get(language).propose(view, 1)[0]
    assert candidate.left == ()
    machine = plugins("machines").get("absent").of(facts)
    judge = judge_for(machine)(problem, machine)
    try:
        verdict = judge.judge(candidate)
    finally:
        judge.close()
        machine.close()
    assert verdict.accepted, json.dumps(verdict.to_dict())[:2000]
    assert verdict.basis == ("checked" if machine.compiles else "simulated")
    assert verdict.metrics["bytes_moved"] >= problem.work.bytes
    assert verdict.metrics["predicted_cost"] >= 1


@pytest.mark.parametrize(
    ("language", "toolchain", "chip", "said"),
    [
        ("pallas", "pallas_tpu", "tpu_v6e", "in Pallas .*float64 on a TPU"),
        ("nki", "nki_trainium", "trainium2", "in NKI .*float64 on a NeuronCore"),
    ],
)
def test_a_dtype_that_the_chip_has_not_is_named(tmp_path, language, toolchain, chip, said):
    (tmp_path / "wide.py").write_text(
        SOFTMAX.replace("torch.randn(256, 512)", "torch.randn(4, 8, dtype=torch.float64)")
    )
    problem = load(tmp_path / "wide.py")
    view = SampleView(problem=problem, chip=find_chip(chip), toolchains=(toolchain,))
    with pytest.raises(BadProblem, match=said) as refused:
        plugins("proposers").get(language).propose(view, 1)
    assert "stays with PyTorch" in refused.value.mend
