"""Our own model of NKI on NumPy, for machines without AWS's simulator. Loaded in workers only.

It has the part of `nki.language` and `nki.isa` that the grower writes, with the semantics of the
public documentation (NKI API reference, nki.isa, v2.33): engines compute in float32 and round when
they write; a tile's first dimension is the partition; a fresh tile holds NaN. A limit is
enforced only where the chip's file gives it, and the message names it:

    partitions              of a tile in SBUF or PSUM
    sbuf_partition_bytes    all live tiles of one partition together
    psum_partition_bytes    the same for PSUM
    psum_bank_bytes         one tile in PSUM
    stationary_columns, moving_columns    of a product

`looked_at` runs a kernel on shapes alone, and counts. What runs at once on the chip runs in order
here.
"""

from __future__ import annotations

import json
import math
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

try:
    import ml_dtypes

    BRAIN = np.dtype(ml_dtypes.bfloat16)
except ImportError:  # a kernel that asks for it is refused then
    BRAIN = None

LIMITS: dict[str, float] = json.loads(os.environ.get("EPITAXY_NKI_LIMITS", "{}"))
COUNTS: dict[str, float] = {}
_dry = [False]
_live: dict[str, int] = {"sbuf": 0, "psum": 0}


class Illegal(ValueError):
    """What the chip could not do."""


def need(held: float, limit: str, what: str) -> None:
    """Raise Illegal where `held` is beyond the limit of that name, if it is known."""
    most = LIMITS.get(limit)
    if most is not None and held > most:
        raise Illegal(f"{what} takes {held:.0f}; the chip has {most:.0f} ({limit})")


def check(true: bool, what: str) -> None:
    """Raise Illegal unless true."""
    if not true:
        raise Illegal(what)


def count(name: str, amount: float = 1) -> None:
    """Add to a count."""
    COUNTS[name] = COUNTS.get(name, 0.0) + amount


class NkiTensor:
    """A tensor in HBM, SBUF or PSUM, or a view of one."""

    def __init__(self, data: Any, buffer: str, owner: Any = None) -> None:
        self.data, self.buffer, self._owner = data, buffer, owner

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension, the partition first on the chip."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> Any:
        """The dtype of its elements."""
        return self.data.dtype

    def __getitem__(self, index: Any) -> NkiTensor:
        index = index if isinstance(index, tuple) else (index,)
        for part, size in zip(index, self.shape, strict=False):
            end = part.stop if isinstance(part, slice) else part + 1
            check(end is None or end <= size, f"index {end} beyond {size} of {self.shape}")
        return NkiTensor(self.data[index], self.buffer, self)

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """The same elements in another shape; on the chip the partition stays."""
        if self.buffer != "hbm":
            check(shape[0] == self.shape[0], "reshape of the partition dimension")
        made = self.data.reshape(tuple(shape))
        check(_dry[0] or np.shares_memory(made, self.data), "reshape of a view with gaps")
        return NkiTensor(made, self.buffer, self)

    def permute(self, order: Sequence[int]) -> NkiTensor:
        """The dimensions in another order; on the chip the partition stays."""
        check(self.buffer == "hbm" or order[0] == 0, "permute of the partition dimension")
        return NkiTensor(self.data.transpose(tuple(order)), self.buffer, self)

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """A dimension of 1 repeated; the partition only of a tensor in HBM."""
        check(self.shape[dim] == 1, f"broadcast of a dimension of {self.shape[dim]}")
        check(self.buffer == "hbm" or dim > 0, "broadcast of the partition dimension")
        shape = (*self.shape[:dim], size, *self.shape[dim + 1 :])
        return NkiTensor(np.broadcast_to(self.data, shape), self.buffer, self)


class _Tile(NkiTensor):
    """A tile that counts as live until nothing refers to it."""

    def __init__(self, data: Any, buffer: str, held: int) -> None:
        super().__init__(data, buffer)
        self._held = held
        self.begun = False
        """Whether a product was summed into it."""
        _live[buffer] += held
        most = f"{buffer}_partition_bytes"
        COUNTS[most] = max(COUNTS.get(most, 0.0), _live[buffer])

    def __del__(self) -> None:
        _live[self.buffer] -= self._held


