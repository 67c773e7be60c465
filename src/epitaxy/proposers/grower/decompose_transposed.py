"""Transposed convolutions of any form as ones whose phases are alike (see lower_transpose).

Where the stride does not divide the result or the padding, the result is cut out of a larger one.
Where taps are spread too (dilation d, stride s, without a common divisor), pixel o of the result
meets tap k at pixel i with o + padding = s i + d k. With k = s m + p that is s (i + d m) + d p: a
convolution without stride gives, for each remainder p as a channel of its own, what its taps make,
and these are then put where they belong. A common divisor of s and d leaves pixels between that
nothing reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


@dataclass(frozen=True)
class _Way:
    """One direction: pixels, taps, and how they meet."""

    size: int
    taps: int
    stride: int
    pad: int
    spread: int
    more: int = 0

    @property
    def out(self) -> int:
        """Pixels of the result."""
        reach = (self.size - 1) * self.stride + self.spread * (self.taps - 1) + 1
        return reach - 2 * self.pad + self.more

    @property
    def phases(self) -> int:
        """Remainders of taps that meet different pixels."""
        return self.stride // math.gcd(self.stride, self.spread)

    @property
    def channels(self) -> int:
        """Remainders that there are taps of."""
        return min(self.taps, self.phases)

    @property
    def even(self) -> bool:
        """Whether lower_transpose takes it as it is."""
        return self.stride == 1 or (
            self.spread == 1
            and self.taps >= self.stride
            and self.out % self.stride == 0
            and (self.stride == 2 or self.pad % self.stride == 0)
        )


def transposed(x: Tensor, weight: Tensor, bias: Tensor | None, *form: Any) -> Any:
    """aten.convolution where it is a transposed one, by simpler ones; `form` is the rest of its
    arguments. NotImplemented where it is simple, or cannot be."""
    stride, pad, dilation, is_transposed, output_pad, groups = form
    if not is_transposed or x.dim() < 3:
        return NotImplemented
    given = [
        [v[d if len(v) > 1 else 0] for v in (stride, pad, dilation, output_pad)]
        for d in range(x.dim() - 2)
    ]
    ways = [_Way(x.shape[2 + d], weight.shape[2 + d], *g) for d, g in enumerate(given)]
    if all(w.even for w in ways):
        return NotImplemented
    spread = {
        d: w for d, w in enumerate(ways) if w.stride > 1 and (w.spread > 1 or w.taps < w.stride)
    }
    # Taps added to make whole rounds would be zeros, which must not meet a NaN.
    if any(w.taps > w.phases and w.taps % w.phases for w in spread.values()):
        return NotImplemented
    for d, w in spread.items():
        weight = _as_channels(weight, d, w.channels)
        step = w.spread * w.phases // w.stride
        ways[d] = _Way(w.size, weight.shape[2 + d], 1, 0, step)
    made = _cut(x, weight, None if spread else bias, ways, groups)
    for d, w in reversed(spread.items()):
        made = _placed(made, d, w)
    if spread and bias is not None:
        made = made + bias.view([-1] + [1] * len(ways))
    return made


def _cut(
    x: Tensor, weight: Tensor, bias: Tensor | None, ways: list[_Way], groups: int
) -> Tensor:  # fmt: skip
    """The convolution with its paddings rounded down to whole strides and its result up."""
    cuts, pads, more = list[tuple[int, int, int]](), [w.pad for w in ways], [w.more for w in ways]
    for d, w in enumerate(ways):
        if w.even:
            continue
        before = w.pad % w.stride if w.stride > 2 else 0
        pads[d] -= before
        least = w.out - w.more + 2 * before
        more[d] = -(-max(w.out + before, least) // w.stride) * w.stride - least
        if more[d] >= w.stride:  # more than PyTorch allows: as much comes from a pixel of zeros
            x = _padded(x, 2 + d, 0, w.size + 1)
            more[d] -= w.stride
        cuts.append((2 + d, before, w.out))
    made: Tensor = aten.convolution.default(
        x, weight, bias, [w.stride for w in ways], pads, [w.spread for w in ways], True, more,
        groups,
    )  # fmt: skip
    for dim, start, length in cuts:
        made = made.narrow(dim, start, length)
    return made


def _as_channels(weight: Tensor, d: int, channels: int) -> Tensor:
    """(in, out, .. taps ..) as (in, out * channels, .. rounds ..): each remainder a channel."""
    return _split(weight, 2 + d, channels).movedim(3 + d, 2).flatten(1, 2)


def _placed(made: Tensor, d: int, way: _Way) -> Tensor:
    """The channels of one direction's remainders back among its pixels, each at its place: what
    the q-th round of remainder p makes belongs to s q + d p."""
    dim, phases, common = 2 + d, way.phases, math.gcd(way.stride, way.spread)
    split = _split(made, 1, way.channels)
    starts = [divmod(way.spread // common * p, phases) for p in range(way.channels)]
    length = split.shape[dim + 1] + max(first for first, _ in starts)
    lines = {
        r: _padded(split.select(2, p), dim, first, length) for p, (first, r) in enumerate(starts)
    }
    nothing = torch.zeros_like(lines[0])
    line = torch.stack([lines.get(r, nothing) for r in range(phases)], dim + 1)
    line = line.flatten(dim, dim + 1).unsqueeze(dim + 1)
    line = _padded(line, dim + 1, 0, common).flatten(dim, dim + 1)
    whole = max(line.shape[dim], way.pad + way.out)
    return _padded(line, dim, 0, whole).narrow(dim, way.pad, way.out)


def _padded(x: Tensor, dim: int, first: int, length: int) -> Tensor:
    """`x` from position `first` of `length` along `dim`, zeros elsewhere."""
    rest = length - first - x.shape[dim]
    if not first and not rest:
        return x
    ends = [0, 0] * (x.dim() - 1 - dim) + [first, rest]
    made: Tensor = aten.constant_pad_nd.default(x, ends, 0.0)
    return made


def _split(x: Tensor, dim: int, inner: int) -> Tensor:
    """Dimension `dim` as two, the second of size `inner`."""
    return x.reshape([*x.shape[:dim], -1, inner, *x.shape[dim + 1 :]])
