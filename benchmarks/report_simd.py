"""Accuracy and speed of every function of simd_math.h on this machine: python report_simd.py"""

from __future__ import annotations

import ctypes
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "host"))
import simd_case


def report(lib: ctypes.CDLL) -> None:
    """Print the largest error (ulps) and the time (ns an element) of each function."""
    quiet = np.random.default_rng(0).uniform(0.1, 8, 1 << 15).astype(np.float32)
    for name, (fn, bound, (lo, hi), flush) in simd_case.UNARY.items():
        x = simd_case.spread(lo, hi, 1 << 20)
        with np.errstate(all="ignore"):
            want = fn(x.astype(np.float64))
        row = f"{name:10s} bound {bound}"
        for lanes in simd_case.LANES:
            worst = simd_case.ulps(simd_case.run(lib, f"{name}_{lanes}", x), want, flush)
            y = np.empty_like(quiet)
            call = getattr(lib, f"{name}_{lanes}")
            best = math.inf
            for _ in range(50):
                start = time.perf_counter()
                call(simd_case.pointer(quiet), simd_case.pointer(y), ctypes.c_int64(1 << 15))
                best = min(best, time.perf_counter() - start)
            at = x[int(np.argmax(worst))]
            row += f" | {lanes}: {worst.max():.2f} ulp at {at:.9g}, {best / (1 << 15) * 1e9:.2f} ns"
        print(row)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        report(simd_case.build(Path(folder)))
