"""Which operators are rewritten in simpler ones before capture; decompositions of normalisations
that stay functional and free of strided copies."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from epitaxy.proposers.grower.decompose_transposed import transposed
from epitaxy.proposers.grower.lower_core import OPS

# Composite operators that are worth more whole than in pieces: they stay with the framework.
_WHOLE = (
    "linear.default", "matmul.default", "scaled_dot_product_attention.default",
    "gru.input",
    "lstm.input", "rnn_tanh.input", "rnn_relu.input", "multi_head_attention_forward.default",
)  # fmt: skip
# Operators that PyTorch can rewrite in simpler ones.
_SIMPLER = [
    "_softmax",
    "_log_softmax",
    "native_layer_norm",
    "native_group_norm",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
    "_fused_rms_norm",
    "nll_loss_forward",
    "nll_loss2d_forward",
    "mse_loss",
    "huber_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gelu",
    "elu",
    "leaky_relu",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "silu",
    "mish",
    "softplus",
    "log_sigmoid_forward",
    "softshrink",
    "hardshrink",
    "threshold",
    "_prelu_kernel",
    "rrelu_with_noise",
    "lerp",
    "addcmul",
    "addcdiv",
    "logsumexp",
    "glu",
    "logit",
    "nan_to_num",
    "xlogy",
    "aminmax",
    "frac",
    "heaviside",
    "logaddexp",
    "sinc",
    "linspace",
    "rsub",
    "hypot",
    "log_softmax",
    "softmax",
    "upsample_bilinear2d",
    "celu",
    "multi_margin_loss",
    "cosine_embedding_loss",
    "norm",
    "dist",
    "std_mean",
    "special_xlog1py",
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    *(f"upsample_nearest{n}d" for n in (1, 2, 3)),
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "trace",
    "count_nonzero",
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
]


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
    torch.ops.aten.convolution.default: transposed,
    torch.ops.aten.native_layer_norm.default: _layer_norm,
    torch.ops.aten._native_batch_norm_legit.no_stats: _own_statistics,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _batch_norm,
    torch.ops.aten.native_group_norm.default: _group_norm,
}


def decompositions() -> Any:
    """The table of rewrites that leaves only small operators."""
    return _decompositions().copy()


@cache
def _decompositions() -> Any:
    from torch._decomp import get_decompositions

    table: Any = torch.export.default_decompositions()
    packets = [getattr(torch.ops.aten, n) for n in _SIMPLER if hasattr(torch.ops.aten, n)]
    for target, function in get_decompositions(packets).items():
        table[target] = function
    for target in list(table):
        if str(target) in OPS or str(target).rsplit(".", 1)[0] in OPS:
            table.pop(target, None)
    for target, function in OWN.items():  # type: ignore[assignment]
        table[target] = function
    for name in _WHOLE:
        packet, overload = name.split(".")
        if hasattr(torch.ops.aten, packet):
            table.pop(getattr(getattr(torch.ops.aten, packet), overload, None), None)
    return table
