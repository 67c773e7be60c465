"""Small problems of every family that capture must understand: name -> (module, inputs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Wrapped(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def _t(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _ints(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(2))


def _trained(norm: Any) -> nn.Module:
    """A batch norm with statistics that are not the initial ones."""
    with torch.no_grad():
        for seed, tensor in enumerate(
            (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        ):
            tensor.copy_(_t(*tensor.shape, seed=seed).abs() + 0.5)
    return norm


class Routed(nn.Module):
    """Rows go to one of three weights each: how many go where is known at run time only."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(_t(3, 6, 4, seed=5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        choice = torch.argmax(torch.softmax(x[:, :3], -1), -1)
        out = x.new_zeros(x.shape[0], 4)
        for number in range(3):
            (row,) = torch.where(choice == number)
            out.index_add_(0, row, torch.tanh(x[row] @ self.weights[number]))
        return torch.sigmoid(out)


X = _t(5, 7, 33)
WIDE = torch.cat([X.flatten() * 9, torch.tensor([0.0, 19.99, 20.0, 21.0, 90.0, -90.0, 1e30])])
P = X.softmax(-1)
IMG = _t(2, 6, 11, 9)
MASK = _t(5, 7, 33, seed=3) > 0


class NewGelu(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1.0 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3.0))))


class ExclusiveCumsum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros_like(x.select(1, 0).unsqueeze(1))
        return torch.cumsum(torch.cat((zeros, x), dim=1)[:-1], dim=1)


class RunningScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", _t(33).abs())
        self.shift = nn.Parameter(_t(7, 1))
        self.factor = torch.tensor(1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.shift * self.factor


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.norm = nn.LayerNorm(12)
        self.register_buffer("mask", torch.tril(torch.ones(8, 8)).view(1, 1, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).split(12, dim=2)
        q, k, v = (t.view(2, 8, 3, 4).transpose(1, 2) for t in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * 0.5
        weights = F.softmax(scores.masked_fill(self.mask == 0, float("-inf")), dim=-1)
        return (weights @ v).transpose(1, 2).reshape(2, 8, 12) + x


# Everything of these is grown: nothing is left to the framework.
GROWN: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # element-wise
    "relu": (nn.ReLU(), (X,)),
    "leaky_relu": (nn.LeakyReLU(0.1), (X,)),
    "gelu": (nn.GELU(), (X,)),
    "gelu_tanh": (nn.GELU(approximate="tanh"), (X,)),
    "new_gelu": (NewGelu(), (X,)),
    "silu": (nn.SiLU(), (X,)),
    "mish": (nn.Mish(), (X,)),
    "mish_written_out": (Wrapped(lambda x: x * torch.tanh(F.softplus(x))), (WIDE,)),
    "mish_unguarded": (Wrapped(lambda x: torch.tanh(torch.log1p(torch.exp(x)))), (WIDE,)),
    "softplus_of_another_slope": (Wrapped(lambda x: F.softplus(x, beta=2).tanh()), (WIDE,)),
    "softplus_with_a_step": (Wrapped(lambda x: F.softplus(x, threshold=1).tanh()), (WIDE,)),
    "selu": (nn.SELU(), (X,)),
    "elu": (nn.ELU(), (X,)),
    "hardsigmoid": (nn.Hardsigmoid(), (X,)),
    "hardswish": (nn.Hardswish(), (X,)),
    "hardtanh": (nn.Hardtanh(), (X,)),
    "softplus": (nn.Softplus(), (X,)),
    "softsign": (nn.Softsign(), (X,)),
    "logsigmoid": (nn.LogSigmoid(), (X,)),
    "prelu": (nn.PReLU(7), (X,)),
    "glu": (nn.GLU(1), (_t(5, 8, 3),)),
    "tanhshrink": (nn.Tanhshrink(), (X,)),
    "dropout": (nn.Sequential(nn.Dropout(), nn.Tanh()), (X,)),
    "broadcast": (lambda a, b, c: (a + b) * c - a / (b.abs() + 1), (X, _t(7, 1), _t(33))),
    "clamp": (lambda x: torch.clamp(x, -0.5, 0.25) + x.clamp(min=X.mean().item()), (X,)),
    "scalars": (lambda x, s: x * s + s, (X, 3.0)),
    "powers": (lambda x: x.abs() ** 0.5 + x**2 - x**3 + x.abs() ** 1.7 + 2.0**x, (X,)),
    "rounding": (
        lambda x: x.floor() + x.round() + x.trunc() + (x * 9 // 2) + torch.remainder(x, 2),
        (X,),
    ),
    "logic": (
        lambda x, m: torch.where((x > 0) & ~m | (x < -1), x, -x).masked_fill(m, 2.0),
        (X, MASK),
    ),
    "int_math": (lambda i: i * 3 - i // 2 + (i % 5), (_ints(9, 5, 7),)),
    "int_to_float": (lambda i, x: i / 3 + x * i, (_ints(9, 5, 7, 33), X)),
    "double": (lambda x: (x.exp() - 1).sum(-1), (X.double(),)),
    "half": (lambda x: torch.softmax(x * 2, -1), (X.half(),)),
    "bfloat16": (lambda x: (x * x).mean(-1), (X.bfloat16(),)),
    "buffer": (RunningScale(), (X,)),
    "multi_output": (lambda x: (x.sum(1), x.amax(1), x * 2), (X,)),
    # reductions
    "sum_dim1": (lambda x: x.sum(1, keepdim=True), (X,)),
    "sum_all": (lambda x: x.sum(), (X,)),
    "mean": (lambda x: x.mean((0, 2)), (X,)),
    "prod": (lambda x: x.prod(1), (X,)),
    "amax": (lambda x: x.amax((0, 1)), (X,)),
    "max_dim": (lambda x: torch.max(x, dim=1)[0], (X,)),
    "max_both": (lambda x: torch.max(x, dim=1), (X,)),
    "min_dim": (lambda x: torch.min(x, dim=2)[0], (X,)),
    "argmax": (lambda x: torch.argmax(x, 1), (X,)),
    "argmin_flat": (lambda x: torch.argmin(x), (X,)),
    "any_all": (lambda x: ((x > 2).any(1), (x < 2).all(-1)), (X,)),
    "var": (lambda x: x.var(-1) + x.std((1, 2), keepdim=True)[:, 0], (X,)),
    "var_mean": (lambda x: torch.var_mean(x, 1, correction=0), (X,)),
    "l1_norm": (lambda x: x / torch.mean(torch.abs(x), dim=1, keepdim=True), (X,)),
    "l2_norm": (lambda x: x / torch.norm(x, p=2, dim=1, keepdim=True), (X,)),
    "frobenius": (lambda x: x / torch.norm(x, p="fro"), (X,)),
    "p_norms": (
        lambda x: [torch.linalg.vector_norm(x, o, dim=1) for o in (3, 0, float("inf"))],
        (X,),
    ),
    "normalize": (lambda x: F.normalize(x, dim=-1), (X,)),
    "softmax": (nn.Softmax(1), (X,)),
    "log_softmax": (nn.LogSoftmax(-1), (X,)),
    "logsumexp": (lambda x: torch.logsumexp(x, (1, 2)), (X,)),
    "softmin": (nn.Softmin(1), (X,)),
    # normalisations
    "layer_norm": (nn.LayerNorm((7, 33)), (X,)),
    "rms_norm": (lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5), (X,)),
    "rms_module": (nn.RMSNorm(33), (X,)),
    "batch_norm": (_trained(nn.BatchNorm2d(6)), (IMG,)),
    "batch_norm_1d": (_trained(nn.BatchNorm1d(33)), (_t(5, 33),)),
    "instance_norm": (nn.InstanceNorm2d(6), (IMG,)),
    "group_norm": (nn.GroupNorm(3, 6), (IMG,)),
    # losses
    "mse": (nn.MSELoss(), (X, _t(5, 7, 33, seed=4))),
    "l1_loss": (nn.L1Loss(reduction="sum"), (X, P)),
    "huber": (nn.HuberLoss(), (X, P)),
    "smooth_l1": (nn.SmoothL1Loss(), (X, P)),
    "hinge": (
        lambda x, y: torch.mean(torch.clamp(1 - x * y, min=0)),
        (_t(5, 33), _ints(2, 33) * 2 - 1),
    ),
    "kl_div": (nn.KLDivLoss(reduction="batchmean"), (P.log(), P.flip(0))),
    "cosine_loss": (lambda x, y: torch.mean(1 - F.cosine_similarity(x, y, dim=1)), (X, P)),
    "triplet": (nn.TripletMarginLoss(), (_t(5, 33), _t(5, 33, seed=5), _t(5, 33, seed=6))),
    "cross_entropy": (nn.CrossEntropyLoss(), (_t(5, 33), _ints(33, 5))),
    "cross_entropy_2d": (nn.CrossEntropyLoss(ignore_index=3), (X, _ints(7, 5, 33))),
    "cross_entropy_weight": (nn.CrossEntropyLoss(weight=_t(33).abs()), (_t(5, 33), _ints(33, 5))),
    "nll_sum": (nn.NLLLoss(reduction="sum"), (_t(5, 33), _ints(33, 5))),
    "bce": (nn.BCEWithLogitsLoss(), (X, P)),
    "bce_plain": (nn.BCELoss(), (P, P.flip(0))),
    "margin": (nn.SoftMarginLoss(), (X, P.sign())),
    "cosine_embedding": (
        nn.CosineEmbeddingLoss(),
        (_t(5, 33), _t(5, 33, seed=7), _ints(2, 5) * 2 - 1),
    ),
    # contractions
    "attention": (Attention(), (_t(2, 8, 12),)),
    "gemm_sum": (nn.Sequential(nn.Linear(9, 5), nn.GELU(), nn.Softmax(-1)), (_t(3, 9),)),
    "linear": (nn.Linear(9, 5), (_t(3, 9),)),
    "linear_no_bias": (nn.Linear(9, 5, bias=False), (_t(2, 3, 9),)),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), (_t(5), _t(3, 4), _t(4, 5))),
    "baddbmm": (torch.baddbmm, (_t(2, 3, 5), _t(2, 3, 4), _t(2, 4, 5))),
    "matmul_broadcast": (torch.matmul, (_t(4, 1, 3, 5), _t(2, 5, 6))),
    "matmul_vector": (lambda a, x, y: (a @ x, y @ a, x @ x), (_t(7, 5), _t(5), _t(7))),
    "einsum": (
        lambda a, b: torch.einsum("bij,bjk->bik", a, b).relu(),
        (_t(2, 3, 4), _t(2, 4, 5)),
    ),
    "einsum_heads": (
        lambda q, k: torch.einsum("bthd,bshd->bhts", q, k),
        (_t(2, 3, 4, 6), _t(2, 5, 4, 6)),
    ),
    # running reductions
    "cumsum": (lambda x: torch.cumsum(x, 1), (X,)),
    "cumprod": (lambda x: torch.cumprod(x, -1), (X,)),
    "cummax": (lambda x: torch.cummax(x, 1)[0], (X,)),
    "reverse_cumsum": (lambda x: torch.cumsum(x.flip(1), 1).flip(1), (X,)),
    "exclusive_cumsum": (ExclusiveCumsum(), (X,)),
    "masked_cumsum": (lambda x, m: torch.cumsum(x * m, 1), (X, MASK)),
    "cumsum_last": (lambda x: torch.cumsum(x, 1)[:, -2], (X,)),
    "cumsum_flat": (lambda x: torch.cumsum(x.reshape(5, -1), 1), (X,)),
    "cumsum_shifted": (lambda x: torch.cumsum(x, 1)[:, 1:] * 2, (X,)),
    # pooling
    "max_pool1d": (nn.MaxPool1d(3, 2, 1, dilation=2), (X,)),
    "max_pool2d": (nn.MaxPool2d(3, 2, 1, dilation=2), (IMG,)),
    "max_pool2d_ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (IMG,)),
    "max_pool3d": (nn.MaxPool3d(2), (IMG,)),
    "avg_pool1d": (nn.AvgPool1d(4, 3, 2), (X,)),
    "avg_pool2d": (nn.AvgPool2d(3), (IMG,)),
    "avg_pool2d_edge": (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (IMG,)),
    "avg_pool2d_ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (IMG,)),
    "avg_pool2d_divisor": (nn.AvgPool2d(3, 2, divisor_override=5), (IMG,)),
    "avg_pool3d": (nn.AvgPool3d(2, 2, 1), (IMG,)),
    "adaptive_avg": (nn.AdaptiveAvgPool2d((1, 1)), (IMG,)),
    "adaptive_avg_3": (nn.AdaptiveAvgPool2d(3), (_t(2, 3, 9, 6),)),
    "adaptive_max": (nn.AdaptiveMaxPool2d(3), (_t(2, 3, 9, 6),)),
    "pool_relu": (nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Tanh()), (IMG,)),
    "pool_of_pool": (nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 2)), (IMG,)),
    # index arithmetic around arithmetic
    "group_reshape": (
        lambda x: (x.view(2, 3, 2, 99) * 2).transpose(1, 2).reshape(2, 6, 99).sum(1),
        (IMG,),
    ),
    "odd_reshape": (lambda x: (x.exp().reshape(7, 5, 33) + 1).sum(0), (X,)),
    "slice_cat": (
        lambda x: torch.cat([x[:, 1:], x[:, :1] * 2, x.sum(1, keepdim=True)], 1) + 1,
        (X,),
    ),
    "stack": (lambda x, y: torch.stack([x.sin(), y, x + y], 2).amax(-1), (X, P)),
    "pad": (lambda x: F.pad(x, (1, 2, 3, 0), value=1.5) * 2, (X,)),
    "pad_reflect": (lambda x: F.pad(x, (2, 1, 1, 1), mode="reflect") * 2, (IMG,)),
    "roll": (lambda x: x.roll((1, -2), (1, 2)) - x, (X,)),
    "repeat": (lambda x: x.repeat(2, 1, 3) + 1, (X,)),
    "triangle": (lambda x: torch.tril(x) + torch.triu(x.exp(), 2), (X,)),
    "causal": (
        lambda x: x.masked_fill(torch.triu(torch.ones(33, 33), 1).bool(), -1e9).softmax(-1),
        (_t(2, 33, 33),),
    ),
    "gather": (lambda x, i: x.softmax(1).gather(1, i), (X, _ints(7, 5, 2, 33))),
    "embedding": (nn.Sequential(nn.Embedding(11, 6), nn.LayerNorm(6)), (_ints(11, 3, 5),)),
    "index": (lambda x, i: x[:, i].exp() + x[:, -i], (X, _ints(7, 4))),
    "index_select": (lambda x, i: x.index_select(2, i) * 2, (X, _ints(33, 4))),
    "scatter": (
        lambda x, i: (x * 2).scatter(1, i, x[:, :2].exp()) + x.scatter(1, i, 3.0),
        (X, _ints(7, 5, 2, 33)),
    ),
    "scatter_add": (lambda x, i: x.scatter_add(1, i, x[:, :3] * 2), (X, _ints(7, 5, 3, 33))),
    "topk": (lambda x: x.softmax(-1).topk(3)[0].exp(), (X,)),
    "unfold": (lambda x: x.unfold(2, 5, 3).mean(-1), (X,)),
    "split": (lambda x: (lambda a, b, c: a * b + c)(*x.split([11, 11, 11], 2)), (X,)),
    "chunk_gate": (lambda x: (lambda a, b: a * b.sigmoid())(*x.chunk(2, 0)), (_t(4, 7),)),
    "upsample": (lambda x: F.interpolate(x, scale_factor=2) + 1, (IMG,)),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2) * 2, (_t(2, 8, 3, 5),)),
    "pairwise": (lambda x: (x[:, None] - x[None]).abs().sum(-1), (_t(6, 5),)),
    "transpose_add": (lambda x: (x + x.T).softmax(-1), (_t(9, 9),)),
    "arange_bias": (lambda x: x + torch.arange(33) * 0.5 + torch.arange(33.0).sqrt(), (X,)),
    "diagonal": (lambda x: x.diagonal(0, 1, 2).sum(-1) + 1, (_t(3, 5, 5),)),
    "softmax_pool": (lambda x: F.avg_pool1d(x.softmax(-1), 3, 1), (X,)),
    "double_softmax": (lambda x: x.softmax(1).softmax(2).logsumexp(0), (X,)),
    "sdpa": (F.scaled_dot_product_attention, (_t(2, 3, 8, 4),) * 3),
    "min_pool_like": (lambda x: torch.min(x, dim=1, keepdim=True)[0].tanh().tanh(), (IMG,)),
}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(6, 6, 3, padding=1)
        self.bn1 = _trained(nn.BatchNorm2d(6))
        self.conv2 = nn.ConvTranspose2d(6, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.conv2(y) + x)


# These keep framework calls: name -> (module, inputs, words that `left` must hold).
MIXED: dict[str, tuple[Any, tuple[Any, ...], tuple[str, ...]]] = {
    "residual": (
        Residual().double(),
        (IMG.double(),),
        ("aten.convolution.default (conv1)", "(conv2)"),
    ),
    "conv_pool": (
        nn.Sequential(nn.ConvTranspose2d(6, 4, 3, 2, dilation=3), nn.Tanh(), nn.MaxPool2d(2)),
        (IMG,),
        ("convolution",),
    ),
    "conv_norm": (
        nn.Sequential(nn.ConvTranspose2d(6, 4, 3, 2, dilation=3), nn.InstanceNorm2d(4)),
        (IMG,),
        ("convolution",),
    ),
    "routed": (
        Routed(),
        (_t(12, 6),),
        ("aten.sigmoid",),  # of a few numbers; rows and weights are grown
    ),
    "sort": (lambda x: x.sort(-1)[0] * 2, (X,), ("sort",)),
    "topk_columns": (lambda x: x.topk(3, dim=1)[0].exp(), (X,), ("topk",)),
    "uneven_pool": (nn.AdaptiveAvgPool2d(4), (IMG,), ("adaptive_avg_pool2d",)),
}
