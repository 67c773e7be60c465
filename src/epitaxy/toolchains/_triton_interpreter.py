"""Triton's own interpreter, repaired where it is known to be wrong. Loaded in workers only.

Triton 3.9 interprets a kernel with NumPy, one program after another. As it comes

* arithmetic on bfloat16 works on the bit patterns, and float32 is truncated to it, not rounded;
* products of float32 ignore `input_precision`: tensor cores would round the operands;
* running sums are added up in a row, where a chip adds lanes as a tree;
* nothing checks an address.

Here bfloat16 is computed in float32 and rounded to the nearest even after every operation, operands
of `tl.dot` are rounded as asked for, and every lane of a load or store must lie within the tensors
that the launch was given. What runs at once on a chip runs in order here: races between programs
are not seen.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import triton
import triton.language as tl
from triton.runtime import interpreter

triton.knobs.runtime.interpret = True
_Handle = interpreter.TensorHandle
_Builder = interpreter.InterpreterBuilder
LANE_ELEMENTS = 16
"""Elements that one lane of a compiled scan adds up by itself, at most."""
TF32_DROPPED_BITS = 13
"""Of float32's 23 fraction bits tensor cores keep 10 (NVIDIA, PTX ISA, `.tf32`)."""


def _brain(handle: Any) -> bool:
    return isinstance(handle, _Handle) and handle.dtype.scalar == tl.bfloat16


def wide(handle: Any) -> Any:
    """A bfloat16 handle as float32; any other as it is."""
    if not _brain(handle):
        return handle
    bits = np.ascontiguousarray(handle.data).view(np.uint16).astype(np.uint32) << 16
    return _Handle(bits.view(np.float32), tl.float32)


def narrow(handle: Any) -> Any:
    """A float32 handle as bfloat16, rounded to the nearest, ties to even."""
    data = np.ascontiguousarray(handle.data, np.float32)
    bits = data.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return _Handle(np.where(np.isnan(data), 0x7FC0, rounded).astype(np.uint16), tl.bfloat16)


def rounded(data: Any, dropped: int = TF32_DROPPED_BITS) -> Any:
    """float32 `data` with its last bits rounded away, as an operand of a tensor core."""
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    half = np.uint32(1 << (dropped - 1))
    kept = ((bits + half) >> np.uint32(dropped)) << np.uint32(dropped)
    return np.where(np.isfinite(data), kept.view(np.float32), data)


def _computed_wide(name: str) -> None:
    original = getattr(_Builder, name)

    def operation(self: Any, *args: Any) -> Any:
        if not any(map(_brain, args)):
            return original(self, *args)
        result = original(self, *map(wide, args))
        return narrow(result) if result.data.dtype == np.float32 else result

    setattr(_Builder, name, operation)


def _products() -> None:
    original = _Builder.create_dot

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, *rest: Any) -> Any:
        a, b = wide(a), wide(b)
        if a.dtype.scalar == tl.float32 and b.dtype.scalar == tl.float32:
            name = str(getattr(precision, "name", precision)).lower()
            if name == "tf32":
                a, b = (_Handle(rounded(x.data), tl.float32) for x in (a, b))
            elif name not in ("ieee", "tf32x3"):  # three products of halves keep all but 2 bits
                raise NotImplementedError(f"input_precision {name!r} is not known here")
        return original(self, a, b, d, precision, *rest)

    _Builder.create_dot = create_dot


