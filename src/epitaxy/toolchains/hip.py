"""HIP C++ for AMD: AMDGCN and a code object by the real LLVM, for a chip that need not be here.

No ROCm is needed: clang's builtins stand behind a header of our own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip, find_chip
from epitaxy.toolchain import Availability
from epitaxy.toolchains._device import SHIM, DeviceToolchain, Tool, ask
from epitaxy.toolchains.triton_amd import listed, note
from epitaxy.toolchains.triton_nvidia import read_target

MEND = "pip install ziglang, or apt install clang lld (18 or later)"
OLDEST, NEWEST = 18, 23
"""Major versions of clang that are looked for; 18 is the first that writes expf and logf out."""
GRID = {"grid_x": 2**31 - 1, "grid_y": 65535, "grid_z": 65535}
BLOCK = {"block_x": 1024, "block_y": 1024, "block_z": 1024}
"""AMD, HIP documentation, hipDeviceProp_t: maxGridSize and maxThreadsDim of current chips."""
_KEPT = re.compile(r"\.type\s+(\w+),@object[^\n]*\n\s*(?:\.section\s+)?\.(?:bss|data)\b")


class Hip(DeviceToolchain):
    """The toolchain plugin."""

    name = "hip"
    suffix = ".hip"
    vendor = "AMD"
    backend = "hip"
    header = "hip/hip_runtime.h"
    code = ".hsaco"
    headers: tuple[str, ...] = ("hip/hip_runtime.h",)
    needs = "Needs PyTorch and the kernel.hsaco beside this file, and runs on the GPU it is for."

    def compiler(self) -> Tool | Availability:
        """clang with its linker, or the one that ziglang brings."""
        return _clang(os.environ.get("PATH", ""))

    def default_chip(self) -> Chip:
        """An MI300X."""
        return find_chip("mi300x")

    def commands(self, tool: Tool, chip: Chip, unit: str) -> list[dict[str, Any]]:
        """clang to assembly, then to a code object in which nothing is missing."""
        arch = str(read_target(chip, self.backend, str).arch)
        build = [
            "-x", "hip", f"--offload-arch={arch}", "--offload-device-only", "-nogpuinc",
            "-nogpulib", "-fdeclspec", "-std=c++17", "-O3", f"-I{SHIM / 'hip_amd'}", "-S", unit,
            "-o", "kernel.s",
        ]  # fmt: skip
        return assembled(tool, arch, build)

    def numbers(self, made: Path, kernel: str, chip: Chip) -> dict[str, float]:
        """Registers, spills, static local memory and the mix of instructions, from the assembly."""
        text = (made / "kernel.s").read_text(encoding="utf-8", errors="replace")
        code, _, notes = text.partition("amdhsa.kernels:")
        parts = re.split(r"; -- Begin function (\w+)", code)
        body = dict(zip(parts[1::2], parts[2::2], strict=True)).get(kernel)
        entries = re.split(r"^  - ", notes, flags=re.M)
        own = next((e for e in entries if re.search(rf"\.name: +{kernel}$", e, re.M)), None)
        if body is None or own is None:
            return {}
        found = listed(body + own, chip)
        return found | {"static_bytes": note(own, ".group_segment_fixed_size")}

    def keeps(self, made: Path) -> str:
        """Variables that the assembly places where kernels may write."""
        text = (made / "kernel.s").read_text(encoding="utf-8", errors="replace")
        found = [name for name in _KEPT.findall(text) if not name.startswith("__hip_cuid_")]
        return f"the variable {found[0]}" if found else ""

    def most(self, chip: Chip) -> Mapping[str, int]:
        """The same for every chip that can be built for."""
        return {**GRID, **BLOCK}


def assembled(tool: Tool, arch: str, build: list[str]) -> list[dict[str, Any]]:
    """Commands from clang's options `build`, which leave kernel.s, to a code object in which no
    symbol is missing."""
    clang, linker = _split(tool.command)
    assemble = [
        "-c", "-x", "assembler", "-target", "amdgcn-amd-amdhsa", f"-mcpu={arch}", "kernel.s",
        "-o", "device.o",
    ]  # fmt: skip
    link = [*linker, "-shared", "--no-undefined", "device.o", "-o", "kernel.hsaco"]
    found = [[*clang, *build], [*clang, *assemble], link]
    return [{"run": run, "log": f"clang{n}.log"} for n, run in enumerate(found)]


@functools.cache
def _clang(path: str) -> Tool | Availability:
    """The newest clang on `path` that is new enough and has its linker, else ziglang's."""
    old = ""
    for suffix in ("", *(f"-{n}" for n in range(NEWEST, OLDEST - 1, -1))):
        clang = shutil.which(f"clang{suffix}", path=path or None)
        linker = shutil.which(f"ld.lld{suffix}", path=path or None)
        version = _version([clang]) if clang else 0
        if clang and linker and version >= OLDEST:
            home = Path(clang).resolve().parents[1]
            return Tool((clang, "--", linker), f"clang {version}", str(home))
        if clang:
            old = f"clang {version} without lld" if version >= OLDEST else f"clang {version}"
    spec = importlib.util.find_spec("ziglang")
    for place in (spec and spec.submodule_search_locations) or ():
        zig = str(Path(place, "zig"))
        version = _version([zig, "clang"])
        if version >= OLDEST:
            command = (zig, "clang", "--", zig, "ld.lld")
            return Tool(command, f"clang {version} of ziglang", place)
    detail = f"{old} is older than {OLDEST}" if old and "lld" not in old else old
    return Availability(ok=False, detail=detail or f"no clang {OLDEST} or later", mend=MEND)


def _split(command: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(compiler, linker)."""
    middle = command.index("--")
    return list(command[:middle]), list(command[middle + 1 :])


def _version(command: Sequence[str]) -> int:
    found = re.search(r"clang version (\d+)", ask([*command, "--version"]))
    return int(found[1]) if found else 0


def plugin() -> Hip:
    """The `hip` toolchain."""
    return Hip()
