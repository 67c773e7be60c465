"""Matrix products against PyTorch, with MKL's slow and fast paths, and against the FMA peak.

    python benchmarks/gemm.py [--only NAME] [--tune 8] [--threads 4] [--best] [--show]

Every kernel is grown from the first guess on the measured chip (run `epitaxy probe` once); with
--tune the likely variants are timed too and the best is kept. Prints GFLOP/s as medians (--best:
the best) of calls that alternate with PyTorch's in one process, on reused outputs. For a look while
working: what counts is `epitaxy optimize`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from epitaxy.compiler import find_compiler, flags
from epitaxy.machines import _mkl
from epitaxy.probe import store
from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.emit import emit_source
from epitaxy.proposers.grower.growth import writable

MALLOC = (
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864"
)


def _conv(
    batch: int, channels: int, filters: int, size: int, *, window: int = 3, stride: int = 1,
    groups: int = 1, dims: int = 2,
) -> tuple[list[tuple[int, ...]], float]:  # fmt: skip
    """Shapes of an image and filters, and multiply-adds of their convolution at `size` pixels."""
    shapes = [
        (batch, channels, *(size,) * dims),
        (filters, channels // groups, *(window,) * dims),
    ]
    per_pixel = filters * channels // groups * window**dims
    return shapes, batch * (size // stride) ** dims * per_pixel


# name -> (expression over a, b, c, d; shapes; multiply-adds)
CASES: dict[str, tuple[str, list[tuple[int, ...]], float]] = {
    "square 1024": ("a @ b", [(1024, 1024), (1024, 1024)], 1024**3),
    "square 512": ("a @ b", [(512, 512), (512, 512)], 512**3),
    "square 128": ("a @ b", [(128, 128), (128, 128)], 128**3),
    "square 64": ("a @ b", [(64, 64), (64, 64)], 64**3),
    "odd 777": ("a @ b", [(777, 777), (777, 777)], 777**3),
    "256x1024x512": ("a @ b", [(256, 1024), (1024, 512)], 256 * 1024 * 512),
    "large k": ("a @ b", [(64, 65536), (65536, 64)], 64 * 64 * 65536),
    "small k": ("a @ b", [(2048, 64), (64, 2048)], 2048 * 2048 * 64),
    "small k of 32": ("a @ b", [(4096, 32), (32, 4096)], 4096 * 4096 * 32),
    "irregular": ("a @ b", [(509, 1021), (1021, 747)], 509 * 1021 * 747),
    "tall": ("a @ b", [(16384, 32), (32, 32)], 16384 * 32 * 32),
    "left turned": ("a.T @ b", [(512, 768), (512, 640)], 512 * 768 * 640),
    "right turned": ("a @ b.T", [(768, 512), (640, 512)], 512 * 768 * 640),
    "both turned": ("a.T @ b.T", [(512, 768), (640, 512)], 512 * 768 * 640),
    "batch of 128": ("torch.bmm(a, b)", [(128, 64, 128), (128, 128, 64)], 128 * 64 * 128 * 64),
    "batch of 32": ("torch.bmm(a, b)", [(32, 128, 128), (32, 128, 128)], 32 * 128**3),
    "4 dimensions": ("a @ b", [(8, 32, 32, 64), (64, 256)], 8 * 32 * 32 * 64 * 256),
    "matrix vector": ("a @ b", [(2048, 8192), (8192,)], 2048 * 8192),
    "vector matrix": ("b @ a", [(8192, 2048), (8192,)], 2048 * 8192),
    "small matvec": ("a @ b", [(512, 512), (512,)], 512 * 512),
    "8 rows": ("a @ b", [(8, 4096), (4096, 4096)], 8 * 4096 * 4096),
    "16 rows": ("a @ b", [(16, 4096), (4096, 4096)], 16 * 4096 * 4096),
    "8 rows linear": ("F.linear(a, b)", [(8, 4096), (4096, 4096)], 8 * 4096 * 4096),
    "1 row linear": ("F.linear(a, b)", [(1, 4096), (4096, 4096)], 4096 * 4096),
    "4 rows linear": ("F.linear(a, b)", [(4, 1024), (1024, 1024)], 4 * 1024 * 1024),
    "64 rows linear": ("F.linear(a, b)", [(64, 1024), (1024, 1024)], 64 * 1024 * 1024),
    "linear gelu": ("F.gelu(F.linear(a, b, c))", [(512, 512), (1024, 512), (1024,)], 512**2 * 1024),
    "linear softmax": ("F.linear(a, b, c).softmax(1)", [(512, 512), (512, 512), (512,)], 512**3),
    "triangular": ("torch.tril(a @ b)", [(1024,) * 2] * 2, 1024**3),
    "diagonal": ("torch.diag(a) @ b", [(1024,), (1024, 1024)], 1024**3),
    "bf16 1024": ("a @ b", [(1024, 1024), (1024, 1024)], 1024**3),
    "bf16 linear": ("F.linear(a, b)", [(512, 1024), (1024, 1024)], 512 * 1024**2),
    "int8 1024": ("a.int() @ b.int()", [(1024, 1024), (1024, 1024)], 1024**3),
    "int8 exact": ("a.float() @ b.float() * 0.01", [(1024, 1024), (1024, 1024)], 1024**3),
    "int8 weights": (
        "F.linear(a, b.float() * c[:, None])",
        [(512, 1024), (1024, 1024), (1024,)],
        512 * 1024**2,
    ),
    "conv 64 of 56": ("F.conv2d(a, b, None, 1, 1)", *_conv(8, 64, 64, 56)),
    "conv 128 of 28": ("F.conv2d(a, b, None, 1, 1)", *_conv(8, 128, 128, 28)),
    "conv 256 of 14": ("F.conv2d(a, b, None, 1, 1)", *_conv(8, 256, 256, 14)),
    "conv 512 of 7": ("F.conv2d(a, b, None, 1, 1)", *_conv(8, 512, 512, 7)),
    "conv 16 of 112": ("F.conv2d(a, b, None, 1, 1)", *_conv(8, 16, 128, 112)),
    "conv strided": ("F.conv2d(a, b, None, 2, 1)", *_conv(8, 64, 128, 56, stride=2)),
    "conv first": ("F.conv2d(a, b, None, 2, 3)", *_conv(8, 3, 64, 112, window=7, stride=2)),
    "conv dilated": ("F.conv2d(a, b, None, 1, 2, 2)", *_conv(8, 64, 64, 56)),
    "conv grouped": ("F.conv2d(a, b, None, 1, 1, 1, 4)", *_conv(8, 128, 128, 56, groups=4)),
    "conv depthwise": ("F.conv2d(a, b, None, 1, 1, 1, 128)", *_conv(8, 128, 128, 56, groups=128)),
    "conv pointwise": ("F.conv2d(a, b)", *_conv(8, 256, 256, 28, window=1)),
    "conv pointwise odd": ("F.conv2d(a, b)", *_conv(8, 192, 64, 35, window=1)),
    "conv line": ("F.conv1d(a, b, None, 1, 1)", *_conv(8, 64, 128, 4096, dims=1)),
    "conv volume": ("F.conv3d(a, b, None, 1, 1)", *_conv(2, 16, 32, 24, dims=3)),
    "conv norm relu": (
        "F.relu(F.conv2d(a, b, None, 1, 1) * c[:, None, None] + d[:, None, None])",
        [*_conv(8, 64, 64, 56)[0], (64,), (64,)],
        _conv(8, 64, 64, 56)[1],
    ),
    "conv relu pool": ("F.max_pool2d(F.conv2d(a, b, None, 1, 1).relu(), 2)", *_conv(8, 64, 64, 56)),
    "conv global mean": ("F.conv2d(a, b, None, 1, 1).mean((2, 3))", *_conv(8, 64, 64, 28)),
}


def main() -> None:
    """The table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--tune", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--best", action="store_true", help="best calls, for a busy machine")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.child, given)))
        return
    print(
        f"{'':16} {'ours':>7} {'of peak':>8} {'eager':>7} {'eager+mkl':>10} {'ratio':>6}   GFLOP/s"
    )
    for name in CASES:
        if given.only in name:
            row(name, given)


