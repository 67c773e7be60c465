"""Run confined, as a program: compile what a bundle launches, for a chip that need not be here.

    python -m epitaxy.toolchains._triton_build JOB.json

The job names the backend ("cuda", "hip"), the architecture, the width of a warp, the inputs'
shapes and where to look. The bundle's ModelNew is called once on tensors of zeros while every
launch is noted instead of made; each distinct launch is then compiled by Triton, specialised as
the real launch would be. Beside the job appear `launches.json` and, for each kernel, what the
compiler left: kernelN.ptx, .cubin, .amdgcn, .hsaco.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

from epitaxy.toolchains._builder import Refused, build, called, opened

KEPT = ("ptx", "cubin", "amdgcn", "hsaco")


def main(path: str) -> int:
    """Compile; what is refused goes to stdout as one line beginning with `error:`."""
    return build(path, _build, last=True)


def _build(job: dict[str, Any]) -> None:
    made = [_compiled(number, one, job) for number, one in enumerate(_noted(job))]
    Path("launches.json").write_text(json.dumps(made, indent=1), encoding="utf-8")


def _noted(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Every distinct launch of one call: kernel, arguments, grid, and how often it is made."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import JITFunction, create_function_from_signature

    target = GPUTarget(job["backend"], job["arch"], job["lanes"])
    backend = make_backend(target)
    found: dict[str, dict[str, Any]] = {}

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        binder = create_function_from_signature(self.signature, self.params, backend)
        kwargs.setdefault("debug", False)
        bound, specialised, options = binder(*args, **kwargs)
        packed = self._pack_args(backend, kwargs, bound, specialised, options)
        grid = grid(bound) if callable(grid) else grid
        programs = math.prod(grid)
        key = f"{self.fn.__name__} {specialised} {sorted(kwargs.items(), key=str)} {grid}"
        if key in found:
            found[key]["count"] += 1
        else:
            found[key] = {
                "fn": self, "packed": packed, "target": target, "programs": programs, "count": 1,
            }  # fmt: skip

    JITFunction.run = run
    model, module = opened()
    module["_epitaxy_device"] = "cpu"  # the guards let tensors of the CPU pass
    called(model, module, job)
    if not found:
        raise Refused("the candidate launches no Triton kernel")
    return list(found.values())


def _compiled(number: int, launch: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    import triton
    from triton.compiler import ASTSource

    fn, (options, signature, constants, attributes) = launch["fn"], launch["packed"]
    source = ASTSource(fn, signature, constants, attributes)
    said_aloud = io.StringIO()
    with contextlib.redirect_stdout(said_aloud):
        kernel = triton.compile(source, target=launch["target"], options=options.__dict__)
    Path(f"kernel{number}.log").write_text(said_aloud.getvalue(), encoding="utf-8")
    for kind, made in kernel.asm.items():
        if kind in KEPT:
            content = made if isinstance(made, bytes) else str(made).encode()
            Path(f"kernel{number}.{kind}").write_bytes(content)
    if job["launched"]:
        _with_launcher(kernel)
    _look(f"kernel{number}", job["after"])
    said = kernel.metadata
    return {
        "kernel": fn.fn.__name__, "programs": launch["programs"], "count": launch["count"],
        "shared_bytes": int(said.shared), "warps": int(said.num_warps),
        "stages": int(getattr(said, "num_stages", 0)), "file": f"kernel{number}",
    }  # fmt: skip


def _with_launcher(kernel: Any) -> None:
    """Have what launches the kernel on NVIDIA's chips in Triton's cache too: in 3.6 that is C for
    each signature, and whoever launches it, confined, starts no compiler."""
    import importlib

    driver = importlib.import_module("triton.backends.nvidia.driver")
    if hasattr(driver, "make_launcher"):
        driver.CudaLauncher(kernel.src, kernel.metadata)


def _look(stem: str, commands: list[Any]) -> None:
    """What the vendor's tools say of a compiled kernel, in files beside it."""
    import subprocess

    for command, suffix in commands:
        asked = [part.replace("{}", stem) for part in command]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        Path(f"{stem}.{suffix}").write_text(done.stdout + done.stderr, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
