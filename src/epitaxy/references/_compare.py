"""How far outputs are from the exact ones, in pieces that stay in the caches."""

from __future__ import annotations

import math

import torch

CHUNK = 1 << 19
"""Elements compared at a time: the temporaries stay in the caches."""


def error(
    out: torch.Tensor, exact: torch.Tensor, honest: torch.Tensor, enough: float = math.inf
) -> float:
    """Normalised error of `out` against `exact`; inf for what no number says.

    Once it is more than `enough` the rest is not looked at.
    """
    if out.shape != honest.shape or out.dtype != honest.dtype:
        return math.inf
    if not honest.is_floating_point():
        wrong = (out != exact.to(out.dtype)) & (out != honest)
        return math.inf if bool(wrong.any()) else 0.0
    worst = 0.0
    floor = _rms(exact)
    flat = [t.reshape(-1) for t in (out, exact, honest)]
    for start in range(0, exact.numel(), CHUNK):
        o, e, h = (t[start : start + CHUNK] for t in flat)
        worst = max(worst, _worst(o, e, h, floor))
        if worst > enough:
            break
    return worst


def _rms(exact: torch.Tensor) -> float:
    """Root mean square of the finite elements, worked out once for a tensor.

    In pieces: large temporaries cost page faults.
    """
    known: float | None = getattr(exact, "_epitaxy_rms", None)
    if known is not None:
        return known
    total, count = 0.0, 0
    flat = exact.reshape(-1)
    for start in range(0, flat.numel(), CHUNK):
        wide = flat[start : start + CHUNK].double()
        finite = torch.isfinite(wide)
        total += float(torch.where(finite, wide, 0.0).square().sum())
        count += int(finite.sum())
    found = math.sqrt(total / count) if count else 0.0
    exact._epitaxy_rms = found  # type: ignore[attr-defined]
    return found


def _worst(out: torch.Tensor, exact: torch.Tensor, honest: torch.Tensor, floor: float) -> float:
    """Largest normalised error of one piece; inf where special values disagree."""
    exact = exact.double()
    wide = out.double()
    errors = (wide - exact).abs_().div_(exact.abs().add_(floor + 1e-300))
    worst = float(errors.max()) if errors.numel() else 0.0
    if math.isfinite(worst):
        return worst
    usable = torch.isfinite(exact)
    odd = ~usable & ~((wide == exact) | (torch.isnan(wide) & torch.isnan(exact)) | (out == honest))
    kept = errors[usable]
    if bool(odd.any()) or bool(torch.isnan(kept).any()):
        return math.inf
    return float(kept.max()) if kept.numel() else 0.0
