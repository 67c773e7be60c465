"""Experts as Triton: ragged, empty, lone batches, run by its interpreter, built for two chips."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from test_absent import CHIPS, ROOT, grown, needs_triton
from test_experts import CASES, EXPERTS, values_before

from epitaxy.chip import find_chip
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.program import RegionCall
from epitaxy.proposers.triton import space
from epitaxy.proposers.triton.choices import Choices
from epitaxy.proposers.triton.emit import write_source
from epitaxy.toolchains._absent import same_but_numbers

TILE = Choices(block_m=16, block_n=16, block_k=16)
RUN = """
import epitaxy.toolchains._triton_interpreter
import importlib, sys, torch
sys.path.insert(0, sys.argv[1])
cases = torch.load(sys.argv[1] + "/cases.pt")
made = [getattr(importlib.import_module(file), name)(*given)[0] for file, name, given in cases]
torch.save(made, sys.argv[1] + "/made.pt")
"""


def region_call(module, inputs):
    program = capture(module, inputs, accept=lambda region: writable(region) or region.routed)
    (step,) = [s for s in program.steps if isinstance(s, RegionCall) and s.region.routed]
    return program, step


def routed_to(expert, logits):
    """Logits that send every row to `expert` first, and then to the last of the others."""
    return torch.eye(EXPERTS)[expert].expand_as(logits) * 9 + torch.arange(EXPERTS) * 0.1


def narrowed(name, dtype):
    """A case in a smaller type, its router's choices the same in every type."""
    module, (x, logits) = CASES[name]
    places = torch.stack([torch.randperm(EXPERTS) for _ in range(logits.numel() // EXPERTS)])
    return deepcopy(module).to(dtype), [x.to(dtype), places.reshape(logits.shape).to(dtype)]


SMALLER = {
    "gathered_bfloat16": narrowed("gathered", torch.bfloat16),
    "masked_bfloat16": narrowed("masked", torch.bfloat16),
    "gathered_float16": narrowed("gathered", torch.float16),
}
ALL = CASES | SMALLER


def trials():
    """(case, inputs): ragged, of one or two experts, none at all, and with NaN and infinities."""
    for name, (_, inputs) in ALL.items():
        yield name, inputs
    for name in ("gathered", "masked"):
        x, logits = CASES[name][1]
        for expert in (0, EXPERTS - 1):
            yield name, [x, routed_to(expert, logits)]
    x, chosen = CASES["given"][1]
    yield "given", [x, torch.full_like(chosen, EXPERTS)]  # to none
    x, logits = CASES["masked"][1]
    x = x.clone()
    x[0, 3, 2], x[1, 1, 0], x[2, 0, 1] = torch.nan, torch.inf, -torch.inf
    yield "masked", [x, logits]


@needs_triton
def test_experts_are_what_pytorch_computes_in_float64(tmp_path):
    calls = {}
    for name, (module, inputs) in ALL.items():
        calls[name] = region_call(module, inputs)
        region = calls[name][1].region
        text, _ = write_source([region], ((region.name, TILE),))
        (tmp_path / f"{name}.py").write_text(text)
    cases, wanted = [], []
    with torch.no_grad():
        for name, inputs in trials():
            module, (program, step) = ALL[name][0], calls[name]
            given = values_before(program, step, module, inputs)
            cases.append((name, f"_{step.region.name}", given))
            wide = [x.double() if x.is_floating_point() else x for x in inputs]
            wanted.append(deepcopy(module).double()(*wide))
    torch.save(cases, tmp_path / "cases.pt")
    (tmp_path / "run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for made, meant in zip(torch.load(tmp_path / "made.pt"), wanted, strict=True):
        near = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(made.dtype, 1e-6)
        made = made.reshape(meant.shape).double()
        torch.testing.assert_close(made, meant, rtol=10 * near, atol=near, equal_nan=True)


def test_masked_experts_are_written_for_a_chip():
    problem = load(ROOT / "suites" / "level3" / "experts_masked.py")
    candidate = grown(problem, "mi300x", "triton_amd")
    whole = candidate.files["kernels.py"]
    assert "if first >= rows:" in whole
    assert "atomic" not in whole
    assert not any("linear" in x for x in candidate.left)
    if small := candidate.files.get("small/kernels.py"):
        assert same_but_numbers(whole, small)


def test_products_of_a_smaller_type_stay_in_it():
    _, step = region_call(*SMALLER["gathered_bfloat16"])
    text, _ = write_source([step.region], ((step.region.name, TILE),))
    assert "input_precision" not in text  # float32's
    assert "\n        a = x1_\n" in text  # as it lies there
    assert ".to(tl.bfloat16), mask=" in text
    assert "dtype=torch.bfloat16" in text
    assert not writable(step.region)


def test_tiles_over_the_chips_limits_are_refused_with_the_limit():
    _, step = region_call(*CASES["gathered"])
    chip = find_chip("mi300x")
    assert space.excess(step.region, TILE, chip) == ""
    large = Choices(block_m=64, block_n=64, block_k=64, stages=9, warps=1)
    assert "block_local_bytes" in space.excess(step.region, large, chip)


@needs_triton
@pytest.mark.parametrize(("toolchain", "chip"), CHIPS.items())
def test_the_compilers_take_experts(toolchain, chip, tmp_path):
    problem = load(ROOT / "suites" / "level3" / "experts_gathered.py")
    build = plugins("toolchains").get(toolchain)
    candidate = grown(problem, chip, toolchain)
    built = build.build(candidate, problem, Path(tmp_path))
    assert built.ok, built.log
