"""Attention and positions as Pallas writes them: masks, groups of heads, odd sizes, limits."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from epitaxy.chip import find_chip
from epitaxy.proposers._frames import spans
from epitaxy.proposers._genomes import Choices
from epitaxy.proposers.grower.algebra import Affine, Axis
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.program import RegionCall
from epitaxy.proposers.pallas import fitting
from epitaxy.proposers.pallas.kernels import write_source

ROOT = Path(__file__).parents[2]
TILE = Choices(rows=32, columns=128, depth=128, lead=1)
TPU = find_chip("tpu_v6e")
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="no JAX: pip install 'epitaxy[tpu]'"
)


class Of(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def attend(**how):
    return Of(lambda q, k, v, *mask: F.scaled_dot_product_attention(q, k, v, *mask, **how))


def side_by_side(z):
    q, k, v = z.view(1, 160, 3, 2, 24).permute(2, 0, 3, 1, 4)
    return torch.relu(F.scaled_dot_product_attention(q, k, v, is_causal=True)).transpose(1, 2)


def windowed(q, k, v):
    at = torch.arange(q.shape[-2])
    ahead = at[None, :] - at[:, None]
    scores = torch.tanh(q @ k.transpose(-1, -2) / 6) * 9 + ahead * 0.125
    masked = scores.masked_fill((ahead > 0) | (ahead < -60), float("-inf"))
    return torch.softmax(masked, -1) @ v


def triangle(x):
    ahead = torch.arange(300)[None, :] > torch.arange(50)[:, None] * 6
    return torch.softmax(x.masked_fill(ahead, float("-inf")) + torch.arange(300) * 0.01, -1)


def three(queries, keys, heads=2, shared=0, depth=16):
    shapes = [(1, heads, queries, depth), *[(1, shared or heads, keys, depth)] * 2]
    return [torch.randn(s) for s in shapes]


def strange():
    """Values ahead of most queries that are not finite, and a key that is NaN."""
    q, k, v = three(200, 200)
    k[0, 0, 150, :], v[0, 0, 190, 3], v[0, 1, 10, 3] = torch.nan, torch.nan, torch.inf
    return [q, k, v]


CASES = {
    "odd": (attend(), [torch.randn(1, 2, n, d) for n, d in ((50, 17), (300, 17), (300, 9))]),
    "brain": (
        attend(is_causal=True, enable_gqa=True),
        [x.bfloat16() for x in three(96, 200, 4, 2, depth=40)],
    ),
    "first_key": (attend(is_causal=True), three(1, 300)),
    "truths": (attend(), [*three(40, 256), torch.rand(40, 256) > 0.5]),
    "side_by_side": (Of(side_by_side), [torch.randn(1, 160, 144)]),
    "windowed": (Of(windowed), three(256, 256)),
    "triangle": (Of(triangle), [torch.randn(2, 50, 300)]),
    "strange": (attend(is_causal=True), strange()),
}  # fmt: skip
RUN = """
import importlib, sys, torch
from epitaxy.toolchains.pallas_tpu import PallasTpu
sys.path.insert(0, sys.argv[1])
cases = torch.load(sys.argv[1] + "/cases.pt")
made = [getattr(importlib.import_module(file), name)(*given)[0] for file, name, given in cases]
torch.save(made, sys.argv[1] + "/made.pt")
"""


def region_of(module, inputs):
    program = capture(module, inputs, accept=lambda _: True)
    (step,) = [s for s in program.steps if isinstance(s, RegionCall)]
    return step.region, [inputs[program.inputs.index(a)] for a in step.args]


def written(region, choices=TILE):
    return write_source([region], ((region.name, choices),), TPU)


@needs_jax
def test_they_are_what_pytorch_computes_in_float64(tmp_path):
    prelude = (ROOT / "src/epitaxy/toolchains/pallas_prelude.py.txt").read_text()
    head = "import functools as _epitaxy_functools\nimport os as _epitaxy_os\n"
    head += "import torch as _epitaxy_torch\n"
    cases = []
    for name, (module, inputs) in CASES.items():
        region, given = region_of(module, inputs)
        (tmp_path / f"case_{name}.py").write_text(head + prelude + written(region))
        cases.append((f"case_{name}", f"_{region.name}", given))
    torch.save(cases, tmp_path / "cases.pt")
    (tmp_path / "run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "JAX_PLATFORMS": "cpu",
                   "EPITAXY_PALLAS_INTERPRET": "1"}  # fmt: skip
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for name, made in zip(CASES, torch.load(tmp_path / "made.pt"), strict=True):
        module, inputs = CASES[name]
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        meant = module(*wide)
        near = 2e-2 if made.dtype is torch.bfloat16 else 2e-6
        torch.testing.assert_close(
            made.double().reshape(meant.shape), meant, rtol=near, atol=near, equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip


def test_blocks_that_positions_mask_away_are_neither_fetched_nor_multiplied():
    region, _ = region_of(attend(is_causal=True), three(256, 256))
    text = written(region)
    assert "seen = j * 128 < i * 32 + 32" in text
    assert "lambda b0, i, j: (b0, jnp.minimum(j, lax.div(i * 32 + 31, 128)), 0)" in text
    region, _ = region_of(*CASES["odd"])
    text = written(region)
    assert "pl.when(seen)" not in text
    assert "key < 300" in text


def test_what_does_not_fit_is_refused_with_the_limit_and_the_bytes():
    region, _ = region_of(attend(), three(128, 128, depth=1 << 17))
    with pytest.raises(Unsupported, match=r"^\d{9,} bytes of blocks, VMEM has 134217728 .vmem_mib"):
        fitting(region, TPU)


def test_half_precision_is_named():
    region, _ = region_of(attend(), [x.half() for x in three(32, 128)])
    with pytest.raises(Unsupported, match="float16 on a TPU"):
        fitting(region, TPU)


@pytest.mark.parametrize(("offset", "place"), [(0, 0), (100, 1), (50, None)])
def test_a_part_of_a_tensor_is_a_block_of_it_or_refused(offset, place):
    rows, columns = Axis("i", 100), Axis("j", 4)
    index = Affine(offset * 4, ((rows, 4), (columns, 1)))
    if place is None:
        with pytest.raises(Unsupported, match="no block"):
            spans(index, 800)
    else:
        assert spans(index, 800) == [(2, place), (100, rows), (4, columns)]
