"""Reductions, running reductions and pooling windows."""

from __future__ import annotations

import math
from typing import Any

from torch.fx import Node

from epitaxy.proposers.grower.algebra import Axis, Value
from epitaxy.proposers.grower.axes import Inexpressible, Ix, flipped, pure
from epitaxy.proposers.grower.lower_build import FLOATS
from epitaxy.proposers.grower.lower_core import (
    Index,
    Lowering,
    dtype_of,
    is_getitem,
    op,
    reduced_dims,
    shape_of,
    working,
)
from epitaxy.proposers.grower.lower_index import padded


def _rows(low: Lowering, node: Node, index: Index) -> tuple[Index, tuple[Axis, ...], int]:
    """(the operand's index, the axes reduced, how many elements) for result `index`."""
    source: Any = node.args[0]
    shape, reduced = shape_of(source), reduced_dims(node)
    keep = len(index) == len(shape)
    rest = iter(index)
    inner: list[Ix] = []
    for k in range(len(shape)):
        inner.append(Ix() if k in reduced and not keep else next(rest))
    kept = [ix for k, ix in enumerate(inner) if k not in reduced]
    if any(_overlaps(ix) for ix in kept):
        raise Inexpressible(node)
    dims = low.dims(source)
    bound, axes = low.bind([dims[k] for k in reduced], kept)
    for k, ix in zip(reduced, bound, strict=True):
        inner[k] = ix
    return tuple(inner), axes, math.prod(shape[k] for k in reduced)


def _overlaps(ix: Ix) -> bool:
    """Whether two elements of the index's axes meet: a reduction there would be done twice."""
    terms = sorted(ix.terms, key=lambda t: abs(t[1]))
    reach = 0
    for axis, c in terms:
        if abs(c) <= reach:
            return True
        reach += abs(c) * (axis.size - 1)
    return False


def _reduced(low: Lowering, node: Node, kind: str, index: Index, dtype: str, fn: str = "") -> Value:
    inner, over, _ = _rows(low, node, index)
    value = low.pull(node.args[0], inner)
    if kind in ("sum", "prod"):
        value = low.build.cast(value, dtype)
    if fn == "square":
        value = low.build.map("mul", value, value)
    elif fn:
        value = low.build.map(fn, value)
    return low.build.reduce(kind, over, value, dtype)