def ndarray(shape: Sequence[int], dtype: Any = np.float32, buffer: str = "sbuf") -> NkiTensor:
    """A new tensor, of NaN (or of a large number where it holds integers)."""
    check(dtype is not None, "bfloat16 needs the package ml_dtypes here")
    kind = np.dtype(dtype)
    fill = np.array(2**30 if kind.kind in "iu" and kind.itemsize == 4 else np.nan
                    if kind.kind not in "iub" else 99).astype(kind)  # fmt: skip
    data = np.broadcast_to(fill, shape) if _dry[0] else np.full(shape, fill, kind)
    if buffer == "hbm":
        return NkiTensor(data, buffer)
    held = math.prod(shape[1:]) * kind.itemsize
    need(shape[0], "partitions", f"a tile {tuple(shape)} in {buffer}")
    if buffer == "psum":
        need(held, "psum_bank_bytes", f"a tile {tuple(shape)} of {kind} in PSUM")
    need(_live[buffer] + held, f"{buffer}_partition_bytes", f"a partition with {tuple(shape)}")
    return _Tile(data, buffer, held)


def _same(dst: NkiTensor, *given: NkiTensor) -> None:
    for one in given:
        check(one.shape == dst.shape, f"shapes {one.shape} and {dst.shape} differ")


def _on_chip(*given: NkiTensor) -> None:
    check(all(x.buffer != "hbm" for x in given), "engines read and write SBUF and PSUM only")


def _put(dst: NkiTensor, made: Callable[[], Any]) -> None:
    if not _dry[0]:
        with np.errstate(all="ignore"):
            dst.data[...] = np.asarray(made()).astype(dst.dtype)


def _wide(x: NkiTensor) -> Any:
    return x.data.astype(np.float32) if x.data.dtype.kind not in "iub" else x.data


def dma_copy(dst: NkiTensor, src: NkiTensor) -> None:
    """Copy between HBM and SBUF."""
    _same(dst, src)
    check("psum" not in (dst.buffer, src.buffer), "DMA to or from PSUM")
    check(dst.dtype == src.dtype, f"DMA from {src.dtype} to {dst.dtype}")
    count("dma")
    count("bytes_moved", src.data.size * src.dtype.itemsize)
    _put(dst, lambda: src.data)


def _vector(dst: NkiTensor, *given: NkiTensor) -> None:
    _on_chip(dst, *given)
    count("vector_instructions")
    count("vector_elements", math.prod(dst.shape[1:]))


def tensor_tensor(dst: NkiTensor, data1: NkiTensor, data2: NkiTensor, op: Any) -> None:
    """dst = data1 <op> data2."""
    _same(dst, data1, data2)
    check(not data1.buffer == data2.buffer == "psum", "both operands in PSUM")
    _vector(dst, data1, data2)
    _put(dst, lambda: op(_wide(data1), _wide(data2)))


def tensor_scalar(
    dst: NkiTensor, data: NkiTensor, op0: Any, operand0: Any, reverse0: bool = False,
    op1: Any = None, operand1: Any = None,
) -> None:  # fmt: skip
    """dst = (data <op0> operand0) <op1> operand1; an operand is a number, or one per partition."""
    _same(dst, data)
    _vector(dst, data)

    def applied(value: Any, op: Any, operand: Any, reverse: bool) -> Any:
        other = operand
        if isinstance(operand, NkiTensor):
            other = _wide(operand).reshape(-1, *([1] * (value.ndim - 1)))
        other = np.float32(other) if isinstance(other, float) else other
        return op(other, value) if reverse else op(value, other)

    for operand in (operand0, operand1):
        if isinstance(operand, NkiTensor):
            _on_chip(operand)
            check(operand.shape == (data.shape[0], 1), f"operand of shape {operand.shape}")

    def made() -> Any:
        first = applied(_wide(data), op0, operand0, reverse0)
        return first if op1 is None else applied(first, op1, operand1, False)

    _put(dst, made)