def _casts() -> None:
    cast, convert = _Builder.cast_impl, _Builder.create_fp_to_fp

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        source = wide(source)
        if target.scalar == tl.bfloat16:
            single = source.data.dtype == np.float32
            return narrow(source if single else cast(self, source, tl.float32))
        # Comparisons leave truth values under the type of what was compared.
        kept = source.dtype.scalar == target.scalar and source.data.dtype != np.bool_
        return source if kept else cast(self, source, target)

    def create_fp_to_fp(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        kinds = (source.dtype.scalar, target.scalar)
        if tl.bfloat16 in kinds and all(k.primitive_bitwidth >= 16 for k in kinds):
            return cast_impl(self, source, target)
        return convert(self, source, target, rounding)

    _Builder.cast_impl = cast_impl
    _Builder.create_fp_to_fp = create_fp_to_fp


def _folds() -> None:
    """Sums, extremes and scans of bfloat16, which add up bit patterns as they come."""
    for kind in (interpreter.ReduceOps, interpreter.ScanOps):
        original: Callable[..., Any] = kind.apply_impl

        def apply_impl(self: Any, given: Any, original: Callable[..., Any] = original) -> Any:
            if not any(x.dtype.scalar == tl.bfloat16 for x in given):
                return original(self, given)
            made = original(self, tuple(tl.tensor(wide(x.handle), tl.float32) for x in given))
            several = isinstance(made, tuple | list)
            back = [_as_brain(x) for x in (made if several else [made])]
            return tuple(back) if several else back[0]

        kind.apply_impl = apply_impl


def running_sum(data: Any, axis: int) -> Any:
    """Running sums in the order of a compiled scan: a lane's own elements one after another, then
    the lanes as a tree. NumPy adds all in a row, which errs by more than any chip."""
    moved = np.moveaxis(data, axis, -1)
    count = moved.shape[-1]
    own = math.gcd(count, LANE_ELEMENTS)
    inner = np.cumsum(moved.reshape(*moved.shape[:-1], count // own, own), -1, dtype=data.dtype)
    before = np.roll(inner[..., -1], 1, axis=-1)
    before[..., 0] = 0
    step = 1
    while step < before.shape[-1]:
        before[..., step:] = before[..., step:] + before[..., :-step].copy()
        step *= 2
    summed = (inner + before[..., None]).reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(summed, -1, axis))


def _scans() -> None:
    def cumsum(self: Any, given: Any) -> Any:
        return [self.to_tensor(running_sum(given.handle.data, self.axis), dtype=given.dtype)]

    interpreter.ScanOps.cumsum = cumsum


def _as_brain(value: Any) -> Any:
    if value.dtype.scalar != tl.float32:
        return value
    handle = narrow(value.handle)
    kind = tl.block_type(tl.bfloat16, list(value.shape)) if value.shape else tl.bfloat16
    return tl.tensor(handle, kind)


class Fence:
    """The interpreter's memory, with every address checked against the tensors of the launch."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._first = np.zeros(0, np.uint64)
        self._end = np.zeros(0, np.uint64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def around(self, tensors: Iterable[Any]) -> None:
        """Allow the memory of `tensors`, and no other."""
        spans = sorted({(t.data_ptr(), t.data_ptr() + _extent(t)) for t in tensors})
        self._first = np.array([a for a, _ in spans], np.uint64)
        self._end = np.array([b for _, b in spans], np.uint64)

    def load(self, pointers: Any, mask: Any, other: Any, dtype: Any) -> Any:
        """Load within the fence."""
        self._check(pointers, mask, np.dtype(dtype).itemsize, "load")
        return self._memory.load(pointers, mask, other, dtype)

    def store(self, pointers: Any, value: Any, mask: Any) -> Any:
        """Store within the fence."""
        self._check(pointers, mask, value.dtype.itemsize, "store")
        return self._memory.store(pointers, value, mask)

    def _check(self, pointers: Any, mask: Any, size: int, what: str) -> None:
        allowed = np.broadcast_to(mask, pointers.shape)
        used = pointers if allowed.all() else pointers[allowed]
        if not used.size:
            return
        low, high = np.uint64(used.min()), np.uint64(used.max())
        place = int(np.searchsorted(self._first, low, side="right")) - 1
        if place >= 0 and high + np.uint64(size) <= self._end[place]:
            return
        used = used.astype(np.uint64).ravel()
        places = np.searchsorted(self._first, used, side="right").astype(int) - 1
        inside = (places >= 0) & (used + np.uint64(size) <= self._end[places])
        if not inside.all():
            count = int((~inside).sum())
            raise IndexError(f"{what}: {count} of {used.size} lanes lie outside the tensors")


def _extent(tensor: Any) -> int:
    """Bytes from a tensor's first element to its last's end."""
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int((last + 1) * tensor.element_size()) if tensor.numel() else 0


def _fenced() -> None:
    fence = Fence(interpreter._interpreter)
    interpreter._interpreter = fence
    launch = interpreter.GridExecutor.__call__
    patch, patched = interpreter._patch_lang, set()

    def patch_once(fn: Any) -> Any:
        """Every call of `tl.sum` and the like would patch the whole language once more."""
        key = tuple(k for k, v in fn.__globals__.items() if v is tl or v is tl.core)
        if key and key in patched:
            return interpreter._LangPatchScope()
        patched.add(key)
        return patch(fn)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [x for x in (*args, *kwargs.values()) if hasattr(x, "data_ptr")]
        fence.around(given)
        patched.clear()
        return launch(self, *args, **kwargs)

    interpreter.GridExecutor.__call__ = call
    if hasattr(interpreter, "_LangPatchScope"):
        interpreter._patch_lang = patch_once


for _name in ("binary_op", "unary_op", "create_fma"):
    _computed_wide(_name)
_products()
_casts()
_scans()
_folds()
_fenced()
