"""Element-wise operators: type promotion made explicit, then one function of the algebra."""

from __future__ import annotations

from typing import Any

from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND as KIND
from torch._prims_common import elementwise_dtypes
from torch.fx import Node

from epitaxy.proposers.grower.algebra import Const, Map, Value
from epitaxy.proposers.grower.axes import Ix
from epitaxy.proposers.grower.lower_core import (
    OPS,
    Index,
    Lowering,
    Op,
    dtype_of,
    op,
    shape_of,
    working,
)

_SAME = [
    "add", "sub", "mul", "maximum", "minimum", "neg", "abs", "sign", "floor", "ceil",
    "trunc", "fmod", "remainder", "square", "relu", "eq", "ne", "lt", "le", "gt", "ge",
    "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_not", "bitwise_xor", "isnan", "isinf", "pow", "clamp_min", "clamp_max", "rsub",
    "round",
]  # fmt: skip
_FLOAT = [
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh",
    "sigmoid", "erf", "atan", "sinh", "cosh", "sqrt", "rsqrt", "reciprocal", "div",
    "true_divide", "erfc",
]  # fmt: skip
_ALIAS = {
    "logical_and": "and", "logical_or": "or", "logical_not": "not", "logical_xor": "ne",
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not", "bitwise_xor": "ne",
    "clamp_min": "maximum", "clamp_max": "minimum", "true_divide": "div",
}  # fmt: skip
_POWERS = {2: "xx", 3: "xxx", 4: "xxxx"}


def _name(node: Node) -> str:
    return str(node.target).split(".")[1]


def operand_index(node: Any, shape: tuple[int, ...], index: Index) -> Index:
    """`index` into a result of `shape`, as an index into an operand that broadcasts to it."""
    own = shape_of(node)
    tail = index[len(index) - len(own) :]
    return tuple(Ix() if n == 1 else ix for n, ix in zip(own, tail, strict=True))


def promoted(operands: list[Any], kind: KIND = KIND.DEFAULT) -> str:
    """The dtype that PyTorch computes in."""
    fakes = [o.meta["val"] if isinstance(o, Node) else o for o in operands]
    return working(
        str(elementwise_dtypes(*fakes, type_promotion_kind=kind)[0]).removeprefix("torch.")
    )


def _args(low: Lowering, node: Node, operands: list[Any], index: Index, dtype: str) -> list[Value]:
    shape = shape_of(node)
    return [low.as_dtype(o, operand_index(o, shape, index), dtype) for o in operands]


def _point_ok(node: Node) -> bool:
    name = _name(node)
    if name.startswith("bitwise"):
        return dtype_of(node) == "bool"
    if name == "round":
        return "decimals" not in node.kwargs
    if name == "div" and node.kwargs.get("rounding_mode") == "trunc":
        return dtype_of(node) in ("float32", "float16", "bfloat16")
    if name == "pow" and dtype_of(node) in ("int64", "int32", "int16", "int8", "uint8"):
        return node.args[1] in (1, 2, 3, 4)
    return True