def tensor_reduce(
    dst: NkiTensor, op: Any, data: NkiTensor, axis: Any, keepdims: bool = False
) -> None:
    """Fold the last free dimensions."""
    axes = tuple(sorted((axis,) if isinstance(axis, int) else axis))
    last = len(data.shape)
    check(axes == tuple(range(last - len(axes), last)) and axes[0] > 0,
          f"axes {axes} are not the last free ones")  # fmt: skip
    kept = data.shape[: axes[0]]
    check(dst.shape == ((*kept, *([1] * len(axes))) if keepdims else kept), "shape of the result")
    _on_chip(dst, data)
    count("vector_instructions")
    count("vector_elements", math.prod(data.shape[1:]))
    fold: Any = getattr(op, "reduce", None)
    check(fold is not None, "an operator that does not fold")
    _put(dst, lambda: fold(_wide(data), axis=axes, keepdims=keepdims))


def tensor_tensor_scan(
    dst: NkiTensor, data0: NkiTensor, data1: NkiTensor, initial: Any, op0: Any, op1: Any
) -> None:
    """dst[:, i] = (data0[:, i] <op0> dst[:, i - 1]) <op1> data1[:, i]; `initial` stands before the
    first: a number, or one per partition."""
    _same(dst, data0, data1)
    check(len(dst.shape) == 2, "a scan along more than one free dimension")
    check(not data0.buffer == data1.buffer == "psum", "both operands in PSUM")
    _vector(dst, data0, data1)

    def made() -> Any:
        held = _wide(initial)[:, 0] if isinstance(initial, NkiTensor) else np.float32(initial)
        left, right = _wide(data0), _wide(data1)
        result = np.empty(right.shape, np.float32)
        for i in range(right.shape[1]):
            result[:, i] = held = op1(op0(left[:, i], held), right[:, i])
        return result

    _put(dst, made)


def activation(
    dst: NkiTensor, op: Any, data: NkiTensor, bias: Any = None, scale: float = 1.0
) -> None:
    """dst = op(data * scale + bias), `bias` one per partition."""
    _same(dst, data)
    _on_chip(dst, data)
    count("scalar_instructions")
    count("scalar_elements", math.prod(dst.shape[1:]))

    def made() -> Any:
        value = _wide(data) * np.float32(scale)
        if bias is not None:
            value = value + _wide(bias).reshape(-1, *([1] * (value.ndim - 1)))
        return op(value)

    _put(dst, made)


def reciprocal(dst: NkiTensor, data: NkiTensor) -> None:
    """dst = 1 / data."""
    _same(dst, data)
    _vector(dst, data)
    _put(dst, lambda: np.float32(1) / _wide(data))


def tensor_copy(dst: NkiTensor, src: NkiTensor) -> None:
    """Copy on the chip, converting."""
    _same(dst, src)
    _vector(dst, src)
    _put(dst, lambda: src.data)


def memset(dst: NkiTensor, value: float) -> None:
    """Fill a tile."""
    _vector(dst)
    _put(dst, lambda: value)


def nc_matmul(dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor) -> None:
    """dst += stationary.T @ moving, in float32; the first product into a tile of PSUM sets it."""
    depth, rows = stationary.shape
    check(isinstance(dst, _Tile) and dst.buffer == "psum", "nc_matmul writes whole PSUM tiles only")
    check(stationary.buffer == moving.buffer == "sbuf", "operands of nc_matmul lie in SBUF")
    check(moving.shape[0] == depth, f"contraction of {depth} with {moving.shape[0]}")
    check(dst.shape == (rows, moving.shape[1]), "shape of the result")
    need(rows, "stationary_columns", "the stationary operand")
    need(moving.shape[1], "moving_columns", "the moving operand")
    count("matrix_instructions")
    count("macs", depth * rows * moving.shape[1])

    first = not getattr(dst, "begun", False)
    dst.begun = True  # type: ignore[attr-defined]

    def made() -> Any:
        product = _wide(stationary).T @ _wide(moving)
        return product if first else dst.data + product

    _put(dst, made)


