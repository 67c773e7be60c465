"""Kernels in CUDA C++ and HIP launched on the GPU that is here: right, at every size of theirs.

None of this has run on a GPU yet. Times are printed and judged by nobody.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from epitaxy.handmade import read_folder
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.product import load as load_product

ROOT = Path(__file__).parents[2]
KERNELS = {"softmax": "softmax", "rmsnorm": "rmsnorm", "matmul": "matmul_square"}
CALLS = 20
FLUSHED_BYTES = 256 << 20
"""More than the second-level cache of any GPU."""


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_kernel_is_right_on_the_chip(gpu, name, tmp_path):
    import torch

    device, chip = gpu
    problem = load(ROOT / "examples" / f"{KERNELS[name]}.py")
    backend = "hip" if torch.version.hip else "cuda"
    toolchain = plugins("toolchains").get(backend)
    state = toolchain.available()
    if not state.ok:
        pytest.skip(f"{state.detail}: {state.mend}")
    toolchain.aim(chip)
    candidate = read_folder(ROOT / "kernels" / f"{name}_{backend}", problem, chip=chip)
    build = toolchain.build(candidate, problem, tmp_path)
    assert build.ok, build.log
    space: dict = {}
    exec(compile(problem.source, "reference", "exec"), space)
    torch.manual_seed(0)
    init = space["get_init_inputs"]()
    reference = space["Model"](*init).eval()
    made = load_product(Path(build.folder) / "model_new.py")(*init).eval()
    made.load_state_dict(reference.state_dict())
    made, exact = made.to(device), reference.double()
    with torch.no_grad():
        for _ in range(3):
            given = list(space["get_inputs"]())
            ours = made(*[x.to(device) for x in given]).cpu().double()
            right = exact(*[x.double() for x in given])
            error = ((ours - right).abs() / (right.abs() + right.square().mean().sqrt())).max()
            assert error < 1e-5
        tensors = [x.to(device) for x in given]
        print(f"{name} on {torch.cuda.get_device_name()}: {clocks(made, tensors)}")


def clocks(call, tensors):
    """Milliseconds of the fastest call by CUDA's events and by the wall clock, caches flushed."""
    import torch

    flush = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device=tensors[0].device)
    events, walls = [], []
    for _ in range(CALLS):
        flush.zero_()
        torch.cuda.synchronize()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start = time.perf_counter()
        first.record()
        call(*tensors)
        last.record()
        torch.cuda.synchronize()
        walls.append((time.perf_counter() - start) * 1e3)
        events.append(first.elapsed_time(last))
    return f"{min(events):.4f} ms by events, {min(walls):.4f} ms by the wall clock"