@op("reduce", "aten.sum", "aten.prod")
def lower_sum(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """sum and prod; integers are accumulated in int64."""
    kind = str(node.target).split(".")[1]
    return _reduced(low, node, kind, index, working(dtype_of(node)))


@op("reduce", "aten.mean")
def lower_mean(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """mean: the sum times 1/n."""
    dtype = working(dtype_of(node))
    total = _reduced(low, node, "sum", index, dtype)
    return low.build.map("mul", total, low.build.const(1 / _rows(low, node, index)[2], dtype))


@op("reduce", "aten.amax", "aten.amin", "aten.max.default", "aten.min.default",
    "aten.argmax", "aten.argmin", "aten.max.dim", "aten.min.dim")  # fmt: skip
def lower_extremum(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Extrema and their first positions; a NaN wins."""
    kind = str(node.target).split(".")[1].removeprefix("a")
    if kind.startswith("rg"):
        kind = "a" + kind
    if which == 1:
        kind = f"arg{kind}"
    inner, over, _ = _rows(low, node, index)
    value = low.pull(node.args[0], inner)
    return low.build.reduce(kind, over, value, "int64" if kind.startswith("arg") else value.dtype)


@op("reduce", "aten.any", "aten.all")
def lower_any(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """any and all."""
    inner, over, _ = _rows(low, node, index)
    value = low.build.cast(low.pull(node.args[0], inner), "bool")
    return low.build.reduce(str(node.target).split(".")[1], over, value, "bool")


def _deviation(low: Lowering, node: Node, index: Index, correction: float) -> tuple[Value, Value]:
    """(variance, mean): two passes, the mean first."""
    source: Any = node.args[0]
    dtype = working(dtype_of(source))
    inner, over, count = _rows(low, node, index)
    x = low.pull(source, inner)
    mean = low.build.map(
        "mul", low.build.reduce("sum", over, x, dtype), low.build.const(1 / count, dtype)
    )
    off = low.build.map("sub", x, mean)
    square = low.build.reduce("sum", over, low.build.map("mul", off, off), dtype)
    freedom = max(count - correction, 0)
    scale = low.build.const(1 / freedom if freedom else math.inf, dtype)
    return low.build.map("mul", square, scale), mean


@op("reduce", "aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def lower_var(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Variance and standard deviation, with the mean as second result."""
    value: Any = node.kwargs.get("correction", 1)
    overload = str(node.target).rsplit(".", 1)[-1]
    position = {"default": 1, "dim": 2}.get(overload, len(node.args))
    if len(node.args) > position:  # var(x, unbiased), var.dim(x, dims, unbiased, keepdim)
        value = int(bool(node.args[position]))
    results = _deviation(low, node, index, 1 if value is None else value)
    if which == 0 and "std" in str(node.target):
        return low.build.map("sqrt", results[0])
    return results[which]


@op("reduce", "aten.linalg_vector_norm")
def lower_norm(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Vector norms of any order."""
    order: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("ord", 2)
    dtype = working(dtype_of(node))
    if order in (math.inf, -math.inf):
        return _reduced(low, node, "max" if order > 0 else "min", index, dtype, "abs")
    if order == 2:
        return low.build.map("sqrt", _reduced(low, node, "sum", index, dtype, "square"))
    if order == 1:
        return _reduced(low, node, "sum", index, dtype, "abs")
    inner, over, _ = _rows(low, node, index)
    x = low.build.cast(low.pull(node.args[0], inner), dtype)
    if order == 0:
        one = low.build.cast(low.build.map("ne", x, low.build.const(0, dtype)), dtype)
        return low.build.reduce("sum", over, one, dtype)
    power = low.build.map("pow", low.build.map("abs", x), low.build.const(order, dtype))
    whole = low.build.reduce("sum", over, power, dtype)
    return low.build.map("pow", whole, low.build.const(1 / order, dtype))


# -- scans ---------------------------------------------------------------------------------

_SCAN = {"cumsum": "sum", "cumprod": "prod", "cummax": "max", "cummin": "min"}
_NEUTRAL = {"sum": 0.0, "prod": 1.0}
"""Running values that may begin some positions late: exclusive ones."""


def _first_result_only(node: Node) -> bool:
    if str(node.target).split(".")[1] in ("cumsum", "cumprod"):
        return True
    return _values_only(node)


@op("scan", *(f"aten.{name}" for name in _SCAN), ok=_first_result_only)
def lower_scan(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Running sum, product and extrema; read backwards they run from the end."""
    source: Any = node.args[0]
    shape = shape_of(source)
    kind = _SCAN[str(node.target).split(".")[1]]
    dtype = working(dtype_of(source if "max" in kind or "min" in kind else node))
    if not shape:
        return low.as_dtype(source, (), dtype)
    d = int(node.args[1]) % len(shape)  # type: ignore[arg-type]
    ix = index[d]
    if any(_overlaps(other) for other in index) or _shared(index, d):
        raise Inexpressible(node)
    late = max(0, -ix.range()[0]) if kind in _NEUTRAL else 0
    along, reverse = pure(ix.shifted(late)), False
    if along is None:
        along, reverse = flipped(ix.shifted(late)), True
    if along is not None:
        value = padded(low, source, index, _NEUTRAL[kind]) if late else low.pull(source, index)
        return low.build.scan(kind, along, low.build.cast(value, dtype), reverse)
    if ix.axes:
        raise Inexpressible(node)
    # One position of a running value is a reduction of what lies before it.
    window = low.dims((node, "upto", ix.offset), (ix.offset + 1,))
    bound, over = low.bind(window, index)
    inner = (*index[:d], bound[0], *index[d + 1 :])
    return low.build.reduce(kind, over, low.as_dtype(source, inner, dtype), dtype)


def _shared(index: Index, d: int) -> bool:
    others = frozenset().union(*(ix.axes for k, ix in enumerate(index) if k != d))
    return bool(others & index[d].axes)


# -- pooling -------------------------------------------------------------------------------


def _values_only(node: Node) -> bool:
    """Nobody reads the second result (the positions)."""
    return all(user.args[1] == 0 for user in node.users if is_getitem(user))


def _each(value: Any, count: int, default: Any) -> list[int]:
    if value is None or value == []:
        value = default
    listed = list(value) if isinstance(value, list | tuple) else [value]
    return [int(v) for v in (listed * count if len(listed) == 1 else listed)]


def _arg(node: Node, position: int, name: str, default: Any) -> Any:
    value = node.args[position] if len(node.args) > position else node.kwargs.get(name)
    return default if value is None else value


def _count(node: Node) -> int:
    return int(str(node.target).split("pool")[1][0])


def _windows(
    low: Lowering, node: Node, index: Index, steps: tuple[list[int], ...]
) -> tuple[Index, tuple[Axis, ...]]:
    """The operand's index inside each window, and the windows' axes."""
    size, stride, pad, dilation = steps
    if any(_overlaps(ix) for ix in index):
        raise Inexpressible(node)
    keys = low.dims((node, "window"), size)
    bound, axes = low.bind(keys, index, "w")
    inner, first = list(index), len(index) - len(size)
    for k, w in enumerate(bound):
        at = index[first + k].times(stride[k]).shifted(-pad[k])
        inner[first + k] = at.plus(w.times(dilation[k]))
    return tuple(inner), axes


@op("window", "aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d",
    "aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices", ok=_values_only)  # fmt: skip
def lower_max_pool(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Max pooling: the greatest of each window; outside counts as minus infinity."""
    n = _count(node)
    size = _each(node.args[1], n, 1)
    stride = _each(_arg(node, 2, "stride", []), n, size)
    pad = _each(_arg(node, 3, "padding", 0), n, 0)
    dilation = _each(_arg(node, 4, "dilation", 1), n, 1)
    inner, over = _windows(low, node, index, (size, stride, pad, dilation))
    source: Any = node.args[0]
    lowest = -math.inf if dtype_of(source) in FLOATS else -(2**31)
    value = padded(low, source, inner, lowest)
    return low.build.reduce("max", over, value, value.dtype)


@op("window", "aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def lower_avg_pool(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Average pooling; the divisor follows PyTorch where windows cross the edge."""
    n = _count(node)
    source: Any = node.args[0]
    size = _each(node.args[1], n, 1)
    stride = _each(_arg(node, 2, "stride", []), n, size)
    pad = _each(_arg(node, 3, "padding", 0), n, 0)
    with_pad = bool(_arg(node, 5, "count_include_pad", True))
    inner, over = _windows(low, node, index, (size, stride, pad, [1] * n))
    dtype = working(dtype_of(node))
    total = low.build.reduce("sum", over, padded(low, source, inner, 0), dtype)
    divisor = _arg(node, 6, "divisor_override", None)
    if divisor is not None:
        return low.build.map("div", total, low.build.const(divisor, dtype))
    shape = shape_of(source)[-n:]
    count: Value = low.build.const(1, "int64")
    for k in range(n):
        start = index[len(index) - n + k].times(stride[k]).shifted(-pad[k])
        span = _span(low, start, size[k], shape[k], pad[k] if with_pad else 0)
        count = low.build.map("mul", count, span)
    return low.build.map("div", total, low.build.cast(count, dtype))


def _span(low: Lowering, start: Ix, size: int, length: int, pad: int) -> Value:
    """How many positions of [start, start + size) lie in [-pad, length + pad)."""
    first, last = start.range()
    build = low.build
    if first >= -pad and last + size <= length + pad:
        return build.const(size, "int64")
    begin = build.map("maximum", build.index(start), build.const(-pad, "int64"))
    end = build.map("minimum", build.index(start.shifted(size)), build.const(length + pad, "int64"))
    return build.map("sub", end, begin)


def _uniform(node: Node) -> bool:
    source: Any = node.args[0]
    n = _count(node)
    pairs = zip(shape_of(source)[-n:], shape_of(_pooled(node))[-n:], strict=True)
    return _values_only(node) and all(a % b == 0 for a, b in pairs)


def _pooled(node: Node) -> Any:
    value = node.meta["val"]
    return node if hasattr(value, "shape") else next(iter(node.users))


@op("window", "aten.adaptive_avg_pool1d", "aten._adaptive_avg_pool2d", "aten._adaptive_avg_pool3d",
    "aten.adaptive_avg_pool2d", "aten.adaptive_avg_pool3d", "aten.adaptive_max_pool2d",
    "aten.adaptive_max_pool3d", "aten.adaptive_max_pool1d", ok=_uniform)  # fmt: skip
def lower_adaptive_pool(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Adaptive pooling with equal windows."""
    source: Any = node.args[0]
    n = _count(node)
    pairs = zip(shape_of(source)[-n:], shape_of(_pooled(node))[-n:], strict=True)
    size = [a // b for a, b in pairs]
    inner, over = _windows(low, node, index, (size, size, [0] * n, [1] * n))
    value = low.pull(source, inner)
    if "max" in str(node.target):
        return low.build.reduce("max", over, value, value.dtype)
    total = low.build.reduce("sum", over, value, value.dtype)
    return low.build.map("div", total, low.build.const(math.prod(size), value.dtype))
