"""Fit the polynomials of simd_math.h: minimax by Lawson's iteration, rounded to float one by one.

Each fit prints its coefficients in ascending order and the largest error of the rounded polynomial
in the metric named (relative to the function unless said otherwise).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def minimax(
    target: np.ndarray, basis: np.ndarray, weight: np.ndarray, rounds: int = 400
) -> np.ndarray:
    """Coefficients c minimising max |weight * (basis @ c - target)|; arrays over sample points."""
    scale = np.abs(basis).max(axis=0)
    a, b = (basis / scale) * weight[:, None], target * weight
    lawson = np.ones(len(b)) / len(b)
    best: Any = None
    best_error = np.inf
    for _ in range(rounds):
        root = np.sqrt(lawson)
        c = np.linalg.lstsq(a * root[:, None], b * root, rcond=None)[0]
        error = np.abs(a @ c - b)
        if error.max() < best_error:
            best, best_error = c / scale, error.max()
        lawson = lawson * error
        lawson /= lawson.sum()
    assert best is not None
    return np.asarray(best)


def fit(
    name: str,
    fn: Callable[[mp.mpf], mp.mpf],
    interval: tuple[float, float],
    powers: list[int],
    weight: Callable[[mp.mpf], mp.mpf],
    kind: type = np.float32,
) -> list[float]:
    """Fit sum c_k x^powers[k] to fn on the interval; weight(x) multiplies the absolute error."""
    lo, hi = interval
    x = lo + (hi - lo) * (1 - np.cos(np.pi * (np.arange(1500) + 0.5) / 1500)) / 2
    target = np.array([float(fn(mp.mpf(float(v)))) for v in x])
    w = np.array([float(weight(mp.mpf(float(v)))) for v in x])
    basis = np.stack([x**p for p in powers], axis=1)
    fixed: list[float] = []
    for k in range(len(powers)):  # round the lowest power left, refit the others around it
        rest = target - basis[:, :k] @ np.array(fixed)
        fixed.append(float(kind(minimax(rest, basis[:, k:], w, 400 if k == 0 else 60)[0])))
    error = np.abs((basis @ np.array(fixed) - target) * w).max()
    text = ", ".join(f"{c:.9g}f" if kind is np.float32 else f"{c:.17g}" for c in fixed)
    print(f"{name}: {text}\n    error {error:.3g}")
    return fixed


def main() -> None:
    """Print every fit used by simd_math.h."""
    ln2 = float(mp.log(2))
    one = mp.mpf(1)
    # exp(r) = 1 + r p(r); exp2(r) = 1 + r p(r)
    fit("exp", lambda x: mp.expm1(x) / x, (0, ln2), list(range(6)), lambda x: x / mp.exp(x))
    fit(
        "exp, degree 5, |r| <= ln(2)/2",
        lambda x: mp.expm1(x) / x,
        (-ln2 / 2, ln2 / 2),
        list(range(5)),
        lambda x: x / mp.exp(x),
    )
    fit(
        "exp2",
        lambda x: mp.expm1(x * mp.log(2)) / x,
        (0, 1),
        list(range(6)),
        lambda x: x / mp.mpf(2) ** x,
    )
    # expm1(r) = r + r^2 p(r)
    fit(
        "expm1",
        lambda x: (mp.expm1(x) - x) / x**2,
        (-ln2 / 2, ln2 / 2),
        list(range(5)),
        lambda x: x**2 / mp.expm1(x),
    )
    # log1p(f) = f - f^2/2 + f^3 p(f)
    a, b = float(mp.sqrt(0.5) - 1), float(mp.sqrt(2) - 1)
    fit(
        "log",
        lambda x: (mp.log1p(x) - x + x**2 / 2) / x**3,
        (a, b),
        list(range(8)),
        lambda x: x**3 / mp.log1p(x),
    )
    # sin(r) = r + r^3 p(r^2); cos(r) = 1 - r^2/2 + r^4 p(r^2); tan(r) = r + r^3 p(r^2), in s = r^2
    q = float((mp.pi / 4 + 0.001) ** 2)
    fit("sin", lambda s: (mp.sin(mp.sqrt(s)) / mp.sqrt(s) - 1) / s, (0, q), [0, 1, 2], lambda s: s)
    fit("cos", lambda s: (mp.cos(mp.sqrt(s)) - 1 + s / 2) / s**2, (0, q), [0, 1, 2], lambda s: s**2)
    fit(
        "tan",
        lambda s: (mp.tan(mp.sqrt(s)) / mp.sqrt(s) - 1) / s,
        (0, q),
        list(range(6)),
        lambda s: s,
    )
    # odd functions x + x^3 p(x^2), in s = x^2
    fit(
        "tanh, |x| <= 0.625",
        lambda s: (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s,
        (0, 0.625**2),
        list(range(5)),
        lambda s: s,
    )
    fit(
        "sinh, |x| <= 1",
        lambda s: (mp.sinh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s,
        (0, 1),
        list(range(4)),
        lambda s: s,
    )
    fit(
        "atan, |x| <= 1",
        lambda s: (mp.atan(mp.sqrt(s)) / mp.sqrt(s) - 1) / s,
        (0, 1),
        list(range(8)),
        lambda s: s * mp.sqrt(s) / mp.atan(mp.sqrt(s)),
    )
    # erf(x) = x + x p(x^2) below 1; = 1 - exp(x p(x)) from there to 4
    fit(
        "erf, |x| <= 1",
        lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1,
        (0, 1),
        list(range(7)),
        lambda s: mp.sqrt(s) / mp.erf(mp.sqrt(s)),
    )
    fit(
        "erf, 1 <= |x| <= 4, absolute",
        lambda x: mp.log(mp.erfc(x)) / x,
        (0.95, 4.0),
        list(range(7)),
        lambda x: x * mp.erfc(x),
    )
    # double, for pow: log2(m) = z p(z^2), z = (m-1)/(m+1); exp2(r) on [-1/2, 1/2]
    z = float((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    fit(
        "log2, double",
        lambda s: 2 * mp.atanh(mp.sqrt(s)) / mp.sqrt(s) / mp.log(2),
        (0, z),
        list(range(7)),
        lambda s: one,
        np.float64,
    )
    fit(
        "exp2, double",
        lambda x: mp.mpf(2) ** x,
        (-0.5, 0.5),
        list(range(8)),
        lambda x: mp.mpf(2) ** -x,
        np.float64,
    )


if __name__ == "__main__":
    main()
