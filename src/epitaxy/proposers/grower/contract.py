"""Which sums of products are contractions, and how they fit the loops of gemm.h."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from epitaxy.proposers.grower.algebra import Affine, Axis, Load, Map, Reduce, Value, operands

LEAST_COLUMNS = 4
"""Narrower results are better summed along the contracted axis."""
NARROW = {
    "float32": ("float32", "bfloat16", "float16", "int8", "uint8"),
    "int32": ("int8", "uint8", "int16"),
}
"""Types of memory that contractions in each type read, converting as they go."""
FLOATS, INTEGERS, BRAINS, BYTES = range(4)
"""What is multiplied (dot.h): floats, pairs of integers, pairs of bfloat16 where the chip does,
four signed bytes where the chip does and else pairs of them."""
MOST_EXACT = 1 << 16
"""Products of 8-bit integers whose sum cannot leave 32 bits."""


@dataclass(frozen=True)
class Contraction:
    """sum over `inner` of left * right: `left` lacks the columns, `right` lacks the rows.

    Axes of a group are listed outermost first and count as one dimension.
    """

    total: Reduce
    left: Value
    right: Value
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    fetched: bool = False
    """The right operand has no strides: it is read vector by vector as it is packed (an image)."""

    @property
    def result(self) -> tuple[Axis, ...]:
        """Axes of the result: batch, rows, columns."""
        return (*self.batch, *self.rows, *self.columns)

    @property
    def work(self) -> int:
        """Multiplications and additions."""
        return 2 * size_of(self.result) * size_of(self.inner)

    @property
    def turned(self) -> Contraction:
        """The same sums with rows and columns, left and right in each other's place."""
        return replace(self, left=self.right, right=self.left, rows=self.columns, columns=self.rows)


def size_of(axes: Iterable[Axis]) -> int:
    """The product of the axes' sizes."""
    return math.prod(a.size for a in axes)


def recognise(value: Value, order: Sequence[Axis]) -> Contraction | None:
    """`value` as a contraction whose last column is the last axis of `order`; None when it is none.

    `order` lists the result's axes outermost first.
    """
    if not isinstance(value, Reduce) or value.kind != "sum" or value.dtype not in NARROW:
        return None
    product = value.arg
    if not isinstance(product, Map) or product.fn != "mul" or product.dtype != value.dtype:
        return None
    left, right = product.args
    if value.dtype == "int32" and not (_narrow(left) and _narrow(right)):
        return None
    over = set(value.over)
    if not (over <= left.axes and over <= right.axes) or set(order) != set(value.axes):
        return None
    own = [a for a in order if a not in left.axes or a not in right.axes]
    if own and own[-1] in left.axes:
        left, right = right, left
    batch = tuple(a for a in order if a in left.axes and a in right.axes)
    rows = tuple(a for a in order if a not in right.axes)
    columns = tuple(a for a in order if a not in left.axes)
    if size_of(columns) < LEAST_COLUMNS:
        return None
    thin = plain(left, (value.over,)) and plain(right, (value.over, columns))
    if not rows and not thin:
        return None
    return Contraction(value, left, right, batch, rows, columns, value.over)


def _narrow(value: Value) -> bool:
    """Whether an operand in int32 comes from smaller integers."""
    cast = isinstance(value, Map) and value.fn == "cast"
    return cast and operands(value)[0].dtype in NARROW["int32"]


def step(index: Affine, axes: Sequence[Axis]) -> int | None:
    """The stride of `axes` counted as one dimension; None when there is no single one."""
    if not axes:
        return 0
    stride = index.coefficient(axes[-1])
    reach = stride
    for axis in reversed(axes):
        if index.coefficient(axis) != reach:
            return None
        reach *= axis.size
    return stride


def memory(value: Value) -> Load | None:
    """The memory that `value` is, but for a conversion to the type that is computed in."""
    dtype = value.dtype
    if isinstance(value, Map) and value.fn == "cast":
        value = value.args[0]
    if not isinstance(value, Load) or value.dtype not in NARROW.get(dtype, ()):
        return None
    return None if value.indirect or value.guards else value


def plain(value: Value, groups: Iterable[Sequence[Axis]]) -> bool:
    """Whether `value` is memory with one stride for each group of axes."""
    load = memory(value)
    return load is not None and all(step(load.index, axes) is not None for axes in groups)


def load_of(value: Value) -> Load:
    """The memory of `value`, which is known to be some, converted or not."""
    load = memory(value)
    assert load is not None
    return load


def multiplied(what: Contraction) -> int:
    """What the loops multiply. Sums of products of small integers are exact in integers, and
    faster, also where they are wanted as floats."""
    loads = [memory(what.left), memory(what.right)]
    types = {load.dtype if load else "" for load in loads}
    if types == {"int8"} and (what.total.dtype == "int32" or size_of(what.inner) <= MOST_EXACT):
        return BYTES
    if what.total.dtype == "int32":
        return INTEGERS
    if types <= {"int8", "uint8"} and size_of(what.inner) <= MOST_EXACT:
        return INTEGERS
    return BRAINS if types == {"bfloat16"} else FLOATS


def windowed(what: Contraction) -> bool:
    """Whether `what` is a convolution: weights from memory, and one load from an image that moves
    on by pixels along the last column."""
    left, right = what.left, what.right
    if not isinstance(left, Load) or left.dtype != "float32" or left.indirect:
        return False
    if not isinstance(right, Load) or right.dtype != "float32" or right.indirect:
        return False
    across = what.columns[-1]
    along = [g for g in right.guards if g.index.coefficient(across)]
    moves = right.index.coefficient(across) >= 1 and len(along) <= 1
    return moves and not plain(right, (what.inner, what.columns))


def reaches(root: Value, wanted: Value, closed: Value | None = None) -> bool:
    """Whether `wanted` can be reached from `root` without passing through `closed`."""
    goal, seen = {wanted}, {closed}
    stack = [root]
    while stack:
        value = stack.pop()
        if value in goal:
            return value not in seen
        if value in seen:
            continue
        seen.add(value)
        stack.extend(operands(value))
    return False
