"""The system's C++ compilers: which one is here, what it is called with, which CPU it serves."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from epitaxy.errors import NoCompiler
from epitaxy.record import FrozenDict, Record, digest_text, record

OLDEST: FrozenDict[int] = FrozenDict(gcc=9, clang=11)
"""The first major versions with all of C++17 and usable `-march=native` for current chips."""

BASE_FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fPIC",
    "-shared",
    "-Wno-psabi",
)
"""Never -ffast-math: kernels must keep NaN, infinities and compensated sums."""

_INSTALL = "apt install g++, or set CXX to a C++17 compiler"
# Families of instructions that -march=native may make a compiler emit unasked.
_ISA = re.compile(
    r"^(sse|ssse|avx|fma|bmi|f16c|popcnt|movbe|abm|lzcnt|amx|gfni|v?aes|v?pclmul|sha|xop|tbm|adx)"
)


@record
class Compiler(Record):
    """One C++ compiler: absolute `path`, `kind` "gcc" or "clang", full `version` text."""

    path: str
    kind: str
    version: str

    @property
    def openmp(self) -> str:
        """The OpenMP runtime that its kernels load. PyTorch's is libgomp, which clang cannot
        generate code for: a clang kernel brings a second thread pool into the process."""
        return "libgomp" if self.kind == "gcc" else "libomp"

    @property
    def major(self) -> int:
        """The leading number of the version."""
        return int(self.version.split(".", 1)[0])

    def __str__(self) -> str:
        second = "" if self.openmp == "libgomp" else f", own {self.openmp} beside PyTorch's libgomp"
        return f"{self.kind} {self.version} ({self.path}{second})"


def find_compiler(preferred: str = "") -> Compiler:
    """The first usable of `preferred`, $CXX, g++ and clang++.

    A name that was asked for (`preferred`, $CXX) and is not usable is an error, not skipped.
    Raises NoCompiler, whose message says why each one was passed over.
    """
    return _find(preferred, os.environ.get("CXX", ""), os.environ.get("PATH", ""))


def flags(compiler: Compiler) -> tuple[str, ...]:
    """The flags every kernel is built with by `compiler`: optimised for this very CPU.

    gcc and clang take the same ones today; they stand here so that a third need not.
    """
    return BASE_FLAGS


def harsh_flags(compiler: Compiler) -> tuple[str, ...]:
    """Added to make a kernel that dies of an index outside an array of known size, and whose
    variables hold a pattern until they are set. No runtime library is needed. Less optimised:
    it is never timed.
    """
    trap = "-fsanitize-undefined-trap-on-error" if compiler.kind == "gcc" else "-fsanitize-trap=all"
    spoils = compiler.kind == "clang" or compiler.major >= 12
    return (
        "-O1", "-fsanitize=bounds", trap, "-D_GLIBCXX_ASSERTIONS",
        *(("-ftrivial-auto-var-init=pattern",) if spoils else ()),
    )  # fmt: skip


def cpu_flags() -> tuple[str, ...]:
    """The machine's architecture and its instruction-set extensions, sorted.

    A kernel built with -march=native runs where all of them are present.
    """
    found: set[str] = set()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, rest = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    found = set(rest.split())
                    break
    except OSError:
        pass
    if platform.machine() in ("x86_64", "AMD64", "i686"):
        found = {f for f in found if _ISA.match(f)}
    return (platform.machine(), *sorted(found))


def cpu_fingerprint() -> str:
    """Twelve hexadecimal characters that name `cpu_flags()`."""
    return digest_text(" ".join(cpu_flags()))[:12]


@functools.cache
def _find(preferred: str, from_environment: str, path: str) -> Compiler:
    asked = preferred or from_environment
    reasons = []
    for name in (asked,) if asked else ("g++", "clang++"):
        found = shutil.which(name, path=path or None)
        if found is None:
            reasons.append(f"{name} is not installed")
            continue
        compiler = _describe(found)
        reason = _unusable(compiler) if compiler else f"{name} is neither gcc nor clang"
        if compiler and not reason:
            return compiler
        reasons.append(reason)
    raise NoCompiler("no usable C++ compiler: " + "; ".join(reasons), _INSTALL)


def _describe(path: str) -> Compiler | None:
    """What `path --version` and `-dumpversion` say; None for anything but gcc and clang."""
    try:
        banner = _ask([path, "--version"])
        version = _ask([path, "-dumpfullversion", "-dumpversion"]).strip()
    except (OSError, subprocess.SubprocessError):
        return None
    kind = "clang" if "clang" in banner else "gcc" if "Free Software Foundation" in banner else ""
    if kind == "clang":
        match = re.search(r"clang version (\d+[\d.]*)", banner)
        version = match.group(1) if match else version
    if not kind or not re.match(r"\d", version):
        return None
    return Compiler(path=str(Path(path).absolute()), kind=kind, version=version)


def _unusable(compiler: Compiler) -> str:
    """Why `compiler` cannot build kernels; "" when it can."""
    oldest = OLDEST[compiler.kind]
    if compiler.major < oldest:
        return f"{compiler} is too old ({compiler.kind} {oldest} or newer is needed)"
    with tempfile.TemporaryDirectory(prefix="epitaxy-") as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(_PROBE)
        command = [compiler.path, *flags(compiler), "probe.cpp", "-o", "probe.so"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"{compiler} does not run: {error}"
    if done.returncode:
        line = next((s for s in done.stderr.splitlines() if "error" in s), "it failed")
        return f"{compiler} cannot build a small OpenMP library: {line.strip()}"
    return ""


# Finds a compiler without its OpenMP runtime (usual for clang) before a kernel does.
_PROBE = """#include <omp.h>
extern "C" int probe() {
  int n = 0;
#pragma omp parallel reduction(+ : n)
  n += omp_get_num_threads();
  return n;
}
"""


def _ask(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout
