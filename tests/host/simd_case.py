"""The probe of the vector header, its inputs, and what each function must come to."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import epitaxy.proposers

HEADERS = Path(epitaxy.proposers.__file__).parent / "grower"
FLAGS = "-O3 -march=native -std=c++17 -fopenmp -fno-math-errno -ffp-contract=fast -Wno-psabi"
# gcc 12 warns about its own AVX-512 headers, hence the exception.
WARN = "-Wall -Wextra -Werror -Wno-maybe-uninitialized"
LANES = (1, 4, 8, 16)
TINY = 2.0**-126
F32 = np.float32


def build(folder: Path) -> ctypes.CDLL:
    """The probe, compiled with warnings as errors."""
    out = folder / "simd_probe.so"
    source = Path(__file__).with_name("simd_probe.cpp")
    command = ["g++", *FLAGS.split(), *WARN.split(), "-shared", "-fPIC"]
    done = subprocess.run(
        [*command, f"-I{HEADERS}", str(source), "-o", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(out))


def pointer(a: np.ndarray) -> ctypes.c_void_p:
    """The address of an array's first element."""
    return ctypes.c_void_p(a.ctypes.data)


def run(lib: ctypes.CDLL, name: str, *arrays: np.ndarray, out: type = np.float32) -> Any:
    """name(arrays..., y, n) with y as long as the arrays."""
    y: Any = np.full(arrays[0].size, 77, out)
    getattr(lib, name)(*map(pointer, arrays), pointer(y), ctypes.c_int64(y.size))
    return y


def spread(lo: float = -np.inf, hi: float = np.inf, n: int = 1 << 15) -> Any:
    """Random floats by bit pattern, a dense ramp and special values, all within [lo, hi]; a
    multiple of 16 long."""
    rng = np.random.default_rng(7)
    any_bits = rng.integers(0, 2**32, n, dtype=np.uint32).view(F32)
    moderate = rng.normal(0, 1, n) * 10.0 ** rng.integers(-6, 3, n)
    ramp = np.linspace(max(lo, -130), min(hi, 130), n)
    edges = [
        0,
        1,
        0.5,
        2,
        3,
        4,
        0.625,
        10,
        88.0,
        88.37,
        88.7228,
        88.73,
        89.4159,
        89.5,
        126.0,
        127.999,
    ]
    edges += [
        87.33,
        87.34,
        103.9,
        104.1,
        128.0,
        149.5,
        1e5,
        99999.9,
        math.pi / 2,
        math.pi,
        math.pi / 4,
    ]
    edges += [
        1e-45,
        1e-40,
        1.1754942e-38,
        1.1754944e-38,
        3.4028235e38,
        2.0**-24,
        1e-5,
        1e-4,
        0.70710677,
    ]
    edges += [0.99999994, 1.0000001, 1.4142135, 1.4142137, 2.0**24, 2.0**31, 2.0**64]
    ends = np.array([*edges, *(-e for e in edges), -0.0, np.inf, -np.inf], F32)
    turns = np.arange(-64000, 64000, 17) * (math.pi / 2)
    far = np.concatenate([rng.uniform(-1.1e5, 1.1e5, n), turns])
    with np.errstate(invalid="ignore"):  # signalling NaNs among the random bits
        x = np.concatenate([any_bits, moderate, ramp, far, ends]).astype(F32)
    x = x[(x >= lo) & (x <= hi)]
    x = np.concatenate([x, np.full(16 - x.size % 16, np.nan, F32)])
    return np.ascontiguousarray(x)


def ulps(got: np.ndarray, want: np.ndarray, flush: bool = False) -> Any:
    """|got - want| in ulps of float32 at want (float64); inf where they differ in kind. With
    `flush`, zero is right wherever |want| < 2^-126 (1e-5 allowed at the edge)."""
    with np.errstate(all="ignore"):
        near = want.astype(F32)
        exponent = np.floor(np.log2(np.maximum(np.abs(want), TINY)))
        error = np.abs(got.astype(np.float64) - want) / 2.0 ** (exponent - 23)
        special = ~np.isfinite(near) | ~np.isfinite(got)
        same = (got == near) | (np.isnan(got) & np.isnan(near))
        # one ulp from the overflow threshold either side may be taken
        edge = (np.abs(np.abs(want) - 2.0**128) < 2.0**106) & (np.abs(got) > 3.4e38)
    error = np.where(special, np.where(same | edge, 0.0, np.inf), error)
    if flush:
        error = np.where((got == 0) & (np.abs(want) < TINY * (1 + 1e-5)), 0.0, error)
    return error


def sigmoid(x: np.ndarray) -> Any:
    """In float64, without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x: np.ndarray) -> Any:
    """In float64, without overflow on either side."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


erf = np.vectorize(math.erf, otypes=[np.float64])

# name: (reference in float64, bound in ulps, domain, whether results below 2^-126 may be zero)
UNARY: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, tuple[float, float], bool]] = {
    "exp": (np.exp, 1.5, (-np.inf, np.inf), True),
    "exp_fast": (np.exp, 2.0, (-np.inf, 88.0), True),
    "exp2": (np.exp2, 1.5, (-np.inf, np.inf), True),
    "expm1": (np.expm1, 2.0, (-np.inf, np.inf), False),
    "expm1_low": (np.expm1, 2.0, (-np.inf, 0.0), False),
    "softplus": (softplus, 3.5, (-np.inf, np.inf), True),
    "log": (np.log, 1.5, (-np.inf, np.inf), False),
    "log2": (np.log2, 2.0, (-np.inf, np.inf), False),
    "log10": (np.log10, 2.0, (-np.inf, np.inf), False),
    "log1p": (np.log1p, 1.5, (-np.inf, np.inf), False),
    "sin": (np.sin, 1.75, (-np.inf, np.inf), False),
    "cos": (np.cos, 1.75, (-np.inf, np.inf), False),
    "tan": (np.tan, 2.5, (-np.inf, np.inf), False),
    "tanh": (np.tanh, 5.5, (-np.inf, np.inf), False),
    "sigmoid": (sigmoid, 3.5, (-np.inf, np.inf), True),
    "erf": (erf, 5.5, (-np.inf, np.inf), False),
    "atan": (np.arctan, 2.0, (-np.inf, np.inf), False),
    "sinh": (np.sinh, 2.0, (-np.inf, np.inf), False),
    "cosh": (np.cosh, 2.0, (-np.inf, np.inf), False),
    "sqrt": (np.sqrt, 0.5, (-np.inf, np.inf), False),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5, (-np.inf, np.inf), False),
    "reciprocal": (lambda x: 1 / x, 0.5, (-np.inf, np.inf), False),
    "floor": (np.floor, 0, (-np.inf, np.inf), False),
    "ceil": (np.ceil, 0, (-np.inf, np.inf), False),
    "trunc": (np.trunc, 0, (-np.inf, np.inf), False),
    "round": (np.round, 0, (-np.inf, np.inf), False),
    "abs": (np.abs, 0, (-np.inf, np.inf), False),
    "neg": (np.negative, 0, (-np.inf, np.inf), False),
    "sign": (lambda x: np.where(np.isnan(x), 0, np.sign(x)), 0, (-np.inf, np.inf), False),
}
