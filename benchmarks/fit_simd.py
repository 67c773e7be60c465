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


def ratio(
    f: np.ndarray, s: np.ndarray, above: int, below: int, weight: np.ndarray, rounds: int = 150
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients p, q (q[0] = 1) of the quotient closest to f(s) in weighted maximum norm.

    Sanathanan and Koerner's iteration (each round divides by the last denominator) inside Lawson's.
    """
    top = s.max()
    a, b = (s[:, None] / top) ** np.arange(above + 1), (s[:, None] / top) ** np.arange(1, below + 1)
    denominator, lawson = np.ones_like(s), np.ones_like(s) / s.size
    best: Any = None
    for _ in range(rounds):
        scaled = np.concatenate([a, -f[:, None] * b], 1) * (weight / denominator)[:, None]
        columns, root = np.abs(scaled).max(axis=0), np.sqrt(lawson)
        target = f * weight / denominator
        c = (
            np.linalg.lstsq(scaled / columns * root[:, None], target * root, rcond=None)[0]
            / columns
        )
        denominator = np.maximum(1 + b @ c[above + 1 :], 1e-3)
        error = np.abs((a @ c[: above + 1] / denominator - f) * weight)
        if best is None or error.max() < best[0]:
            best = error.max(), c
        lawson = lawson * error
        lawson /= lawson.sum()
    c = best[1]
    p, q = c[: above + 1], np.concatenate([[1.0], c[above + 1 :]])
    return p / top ** np.arange(above + 1), q / top ** np.arange(below + 1)


def quotient_ulps(x: np.ndarray, want: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Errors in ulps of x p(x^2) / q(x^2), at most 1, as float computes it with fused steps."""

    def rounded(v: np.ndarray) -> np.ndarray:
        return v.astype(np.float32).astype(np.float64)

    def horner(c: np.ndarray, s: np.ndarray) -> np.ndarray:
        total = np.full_like(s, c[-1])
        for each in c[-2::-1]:
            total = rounded(total * s + each)
        return total

    s = rounded(x * x)
    y = np.minimum(rounded(rounded(x * horner(p, s)) / horner(q, s)), 1.0)
    return np.asarray(np.abs(y - want) / 2.0 ** (np.floor(np.log2(want)) - 23))


def quotient(
    name: str, fn: Callable[[mp.mpf], mp.mpf], top: float, above: int, below: int, tries: int = 1500
) -> None:
    """Fit fn(x) = x p(x^2) / q(x^2) up to `top`, round to float, and try neighbours of the
    coefficients for the least error in ulps; fn(top) has to come out as 1."""
    s = top**2 * (1 - np.cos(np.pi * (np.arange(1200) + 0.5) / 1200)) / 2
    f = np.array([float(fn(mp.sqrt(v)) / mp.sqrt(v)) for v in s])
    c = [v.astype(np.float32).astype(np.float64) for v in ratio(f, s, above, below, 1 / f)]
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(1e-3, top, 6000), rng.uniform(0.01, 1.5, 6000), [top]])
    x = x.astype(np.float32).astype(np.float64)
    want = np.array([float(fn(mp.mpf(float(v)))) for v in x])

    def cost(p: np.ndarray, q: np.ndarray) -> float:
        error = quotient_ulps(x, want, p, q)
        rest = 0.2 * np.sqrt((np.sort(error)[-200:] ** 2).mean())
        return float(error.max() + rest + (error[-1] > 0.9))

    best = cost(*c)
    for _ in range(tries):
        new = [v.copy() for v in c]
        for _ in range(rng.integers(1, 4)):
            part = rng.integers(2)
            k = rng.integers(part, len(new[part]))  # q[0] stays 1
            new[part][k] = np.nextafter(np.float32(new[part][k]), np.float32(rng.choice([-9, 9])))
        if (now := cost(*new)) <= best:
            best, c = now, new
    for letter, values in zip("pq", c, strict=True):
        print(f"{name} {letter}: {', '.join(f'{v:.9g}f' for v in values)}")
    print(f"    error {quotient_ulps(x, want, *c).max():.3g} ulp")


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
    # log1p(f) = f + f^2 p(f); log1p(e) = e p(e)
    a, b = float(mp.sqrt(0.5) - 1), float(mp.sqrt(2) - 1)
    fit(
        "log",
        lambda x: (mp.log1p(x) - x) / x**2,
        (a, b),
        list(range(8)),
        lambda x: x**2 / mp.log1p(x),
    )
    fit(
        "softplus",
        lambda x: mp.log1p(x) / x,
        (1e-9, 1),
        list(range(9)),
        lambda x: x / mp.log1p(x),
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
    # odd functions x p(x^2) / q(x^2), up to where float has 1 for them
    quotient("tanh", mp.tanh, 9.02, 4, 4)
    quotient("erf", mp.erf, 3.93, 5, 5)
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
