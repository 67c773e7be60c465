"""Experiments in CUDA C++: built by nvcc, checked by nvdisasm, run where an NVIDIA GPU is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from epitaxy.errors import BadEnvironment
from epitaxy.experiments import building
from epitaxy.experiments.process import Failed
from epitaxy.experiments.recipe import Experiment, Variant
from epitaxy.machines._gpu import chip_name as chip_name
from epitaxy.machines._gpu import here as here
from epitaxy.toolchain import Availability
from epitaxy.toolchains import _confined
from epitaxy.toolchains._device import Tool
from epitaxy.toolchains.cuda import LISTER_MEND, Cuda, find_lister

DEFAULT = "sm_90"
"""Where no GPU says what it is, kernels are built for an H100."""
_HEADERS = ("explore.h", "driver.h", "driver.cu", "../probe/pages.h")
_UNIT = """#include "explore.h"
{common}
__global__ void device_{name}(const Job job) {{
{body}
}}
extern "C" void {name}(const Job& job) {{
  device_{name}<<<{blocks}, {block}>>>(job);
}}
"""
_SETUP = """#include "explore.h"
{common}
extern "C" void setup(const Job& job) {{
{body}
}}
"""
_FLAGS = ("-std=c++17", "-O3", "-I.")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S[^;]*);", re.M)


def build(experiment: Experiment, folder: Path, x: float = 0.0, link: bool = False) -> Path:
    """The pair's kernels in `folder`, checked by disassembly; the library when `link`.

    Raises Failed when it cannot be built or is not what was meant, BadEnvironment without nvcc or
    nvdisasm.
    """
    tool, listing = _tools()
    for header in _HEADERS:
        shutil.copy(building.HERE / header, folder)
    more = [f"-DX={x:g}"] if experiment.compiled else []
    flags = [f"-arch={'native' if here() else DEFAULT}", *_FLAGS, *more, *experiment.flags]
    bounds = _confined.Bounds(180.0, 256 << 20, reads=(tool.folder, str(Path(listing).parent)))
    for name, variant in (("kernel_a", experiment.a), ("kernel_b", experiment.b)):
        text = _UNIT.format(
            common=experiment.common, name=name, body=variant.code,
            blocks=variant.blocks, block=variant.block,
        )  # fmt: skip
        (folder / f"{name}.cu").write_text(text, encoding="utf-8")
        command = [*tool.command, "-cubin", *flags, f"{name}.cu", "-o", f"{name}.cubin"]
        building.run(command, folder, bounds)
        said = building.run([listing, "-c", f"{name}.cubin"], folder, bounds)
        fault = check(said, variant)
        if fault:
            raise Failed(f"{name} ({variant.name}) is not what was meant: {fault}")
    library = folder / "pair.so"
    if link:
        body = experiment.setup
        (folder / "setup.cu").write_text(_SETUP.format(common=experiment.common, body=body))
        units = ["driver.cu", "setup.cu", "kernel_a.cu", "kernel_b.cu"]
        command = [*tool.command, "-shared", "-Xcompiler", "-fPIC", *flags, *units]
        building.run([*command, "-o", library.name], folder, bounds)
    return library


def check(listing: str, variant: Variant) -> str:
    """Why SASS is not what was meant: every pattern of `contains` is somewhere, `lacks` nowhere;
    "" when it is. Predicates before an instruction are not looked at."""
    instructions = [" ".join(text.split()) for text in _INSTRUCTION.findall(listing)]
    for pattern in variant.contains:
        if not building.holds(instructions, pattern):
            return f"nothing matches {pattern!r}"
    for pattern in variant.lacks:
        found = [text for text in instructions if re.match(pattern, text)]
        if found:
            return f"it holds {found[0]!r}"
    return "" if instructions else "it has no instructions"


def describe() -> str:
    """The compiler, for the conditions of a result."""
    tool = Cuda().compiler()
    return tool.version if isinstance(tool, Tool) else "no nvcc"


def _tools() -> tuple[Tool, str]:
    tool = Cuda().compiler()
    if isinstance(tool, Availability):
        raise BadEnvironment(tool.detail, tool.mend)
    listing = find_lister()
    if listing is None:
        raise BadEnvironment("nvdisasm is absent: SASS cannot be checked", LISTER_MEND)
    return tool, listing
