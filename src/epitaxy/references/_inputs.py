"""Inputs of a problem from named distributions, within the domain of the given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

DISTRIBUTIONS = (
    "given",
    "normal",
    "large",
    "tiny",
    "shifted",
    "skewed",
    "cancellation",
    "constant_rows",
)


def transform(given: Sequence[Any], distribution: str, seed: int) -> list[Any]:
    """`given` redrawn from `distribution`: shapes, dtypes and value domains stay.

    Floats that are all >= 0 stay so, floats within [0, 1] stay within, rows that sum to 1 still
    do; integers are redrawn within the range seen, booleans with the share seen.
    """
    generator = torch.Generator().manual_seed(seed)
    return [_one(x, distribution, generator) if isinstance(x, torch.Tensor) else x for x in given]


def _one(x: torch.Tensor, distribution: str, generator: torch.Generator) -> torch.Tensor:
    if x.dtype == torch.bool:
        share = x.double().mean().item()
        return torch.rand(x.shape, generator=generator) < min(max(share, 0.05), 0.95)
    if not x.is_floating_point():
        low, high = int(x.min()), int(x.max())
        return torch.randint(low, high + 1, x.shape, generator=generator, dtype=x.dtype)
    if distribution == "given":
        return x
    drawn = _float(x.shape, distribution, generator)
    return _into_domain(drawn, x).to(x.dtype)


def _float(shape: torch.Size, distribution: str, generator: torch.Generator) -> torch.Tensor:
    normal = torch.randn(shape, generator=generator)
    if distribution == "normal":
        return normal
    if distribution == "large":
        return normal * 1e3
    if distribution == "tiny":
        return normal * 1e-4
    if distribution == "shifted":
        return normal + 100.0
    if distribution == "skewed":
        rare = torch.rand(shape, generator=generator) < 1e-3
        return torch.where(rare, normal * 1e4, normal)
    if distribution == "cancellation":
        signs = torch.ones(shape)
        signs.view(-1)[1::2] = -1
        return signs * 1e3 + normal
    return torch.full(shape, 0.5) + normal[..., :1] * (1 if shape else 0)


def _into_domain(drawn: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    if given.numel() == 0:
        return drawn
    low, high = given.min().item(), given.max().item()
    rows = given.double().sum(-1) if given.dim() else given.double()
    if low >= 0 and given.dim() and torch.allclose(rows, torch.ones_like(rows), atol=1e-4):
        return torch.softmax(drawn.clamp(-30, 30), -1).clamp_min(1e-12)
    if low >= 0 and high <= 1:
        return torch.sigmoid(drawn)
    if low == -1 and high == 1 and bool((given.abs() == 1).all()):
        return torch.where(drawn < 0, -1.0, 1.0)
    return drawn.abs() if low >= 0 else drawn
