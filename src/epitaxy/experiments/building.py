"""From an experiment to a library, and proof that its kernels are what was meant."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from pathlib import Path

from epitaxy.compiler import Compiler, cpu_flags, find_compiler
from epitaxy.errors import BadEnvironment
from epitaxy.experiments.process import Failed
from epitaxy.experiments.recipe import Experiment, Variant
from epitaxy.probe import disassembly
from epitaxy.toolchains import _confined
from epitaxy.toolchains.cpp import trim_log

HERE = Path(__file__).parent
_HEADERS = ("explore.h", "driver.h", "driver.cpp", "../probe/pages.h")
_FLAGS = (
    "-O2",
    "-march=native",
    "-falign-functions=64",
    "-falign-loops=64",
    "-std=c++17",
    "-fopenmp",
    "-fPIC",
    "-Wno-psabi",
    "-I.",
)
_LIMITS = {"cpu_s": 60, "memory_bytes": 4 << 30, "file_bytes": 64 << 20}
_BOUNDS = _confined.Bounds(60.0, 256 << 20)
_LIBRARY = "pair.so"
_UNIT = """#include "explore.h"
{common}
extern "C" __attribute__((noinline, visibility("default"))) void {name}(const Job& job) {{
{body}
}}
"""


def build(experiment: Experiment, x: float, folder: Path) -> Path:
    """The library of the pair in `folder`, its kernels checked by disassembly.

    Raises Failed when it cannot be built or is not what was meant, NoCompiler, BadEnvironment.
    """
    compiler = find_compiler()
    _headers(folder)
    (folder / "driver.o").write_bytes(_driver(compiler))
    bodies = {"kernel_a": experiment.a.code, "kernel_b": experiment.b.code}
    if experiment.setup.strip():
        bodies["setup"] = experiment.setup
    for name, body in bodies.items():
        text = _UNIT.format(common=experiment.common, name=name, body=body)
        (folder / f"{name}.cpp").write_text(text, encoding="utf-8")
    units = [*bodies]
    more = [f"-DX={x:g}"] if experiment.compiled else []
    own = [*_FLAGS, *more, *experiment.flags]
    run([compiler.path, *own, "-c", *(f"{unit}.cpp" for unit in units)], folder)
    units.append("driver")
    run([compiler.path, "-fopenmp", "-shared", *(f"{u}.o" for u in units), "-o", _LIBRARY], folder)
    for unit, variant in (("kernel_a", experiment.a), ("kernel_b", experiment.b)):
        fault = check(_listing(folder, unit), variant)
        if fault:
            raise Failed(f"{unit} ({variant.name}) is not what was meant: {fault}")
    return folder / _LIBRARY


def _headers(folder: Path) -> None:
    for header in _HEADERS:
        shutil.copy(HERE / header, folder)


@functools.cache
def _driver(compiler: Compiler) -> bytes:
    """The driver's object file: the same for all experiments."""
    with tempfile.TemporaryDirectory(prefix="epitaxy-explore-") as name:
        folder = Path(name)
        _headers(folder)
        run([compiler.path, *_FLAGS, "-c", "driver.cpp"], folder)
        return (folder / "driver.o").read_bytes()


def describe(compiler: Compiler | None = None) -> str:
    """The compiler and its flags, for the conditions of a result."""
    return f"{compiler or find_compiler()} {' '.join(_FLAGS[:2])}"


def check(listing: str, variant: Variant) -> str:
    """Why a kernel's disassembly is not what was meant; "" when it is.

    One innermost loop of the file holds something for every pattern of `contains` (a pattern that
    begins with "anywhere: " is sought outside loops too), and nothing matches one of `lacks`.
    """
    bodies = list(disassembly.functions(listing).values())
    whole = [text for body in bodies for _, text in body]
    loops = [loop for body in bodies for loop in disassembly.inner_loops(body)]
    anywhere = [p.removeprefix(_ANYWHERE) for p in variant.contains if p.startswith(_ANYWHERE)]
    inside = [p for p in variant.contains if not p.startswith(_ANYWHERE)]
    for pattern in anywhere:
        if not holds(whole, pattern):
            return f"nothing matches {pattern!r}"
    missing = [[p for p in inside if not holds(loop, p)] for loop in loops or [[]]]
    fewest = min(missing, key=len)
    if fewest:
        return f"no loop holds {fewest[0]!r}"
    meant = [loop for loop, lacking in zip(loops, missing, strict=False) if inside and not lacking]
    if meant and all(_spills(loop) for loop in meant):
        return "its loop spills registers"
    for pattern in variant.lacks:
        found = [text for text in whole if re.match(pattern, text)]
        if found:
            return f"it holds {found[0]!r}"
    return ""


_ANYWHERE = "anywhere: "


def _spills(loop: list[str]) -> bool:
    """Whether it uses the stack for anything but calls."""
    return disassembly.spills(loop) and not any(text.startswith("call") for text in loop)


def holds(lines: list[str], pattern: str) -> bool:
    """Whether a line begins with the pattern."""
    return any(re.match(pattern, line) for line in lines)


def _listing(folder: Path, unit: str) -> str:
    objdump = shutil.which("objdump")
    if objdump is None:
        raise BadEnvironment(
            "objdump is absent: what the compiler wrote cannot be checked", "apt install binutils"
        )
    return run([objdump, "-d", "-r", "--no-show-raw-insn", "-w", f"{unit}.o"], folder)


def run(command: list[str], folder: Path, bounds: _confined.Bounds = _BOUNDS) -> str:
    """What a confined program says within `bounds`. Raises Failed when it fails."""
    with tempfile.TemporaryFile() as output:
        ended = _confined.run(command, folder, output, _LIMITS, bounds)
        output.seek(0)
        said = output.read(8 << 20).decode(errors="replace")
    if ended.late or ended.big:
        raise Failed(f"{os.path.basename(command[0])} took too much time or space")
    if ended.status:
        log = trim_log(said, str(folder))
        first = next((s for s in log.splitlines() if "error" in s or "undefined" in s), log[:300])
        raise Failed(f"it cannot be built: {first.strip()}")
    return said


def missing(experiment: Experiment) -> str:
    """Which instruction set of `needs` this machine lacks; "" when it has all."""
    have = set(cpu_flags())
    lacking = [need for need in experiment.needs if need not in have]
    return f"this machine has no {', no '.join(lacking)}" if lacking else ""
