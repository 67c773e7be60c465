"""Run a model with its operands rounded to fewer bits: what honest code of that precision gets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from epitaxy.precision import Precision

CONTRACTIONS = frozenset(
    (
        *("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "addr"),
        *("linear", "matmul", "einsum", "convolution", "_convolution", "mkldnn_convolution"),
        *("scaled_dot_product_attention", "_scaled_dot_product_attention_math"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_native_multi_head_attention"),
        *("_transformer_encoder_layer_fwd", "mkldnn_rnn_layer"),
    )
)
"""Operators that multiply and add: what tensor cores do."""


def rounded(x: torch.Tensor, to: Precision) -> torch.Tensor:
    """`x` rounded to the nearest value that `to` can hold (ties to even), in its own dtype.

    Values beyond `to.largest` become infinite, as IEEE 754 rounding makes them.
    """
    if not x.is_floating_point() or x.dtype not in (torch.float32, torch.float64):
        return x
    mantissa, exponent = torch.frexp(x)
    scale = float(2**to.bits)
    near = torch.ldexp(torch.round(mantissa * scale) / scale, exponent).to(x.dtype)
    if to.smallest:
        coarse = torch.round(x / to.smallest) * to.smallest
        near = torch.where(x.abs() < to.smallest * scale / 2, coarse, near)
    if to.largest:
        near = torch.where(
            near.abs() > to.largest, torch.copysign(torch.full_like(x, torch.inf), x), near
        )
    return torch.where(torch.isfinite(x), near, x)


class _Narrowing(TorchDispatchMode):
    """Rounds the operands of operators; what an operator writes to stays."""

    def __init__(self, to: Precision) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._to = to

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        aliases = [a.alias_info for a in func._schema.arguments]
        view = any(a is not None and not a.is_write for a in aliases)
        if view or (self._to.operands == "contractions" and name not in CONTRACTIONS):
            return func(*args, **kwargs)
        taken = [
            a if alias is not None else tree_map(self._round, a)
            for a, alias in zip(args, [*aliases, *[None] * len(args)], strict=False)
        ]
        return func(*taken, **kwargs)

    def _round(self, x: Any) -> Any:
        return rounded(x, self._to) if isinstance(x, torch.Tensor) else x


@contextlib.contextmanager
def narrowing(to: Precision) -> Iterator[None]:
    """Operators called in here see rounded operands."""
    with _Narrowing(to):
        yield