def lower_point(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Any operator of the tables above."""
    name = _name(node)
    operands = list(node.args[:2])
    kind = KIND.INT_TO_FLOAT if name in _FLOAT else KIND.DEFAULT
    if name == "div" and node.kwargs.get("rounding_mode"):
        kind = KIND.DEFAULT
    dtype = promoted(operands, kind)
    if name.startswith("logical"):
        dtype = "bool"
    fn = _ALIAS.get(name, name)
    alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
    args = _args(low, node, operands, index, dtype)
    if name in ("add", "sub", "rsub") and alpha != 1:
        scaled = 0 if name == "rsub" else 1
        args[scaled] = low.build.map("mul", args[scaled], low.build.const(alpha, dtype))  # type: ignore[arg-type]
    return _special(low, node, fn, operands, args) or low.build.map(fn, *args)


def _special(
    low: Lowering, node: Node, fn: str, operands: list[Any], args: list[Value]
) -> Value | None:
    build = low.build
    x = args[0]
    if fn == "rsub":
        return build.map("sub", args[1], x)
    if fn == "square":
        return build.map("mul", x, x)
    if fn == "relu":
        return build.map("maximum", x, build.const(0, x.dtype))
    if fn == "erfc":
        return build.map("sub", build.const(1, x.dtype), build.map("erf", x))
    if fn == "tanh":
        return _tanh_of_softplus(low, x)
    if fn == "pow":
        return _power(low, operands[1], x)
    if fn == "div" and node.kwargs.get("rounding_mode") == "floor":
        return build.map("floordiv", *args)
    if fn == "div" and node.kwargs.get("rounding_mode") == "trunc":
        return build.map("trunc", build.map("div", *args))
    return None


_ONE = 20.0
"""From here on the hyperbolic tangent of the softplus is 1 in double precision too."""


def _tanh_of_softplus(low: Lowering, argument: Value) -> Value | None:
    """tanh(log(1 + e)) = n / (n + 2) with e = exp(x) and n = e (e + 2): one exponential in place of
    three functions, and no cancellation. None where `argument` is no softplus of x."""
    match argument:
        case Map("where", (Map("gt", (x, Const(limit))), like, Map("log1p", (inner,)))):
            pass
        case Map("log1p", (inner,)):
            x = like = inner.args[0] if isinstance(inner, Map) else inner
            limit = _ONE
        case _:
            return None
    if x != like or inner != Map("exp", (x,), x.dtype) or limit < _ONE:
        return None
    build = low.build
    two = build.const(2, x.dtype)
    e = build.map("exp", build.map("minimum", x, build.const(_ONE, x.dtype)))
    n = build.map("mul", e, build.map("add", e, two))
    return build.map("div", n, build.map("add", n, two))


def _power(low: Lowering, exponent: Any, x: Value) -> Value | None:
    """The exponents that PyTorch itself treats apart."""
    build = low.build
    if exponent in _POWERS:
        square = build.map("mul", x, x)
        if exponent == 2:
            return square
        return build.map("mul", square, x if exponent == 3 else square)
    if exponent == 1:
        return x
    if exponent in (0.5, -0.5, -1):
        return build.map({0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}[exponent], x)
    if exponent == -2:
        return build.map("reciprocal", build.map("mul", x, x))
    return None


for _each in (*_SAME, *_FLOAT):
    OPS[f"aten.{_each}"] = Op("point", lower_point, ok=_point_ok)


@op("point", "aten.max.other", "aten.min.other")
def lower_extremum(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """max(a, b) and min(a, b)."""
    dtype = promoted(list(node.args[:2]))
    fn = "maximum" if _name(node) == "max" else "minimum"
    return low.build.map(fn, *_args(low, node, list(node.args[:2]), index, dtype))


@op("point", "aten.clamp")
def lower_clamp(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """clamp: bounds may be numbers, tensors or absent; NaN stays NaN; the upper bound wins."""
    low_high = [*node.args[1:], None, None][:2]
    low_high = [low_high[0] if low_high[0] is not None else node.kwargs.get("min"),
                low_high[1] if low_high[1] is not None else node.kwargs.get("max")]  # fmt: skip
    dtype = promoted([o for o in (node.args[0], *low_high) if o is not None])
    value = _args(low, node, [node.args[0]], index, dtype)[0]
    for fn, bound in zip(("maximum", "minimum"), low_high, strict=True):
        if bound is not None:
            value = low.build.map(fn, value, _args(low, node, [bound], index, dtype)[0])
    return value


@op(
    "point",
    "aten.where.self",
    "aten.where.ScalarOther",
    "aten.where.ScalarSelf",
    "aten.where.Scalar",
)
def lower_where(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """where(condition, a, b)."""
    condition = _args(low, node, [node.args[0]], index, "bool")[0]
    dtype = working(dtype_of(node))
    return low.build.map("where", condition, *_args(low, node, list(node.args[1:3]), index, dtype))


@op("point", "aten.masked_fill")
def lower_masked_fill(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """masked_fill(x, mask, value)."""
    mask = _args(low, node, [node.args[1]], index, "bool")[0]
    dtype = working(dtype_of(node))
    value, x = _args(low, node, [node.args[2], node.args[0]], index, dtype)
    return low.build.map("where", mask, value, x)


@op("point", "aten._to_copy", "aten.to", "prims.convert_element_type", "aten.clone",
    "aten.alias", "aten.detach", "aten.lift_fresh_copy", "aten.contiguous",
    "aten._assert_tensor_metadata")  # fmt: skip
def lower_cast(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """Conversions and copies; rounding to a half happens where the region stores."""
    return low.as_dtype(node.args[0], index, working(dtype_of(node)))


@op("point", "aten.addcmul", "aten.addcdiv")
def lower_addc(low: Lowering, node: Node, index: Index, which: int) -> Value:
    """a + value * b (*|/) c."""
    dtype = promoted(list(node.args[:3]))
    a, b, c = _args(low, node, list(node.args[:3]), index, dtype)
    factor: Any = node.kwargs.get("value", 1)
    product = low.build.map("mul" if _name(node) == "addcmul" else "div", b, c)
    return low.build.map("add", a, low.build.map("mul", low.build.const(factor, dtype), product))
