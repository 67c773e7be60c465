"""Small questions about lists of tensors and other values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def same(a: Any, b: Any) -> bool:
    """Whether two tensors hold the same values (NaN equals itself); others always do."""
    if not isinstance(a, torch.Tensor):
        return True
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def floats(x: Any) -> bool:
    """Whether `x` is a tensor of floats."""
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def cloned(inputs: Sequence[Any]) -> list[Any]:
    """The tensors copied, the rest as it is."""
    return [x.clone() if isinstance(x, torch.Tensor) else x for x in inputs]