def row(name: str, given: Any) -> None:
    """Measure one case in two processes, one of them with MKL's fast path, and print it."""
    home = Path(os.environ.get("EPITAXY_HOME") or Path.home() / ".cache/epitaxy")
    command = [sys.executable, __file__, "--child", name, "--tune", str(given.tune)]
    command += ["--threads", str(given.threads), *(["--show"] if given.show else [])]
    command += ["--best"] if given.best else []
    env = {**os.environ, "GLIBC_TUNABLES": MALLOC}
    fast = {**env, "LD_PRELOAD": str(_mkl.build(home))} if _mkl.applies() else env
    results = []
    for each in (env, fast):
        done = subprocess.run(command, env=each, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    plain, mkl = results
    ours, share = mkl["ours"], 100 * mkl["ours"] / mkl["peak"]
    print(
        f"{name:16} {ours:7.1f} {share:7.0f}% {plain['eager']:7.1f} {mkl['eager']:10.1f}"
        f" {ours / mkl['eager']:6.2f}   {mkl['genome']}",
        flush=True,
    )


def measure(name: str, given: Any) -> dict[str, Any]:
    """{"ours", "eager", "peak"} in GFLOP/s, and the genome of ours."""
    tune, threads, show = given.tune, given.threads, given.show
    pick = min if given.best else statistics.median
    import torch

    from epitaxy.proposers.grower.capture import capture

    if threads:
        torch.set_num_threads(threads)
    text, shapes, adds = CASES[name]
    narrow = {"bf16 ": "ab", "int8 ": "ab", "int8 weights": "b"}
    kept = [letters for start, letters in narrow.items() if name.startswith(start)]
    inputs = [torch.randn(shape) for shape in shapes]
    for k, letter in enumerate("abcd"[: len(inputs)]):
        if kept and letter in kept[-1]:
            is_bf16 = name.startswith("bf16")
            inputs[k] = (
                inputs[k].bfloat16() if is_bf16 else (inputs[k] * 40).clamp(-127, 127).char()
            )
    code = f"lambda {', '.join('abcd'[: len(inputs)])}: {text}"
    function = eval(code, {"torch": torch, "F": torch.nn.functional})
    chip = store.load_measured()
    if chip is None:
        sys.exit("this machine has not been measured: run `epitaxy probe`")
    program = capture(function, inputs, accept=writable)
    regions = [step.region for step in program.steps]  # type: ignore[union-attr]
    start = space.start(regions, chip)
    spaces = {r.name: space.space(r, chip) for r in regions}
    best: tuple[float, float, str] = (0.0, 0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        for number, genome in enumerate(islice(space.portfolio(start, spaces), tune)):
            ours = built(program, regions, genome, inputs, Path(folder) / f"k{number}.so")
            if number == 0:
                torch.testing.assert_close(ours(), function(*inputs), rtol=1e-2, atol=1e-2)
            ours_s, eager_s = map(pick, paired(ours, lambda: function(*inputs)))
            best = max(best, (2e-9 * adds / ours_s, 2e-9 * adds / eager_s, str(genome)))
    cores = threads or chip.cores
    peak = chip.peak_flops_per_s["float32"] * 1e-9 * cores / chip.cores
    shown = best[2] if show or tune > 1 else ""
    return {"ours": best[0], "eager": best[1], "peak": peak, "genome": shown}


def paired(ours: Callable[[], Any], eager: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Seconds of calls of each, taken in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    begin = time.perf_counter()
    while time.perf_counter() - begin < 1.0 or len(times[0]) < 8:
        for function, kept in zip((ours, eager), times, strict=True):
            start = time.perf_counter()
            function()
            kept.append(time.perf_counter() - start)
    return times[0][2:], times[1][2:]


def built(program: Any, regions: Any, genome: Any, inputs: Any, library: Path) -> Callable[[], Any]:
    """A function that runs all regions in order and returns the last output."""
    import torch

    source = library.with_suffix(".cpp")
    source.write_text(emit_source(regions, genome))
    compiler = find_compiler()
    command = [compiler.path, *flags(compiler), "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    loaded = ctypes.CDLL(str(library))
    values = dict(zip(program.inputs, inputs, strict=True))
    calls = []
    for step in program.steps:
        for made, spec in zip(step.results, step.region.outputs, strict=True):
            values[made] = torch.empty(spec.shape, dtype=getattr(torch, spec.dtype))
        held = [values[a].contiguous() for a in step.args]
        given = (ctypes.c_void_p * len(held))(*[t.data_ptr() for t in held])
        out = (ctypes.c_void_p * len(step.results))(*[values[r].data_ptr() for r in step.results])
        calls.append((getattr(loaded, step.region.name), given, out, held))

    def run() -> Any:
        for call, given, out, _ in calls:
            call(given, out)
        return values[program.outputs[0]]

    return run


if __name__ == "__main__":
    main()
