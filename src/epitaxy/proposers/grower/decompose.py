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
    off, mean, scale = _centred(grouped, [2], eps)
    out = (off * scale).view(x.shape)
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
    off, mean, scale = _centred(x, dims, eps)
    shape = [1, -1] + [1] * (x.dim() - 2)
    out = off * scale
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, mean.view(-1), scale.view(-1)


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation over the trailing dimensions of `shape`."""
    off, mean, scale = _centred(x, list(range(x.dim() - len(shape), x.dim())), eps)
    out = off * scale
    out = out if weight is None else out * weight
    out = out if bias is None else out + bias
    return out, mean, scale


def _centred(x: Tensor, dims: list[int], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x - mean, the mean, and 1/sqrt(var + eps). The mean is taken twice: on rows that hardly
    vary, the rounding of a single mean would be scaled up by 1/sqrt(eps)."""
    first = x.mean(dims, keepdim=True)
    off = x - first
    rest = off.mean(dims, keepdim=True)
    off = off - rest
    scale = torch.rsqrt((off * off).mean(dims, keepdim=True) + eps)
    return off, first + rest, scale


OWN = {
    torch.ops.aten.native_layer_norm.default: _layer_norm,
    torch.ops.aten._native_batch_norm_legit.no_stats: _own_statistics,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _batch_norm,
    torch.ops.aten.native_group_norm.default: _group_norm,
}
