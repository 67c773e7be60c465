"""OpenCL C for AMD: a code object by the real LLVM, for a chip that need not be here.

clang's own OpenCL front end builds it; no ROCm and no OpenCL driver is needed. PoCL is not used: it
compiles when a kernel is first launched, which a confined worker may not.
"""

from __future__ import annotations

from typing import Any

from epitaxy.chip import Chip
from epitaxy.toolchains._device import SHIM, Tool
from epitaxy.toolchains.hip import Hip, assembled
from epitaxy.toolchains.triton_nvidia import read_target


class OpenCl(Hip):
    """The toolchain plugin."""

    name = "opencl"
    suffix = ".cl"
    header = "opencl.h"
    headers: tuple[str, ...] = ()
    needs = "Checked only: no way to launch it on a GPU is written yet."

    def commands(self, tool: Tool, chip: Chip, unit: str) -> list[dict[str, Any]]:
        """clang to assembly, then to a code object in which nothing is missing."""
        arch = str(read_target(chip, self.backend, str).arch)
        build = [
            "-x", "cl", "-cl-std=CL2.0", "-target", "amdgcn-amd-amdhsa", f"-mcpu={arch}",
            "-nogpulib", "-cl-no-stdinc", "-O3",
            "-include", str(SHIM / "opencl_amd" / "opencl.h"), "-S", unit, "-o", "kernel.s",
        ]  # fmt: skip
        return assembled(tool, arch, build)


def plugin() -> OpenCl:
    """The `opencl` toolchain."""
    return OpenCl()
