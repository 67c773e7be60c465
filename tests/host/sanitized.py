"""Tests of grown kernels under AddressSanitizer: `make sanitize`, or with the test files to run.

A read beyond the ends of an array whose value is not used shows in no result; here it ends the
test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from epitaxy.compiler import find_compiler

HERE = Path(__file__).parent
LIBRARIES = ("libasan.so", "libstdc++.so")
"""Loaded before Python; the other one would load PyTorch's."""


def environment() -> dict[str, str] | None:
    """What tests run under; None where the compiler has no AddressSanitizer."""
    compiler = find_compiler()
    found = [
        subprocess.run(
            [compiler.path, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in LIBRARIES
    ]
    if not all(os.path.isabs(path) for path in found):
        return None
    return {
        **os.environ,
        "SANITIZED": "1",
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    }


def kernel_tests() -> list[str]:
    """The files that compile kernels by themselves."""
    return sorted(str(p) for p in HERE.glob("test_*.py") if "from grown_case" in p.read_text())


def main(files: list[str]) -> int:
    """Run these test files, or all of kernels; pytest's exit code."""
    under = environment()
    if under is None:
        print("this compiler has no AddressSanitizer; install libasan or use gcc", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pytest", "-q", *(files or kernel_tests())]
    return subprocess.run(command, env=under, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
