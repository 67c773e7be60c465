"""The frames that broker and worker exchange, and the layout of the memory they share.

A frame is one datagram: operation (1 byte), sequence number (4 bytes), payload. The worker's
answer repeats the sequence number. What a worker sends is bytes and text, never unpickled.
"""

from __future__ import annotations

import enum
import json
import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_HEAD = struct.Struct("<BI")
MAX_FRAME = 60_000
"""Bytes; far below any default socket buffer. Larger things cross in shared memory."""


class Op(enum.IntEnum):
    """What a frame asks for, or answers."""

    PREPARE = 1
    EXTRAS = 2
    ARM = 3
    GO = 4
    OUTPUTS = 5
    WITNESS = 6
    STORED = 7
    USED = 8
    IDLE = 9
    BRING = 10
    HELLO = 16
    DONE = 17
    FAIL = 18


def pack(op: Op, sequence: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(op, sequence) + payload


def unpack(frame: bytes) -> tuple[int, int, bytes]:
    """Operation, sequence number and payload; raises ValueError on a frame that is none."""
    if len(frame) < _HEAD.size:
        raise ValueError("a frame is too short")
    op, sequence = _HEAD.unpack_from(frame)
    return op, sequence, frame[_HEAD.size :]


@dataclass(frozen=True)
class Place:
    """One tensor in the shared memory: offset in bytes, dtype (PyTorch's name), shape."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Input slots, then `sets` areas for outputs. Non-tensor inputs stand as None.

    `outputs` is the first area; each further one lies `stride` bytes on.
    """

    slots: tuple[tuple[Place | None, ...], ...]
    outputs: tuple[Place, ...]
    outputs_at: int
    bytes: int
    sets: int = 1
    stride: int = 0

    def outputs_of(self, number: int) -> tuple[Place, ...]:
        """The places of one area for outputs."""
        return tuple(Place(p.offset + number * self.stride, p.dtype, p.shape) for p in self.outputs)

    def to_json(self) -> str:
        """Text that `from_json` reads."""

        def plain(places: Sequence[Place | None]) -> list[list[object] | None]:
            return [None if p is None else [p.offset, p.dtype, list(p.shape)] for p in places]

        slots = [plain(s) for s in self.slots]
        rest = [self.outputs_at, self.bytes, self.sets, self.stride]
        return json.dumps([slots, plain(self.outputs), *rest])

    @staticmethod
    def from_json(text: str) -> Layout:
        """The layout that `to_json` wrote."""
        slots, outputs, *rest = json.loads(text)

        def place(p: list[object] | None) -> Place | None:
            return p and Place(p[0], p[1], tuple(p[2]))  # type: ignore[return-value,arg-type]

        return Layout(
            tuple(tuple(place(p) for p in s) for s in slots),
            tuple(place(p) for p in outputs),  # type: ignore[misc]
            *rest,
        )


def aligned(offset: int, unit: int = mmap.PAGESIZE) -> int:
    """`offset` rounded up to a multiple of `unit`."""
    return -(-offset // unit) * unit
