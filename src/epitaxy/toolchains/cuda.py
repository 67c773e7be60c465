"""CUDA C++ for NVIDIA: cubin by the real nvcc, for a chip that need not be here."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip, find_chip
from epitaxy.errors import BadInput
from epitaxy.toolchain import Availability
from epitaxy.toolchains._device import DeviceToolchain, Tool, ask
from epitaxy.toolchains.triton_nvidia import listed, read_target

MEND = "install CUDA's compiler (PyPI: nvidia-cuda-nvcc), and put nvcc on PATH"
LISTER_MEND = "pip install nvidia-cuda-nvdisasm"
USUAL = "/usr/local/cuda/bin"
OLDEST = (11, 0)
"""The first version with C++17."""
GRID = {"grid_x": 2**31 - 1, "grid_y": 65535, "grid_z": 65535}
BLOCK = {"block_x": 1024, "block_y": 1024, "block_z": 64}
"""CUDA C++ Programming Guide, "Compute Capabilities": technical specifications."""
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SECTION = re.compile(r"^\s*\.section\s+\.text\.(\w+)", re.M)


class Cuda(DeviceToolchain):
    """The toolchain plugin."""

    name = "cuda"
    suffix = ".cu"
    vendor = "NVIDIA"
    backend = "cuda"
    header = "cuda_runtime.h"
    code = ".cubin"
    headers = ("cuda_runtime.h",)
    needs = "Needs PyTorch and the kernel.cubin beside this file, and runs on the GPU it is for."

    def compiler(self) -> Tool | Availability:
        """nvcc."""
        return _nvcc(os.environ.get("PATH", ""))

    def default_chip(self) -> Chip:
        """An H100."""
        return find_chip("h100_sxm")

    def remarks(self) -> str:
        """Whether instructions can be listed."""
        return "" if find_lister() else f"; no nvdisasm: no instruction counts ({LISTER_MEND})"

    def aim(self, chip: Chip) -> None:
        """Build for `chip` from now on. Raises BadInput when its facts or nvcc do not suffice."""
        tool = self.compiler()
        arch = read_target(chip, self.backend, str).arch
        if isinstance(tool, Tool) and f"sm_{arch}" not in _archs(tool):
            raise BadInput(
                f"{tool.version} does not build for sm_{arch}, which {chip.name} is",
                "install a CUDA that does, and put its nvcc on PATH",
            )
        super().aim(chip)

    def commands(self, tool: Tool, chip: Chip, unit: str) -> list[dict[str, Any]]:
        """nvcc to a cubin, with ptxas' words; nvdisasm with control words."""
        arch = str(read_target(chip, self.backend, str).arch)
        own = f"sm_{arch}a" if int(arch) >= 90 else f"sm_{arch}"  # with what that chip alone has
        build = [
            *tool.command, "-cubin", f"-arch={own}", "-std=c++17", "-O3", "-Xptxas=-v,-O3",
            unit, "-o", "kernel.cubin",
        ]  # fmt: skip
        found = [{"run": build, "log": "ptxas.log"}]
        lister = find_lister()
        if lister:
            found.append({"run": [lister, "-c", "-hex", "kernel.cubin"], "log": "kernel.sass"})
        return found

    def reads(self) -> tuple[str, ...]:
        """The toolkit, and nvdisasm where it lies elsewhere."""
        lister = find_lister()
        return (*super().reads(), *([str(Path(lister).parent)] if lister else []))

    def numbers(self, made: Path, kernel: str, chip: Chip) -> dict[str, float]:
        """Registers, spills and static shared memory by ptxas; the SASS's instructions."""
        said = (made / "ptxas.log").read_text(encoding="utf-8", errors="replace")
        parts = _ENTRY.split(said)
        own = dict(zip(parts[1::2], parts[2::2], strict=True)).get(kernel)
        if own is None:
            return {}
        used = re.search(r"Used (\d+) registers", own)
        smem = re.search(r"(\d+) bytes smem", own)
        spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", own)
        found = {
            "registers": float(used[1]) if used else 0.0,
            "static_bytes": float(smem[1]) if smem else 0.0,
            "spill_bytes": float(sum(map(int, spills))),
        }
        path = made / "kernel.sass"
        if path.is_file():
            sections = _SECTION.split(path.read_text(encoding="utf-8", errors="replace"))
            found |= listed(dict(zip(sections[1::2], sections[2::2], strict=True)).get(kernel, ""))
        return found

    def keeps(self, made: Path) -> str:
        """What ptxas says of `__device__` variables."""
        said = (made / "ptxas.log").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"\b([1-9]\d*) bytes gmem", said)
        return f"{found[1]} bytes of __device__ variables" if found else ""

    def most(self, chip: Chip) -> Mapping[str, int]:
        """The same for every chip that can be built for."""
        return {**GRID, **BLOCK}


@functools.cache
def _nvcc(path: str) -> Tool | Availability:
    usual = f"{path or os.defpath}{os.pathsep}{USUAL}"
    found = shutil.which("nvcc", path=usual) or _packaged("nvcc")
    if found is None:
        return Availability(ok=False, detail="no nvcc", mend=MEND)
    said = ask([found, "--version"])
    version = re.search(r"release (\d+)\.(\d+)", said)
    if version is None:
        return Availability(ok=False, detail=f"{found} does not say its version", mend=MEND)
    name = f"nvcc {version[1]}.{version[2]}"
    if (int(version[1]), int(version[2])) < OLDEST:
        return Availability(ok=False, detail=f"{name} is older than {OLDEST[0]}.0", mend=MEND)
    return Tool((found,), name, str(_home(found)))


def _home(nvcc: str) -> Path:
    """The toolkit's folder, of which the program may be a link or a script."""
    said = ask([nvcc, "--dryrun", "-E", "-x", "cu", "/dev/null"])
    top = re.search(r"^#\$ (?:_HERE_|TOP)=(.+)$", said, re.M)
    place = Path(top[1].strip()) if top else Path(nvcc).resolve().parent
    return (place.parent if place.name == "bin" else place).resolve()


def _archs(tool: Tool) -> frozenset[str]:
    return frozenset(ask([*tool.command, "--list-gpu-code"]).split())


@functools.cache
def find_lister() -> str | None:
    """nvdisasm: on PATH, beside nvcc, from PyPI, or Triton's own."""
    tool = _nvcc(os.environ.get("PATH", ""))
    beside = Path(tool.folder, "bin", "nvdisasm") if isinstance(tool, Tool) else None
    found = shutil.which("nvdisasm") or (str(beside) if beside and beside.is_file() else None)
    return found or _packaged("nvdisasm") or _bundled("nvdisasm")


def _packaged(program: str) -> str | None:
    """A program of NVIDIA's packages on PyPI."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec and spec.submodule_search_locations) or ():
        for found in sorted(Path(place).glob(f"*/bin/{program}")):
            return str(found)
    return None


def _bundled(program: str) -> str | None:
    spec = importlib.util.find_spec("triton")
    for place in (spec and spec.submodule_search_locations) or ():
        found = Path(place, "backends", "nvidia", "bin", program)
        if found.is_file():
            return str(found)
    return None


def plugin() -> Cuda:
    """The `cuda` toolchain."""
    return Cuda()