def nc_transpose(dst: NkiTensor, data: NkiTensor) -> None:
    """dst = data.T by the tensor engine into PSUM, the free dimensions counting as one."""
    rows, columns = data.shape[0], math.prod(data.shape[1:])
    check((data.buffer, dst.buffer) == ("sbuf", "psum"), "nc_transpose goes from SBUF to PSUM")
    same = dst.shape == (columns, rows) and dst.dtype == data.dtype
    check(same, f"{dst.shape} {dst.dtype} of a transposed {data.shape} {data.dtype}")
    need(columns, "stationary_columns", "the transposed tile")
    count("matrix_instructions")
    count("macs", rows * rows * columns)
    _put(dst, lambda: data.data.reshape(rows, columns).T)


def affine_select(
    dst: NkiTensor, pattern: Sequence[Sequence[int]], offset: int, channel_multiplier: int,
    on_true_tile: NkiTensor, on_false_value: float, cmp_op: Any = np.equal,
) -> None:  # fmt: skip
    """dst = on_true_tile where offset + partition * channel_multiplier + the steps of `pattern`
    compares with 0, else on_false_value."""
    _same(dst, on_true_tile)
    _vector(dst, on_true_tile)
    whole = math.prod(n for _, n in pattern) == math.prod(dst.shape[1:])
    check(whole and len(pattern) <= 4, f"pattern {pattern}")
    steps = [(channel_multiplier, dst.shape[0]), *pattern]
    at: Any = offset + sum(np.ix_(*(np.arange(n) * step for step, n in steps)))
    _put(dst, lambda: np.where(cmp_op(at.reshape(dst.shape), 0), _wide(on_true_tile),
                               np.float32(on_false_value)))  # fmt: skip


def _sigmoid(x: Any) -> Any:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


def _erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.float32])(x)


def simulate(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """`kernel` as a function of NumPy arrays."""

    def call(*arrays: Any) -> Any:
        made = kernel(*(NkiTensor(a, "hbm") for a in arrays))
        return tuple(x.data for x in made) if isinstance(made, tuple) else made.data

    return call


def looked_at(kernel: Callable[..., Any], arrays: Sequence[Any]) -> tuple[dict[str, float], Any]:
    """Run `kernel` on the shapes of `arrays` alone: what it moves, holds and computes, and its
    results' shapes as arrays of zeros. Raises Illegal where it breaks a limit."""
    COUNTS.clear()
    _dry[0] = True
    try:
        made = simulate(kernel)(*(np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in arrays))
    finally:
        _dry[0] = False
    made = made if isinstance(made, tuple) else (made,)
    return dict(COUNTS), tuple(np.zeros(x.shape, x.dtype) for x in made)


LANGUAGE: dict[str, Any] = {
    "ndarray": ndarray, "sbuf": "sbuf", "psum": "psum", "shared_hbm": "hbm", "hbm": "hbm",
    "float32": np.float32, "float16": np.float16, "bfloat16": BRAIN, "int32": np.int32,
    "int8": np.int8, "uint8": np.uint8,
    "affine_range": range, "sequential_range": range, "static_range": range,
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal,
    "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "power": np.power, "copy": np.positive, "abs": np.abs,
    "exp": np.exp, "log": np.log, "sin": np.sin, "tanh": np.tanh, "sqrt": np.sqrt,
    "rsqrt": lambda x: np.float32(1) / np.sqrt(x), "square": np.square, "sign": np.sign,
    "sigmoid": _sigmoid, "erf": _erf, "relu": lambda x: np.maximum(x, 0),
}  # fmt: skip
INSTRUCTIONS = (dma_copy, tensor_tensor, tensor_scalar, tensor_reduce, tensor_tensor_scan,
                activation, reciprocal, tensor_copy, memset, nc_matmul, nc_transpose,
                affine_select)  # fmt: skip


def install() -> None:
    """Stand for `nki`, `nki.language` and `nki.isa` in this process."""
    nki, language, isa = (types.ModuleType(n) for n in ("nki", "nki.language", "nki.isa"))
    language.__dict__.update(LANGUAGE)
    isa.__dict__.update({f.__name__: f for f in INSTRUCTIONS})
    nki.__dict__.update(
        isa=isa, language=language, simulate=simulate, jit=lambda f=None, **_: f or (lambda g: g)
    )
    sys.modules.update({"nki": nki, "nki.language": language, "nki.isa": isa})


if os.environ.get("EPITAXY_NKI_MODEL") == "1":
    install()
