"""Decompositions of normalisations that stay functional and free of strided copies."""

from __future__ import annotations

import torch
from torch import Tensor


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Batch normalisation with given statistics (PyTorch's own form is not functional)."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    out = (x - mean.view(shape)) * torch.rsqrt(var + eps).view(shape)
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, x.new_empty((0,)), x.new_empty((0,))


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None,
    batch: int, channels: int, pixels: int, groups: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Group normalisation without strided copies."""
    grouped = x.reshape(batch, groups, -1)
    var, mean = torch.var_mean(grouped, dim=[2], correction=0, keepdim=True)
    scale = torch.rsqrt(var + eps)
    out = ((grouped - mean) * scale).view(x.shape)
    shape = [1, channels] + [1] * (x.dim() - 2)
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, mean.view(batch, groups), scale.view(batch, groups)


def _own_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Batch or instance normalisation with the statistics of the input itself."""
    dims = [0, *range(2, x.dim())]
    var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale = torch.rsqrt(var + eps)
    out = (x - mean) * scale
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, mean.view(-1), scale.view(-1)


OWN = {
    torch.ops.aten._native_batch_norm_legit.no_stats: _own_statistics,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _batch_norm,
    torch.ops.aten.native_group_norm.default: _group_norm,
}
