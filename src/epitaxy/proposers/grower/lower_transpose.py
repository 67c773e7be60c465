"""Transposed convolutions as convolutions: each output pixel sums over the taps that reach it.

With stride 1 that is a convolution by the turned filter. With stride s the pixel s q + r meets the
taps k0(r) + s m alone, at the image's positions q + f(r) - m: one small convolution for each phase
r, the phases being one more axis of the result.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Load, Value
from epitaxy.proposers.grower.axes import Inexpressible, Ix, align, divmod_ix, guards_of
from epitaxy.proposers.grower.lower_core import Index, Lowering, shape_of
from epitaxy.proposers.grower.lower_index import padded

MISSED = 0.1
"""Share of taps outside the image from which rows of pixels leave them out."""


def each(values: list[Any], d: int) -> int:
    """The value of a convolution's argument along direction d."""
    return int(values[d] if len(values) > 1 else values[0])


def _form(node: Node, d: int) -> tuple[int, int, int, int]:
    """(taps, stride, padding, dilation) along direction d."""
    stride, pad, dilation = (each(list(node.args[k]), d) for k in (3, 4, 5))  # type: ignore[arg-type]
    return shape_of(node.args[1])[2 + d], stride, pad, dilation


def expressible(node: Node) -> bool:
    """Whether every direction's phases are of one size, and first tap and position are affine in
    the phase: any function of two phases is."""
    for d in range(len(shape_of(node)) - 2):
        taps, stride, pad, dilation = _form(node, d)
        if stride == 1:
            continue
        even = shape_of(node)[2 + d] % stride == 0 and taps >= stride and dilation == 1
        if not even or (stride > 2 and pad % stride):
            return False
    return True


def hint(low: Lowering, node: Node) -> None:
    """Images stay images; output channels are the weight's columns."""
    source, weight, bias = node.args[:3]
    own = low.dims(node)
    align([low.dims(source)[0]], [own[0]])
    if shape_of(weight)[1] == own[1].size:
        align([low.dims(weight)[1]], [own[1]])
    if isinstance(bias, Node):
        align([low.dims(bias)[0]], [own[1]])


def transposed(low: Lowering, node: Node, index: Index) -> Value:
    """The sum at `index`, without the bias."""
    source, weight = node.args[:2]
    groups: Any = node.args[8]
    channels, per_group, *_ = shape_of(weight)
    count = len(index) - 2
    taps = [-(-_form(node, d)[0] // _form(node, d)[1]) for d in range(count)]
    keys = low.dims((weight, "window"), (channels // groups, *taps))
    # Where a phase lacks taps these come first: what it lacks are whole stretches of the sum. Where
    # rows of a small image miss many, all but those along a row.
    lacks = any(_form(node, d)[0] % _form(node, d)[1] for d in range(count))
    first = count if lacks else count - 1 if _missing(node) >= MISSED else 0
    found, over = low.bind([*keys[1 : 1 + first], keys[0], *keys[1 + first :]], index, "k")
    channel, window = found[first], [*found[:first], *found[first + 1 :]]
    group, filter_ = divmod_ix(index[1], per_group) if groups > 1 else (Ix(), index[1])
    place, tap = [], []
    for d, w in enumerate(window):
        at, k = _reached(_form(node, d), index[2 + d], w, taps[d])
        place.append(at)
        tap.append(k)
    whole = group.times(channels // groups).plus(channel)
    x = padded(low, source, (index[0], whole, *place), 0.0)  # type: ignore[arg-type]
    if not isinstance(x, Load) and source in low.lowered:
        raise Inexpressible(source)  # computed once, not once for each window
    missing = guards_of(tap, shape_of(weight)[2:])
    if missing:  # a tap that a phase lacks must not meet a NaN
        if not isinstance(x, Load):
            raise Inexpressible(node)
        x = low.build.keep(dataclasses.replace(x, guards=(*x.guards, *missing)))
    factor = padded(low, weight, (whole, filter_, *tap), 0.0)  # type: ignore[arg-type]
    return low.build.reduce("sum", over, low.build.map("mul", factor, x), "float32")


def _missing(node: Node) -> float:
    """The share of taps that lie outside the image in rows of pixels, at stride 1; none where
    Winograd's transform does better."""
    sizes, meeting = shape_of(node.args[0])[2:], 1.0
    if shape_of(node.args[1])[2:] == (3, 3):
        return 0.0
    for d, (size, out) in enumerate(zip(sizes[:-1], shape_of(node)[2:], strict=False)):
        taps, stride, pad, dilation = _form(node, d)
        places = (o + pad - dilation * k for o in range(out) for k in range(taps))
        inside = sum(0 <= p < size for p in places) if stride == 1 else out * taps
        meeting *= inside / (out * taps)
    return 1.0 - meeting


def _reached(form: tuple[int, int, int, int], out: Ix, w: Ix, taps: int) -> tuple[Ix, Ix]:
    """(position in the image, tap) of the w-th tap that reaches output pixel `out`, last first, so
    that the position grows with w."""
    size, stride, pad, dilation = form
    if stride == 1:
        at = out.shifted(pad - dilation * (size - 1)).plus(w.times(dilation))
        return at, w.times(-1).shifted(size - 1)
    q, r = divmod_ix(out, stride)
    odd = pad % stride != 0  # then the stride is 2
    first = r.times(-1).shifted(1) if odd else r
    at = q.plus(r) if odd else q
    at = at.shifted(pad // stride - (taps - 1)).plus(w)
    return at, first.plus(w.times(-stride)).shifted(stride * (taps - 1))
