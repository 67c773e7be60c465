"""The piece of an image that a block of a convolution's results reads, copied with its padding.

A block is some rows of some pixels; along every other direction it is one element. Along a side of
the image (`image.Side`) the copy holds the elements that the block's pixels and all elements of the
window meet, zeros where the image has nothing; channels lie in planes of their own.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from epitaxy.proposers.grower.algebra import Affine, Axis, Load
from epitaxy.proposers.grower.contract import Contraction
from epitaxy.proposers.grower.emit_expr import indent
from epitaxy.proposers.grower.image import LINE, Side, sides_of

ASKED = 8 * LINE
"""Elements that are asked for together."""


@dataclass(frozen=True)
class Patch:
    """`index` of an element that is read, within a copy of planes of rows of `pitch` elements, by
    the pixel and row within the block and the steps of the sum. The last of `sides` runs along
    rows; `plain` are axes of the sum with planes of their own."""

    load: Load
    plain: tuple[Axis, ...]
    sides: tuple[Side, ...]
    index: Affine
    planes: int
    plane: int
    pitch: int

    @property
    def floats(self) -> int:
        """Elements of the copy."""
        return self.planes * self.plane


def patch_of(what: Contraction, rows: int, pixels: int) -> Patch | None:
    """The copy for blocks of `rows` rows of `pixels` pixels; None where the right operand is not
    read like an image."""
    load, across = what.right, what.columns[-1]
    sides = sides_of(what, across)
    if not isinstance(load, Load) or sides is None:
        return None
    last = next(s for s in sides if across in dict(s.terms))
    down = what.columns[-2:-1]
    for axis in down:
        stride = load.index.coefficient(axis)
        if stride and not any(axis in dict(s.terms) for s in sides):
            sides = [*sides, Side(((axis, 1),), 0, axis.size, axis.size, stride)]
    extents = {a: a.size for a in what.inner} | dict.fromkeys(down, rows) | {across: pixels}
    cut = [_within(s, extents) for s in sides]
    others = sorted((s for s, o in zip(cut, sides, strict=True) if o != last), key=_stride)
    last = _within(last, extents)
    pitch = stride = -(-max(last.length, LINE) // 8) * 8
    terms = [(a, c) for a, c in last.terms if a in extents]
    for side in others:
        terms += [(a, c * stride) for a, c in side.terms if a in extents]
        stride *= side.length
    plane = stride = (-(-stride // LINE) | 1) * LINE
    inside = {a for s in sides for a, _ in s.terms}
    plain = tuple(a for a in what.inner if a not in inside)
    planes = 1
    for axis in reversed(plain):
        terms.append((axis, stride))
        stride, planes = stride * axis.size, planes * axis.size
    if stride > 2**31 - 1:
        return None
    index = Affine(0, tuple(terms))
    return Patch(load, plain, (*reversed(others), last), index, planes, plane, pitch)


def _stride(side: Side) -> int:
    return side.stride


def _within(side: Side, extents: dict[Axis, int]) -> Side:
    """The side of a block of these extents."""
    return replace(side, length=1 + sum(c * (extents.get(a, 1) - 1) for a, c in side.terms))


def rows_below(patch: Patch) -> int:
    """Rows of one plane."""
    rows = 1
    for side in patch.sides[:-1]:
        rows *= side.length
    return rows


def copy_lines(
    patch: Patch, lanes: int, source: str, start: Collection[tuple[Axis, str]]
) -> list[str]:
    """C++ that fills the copy at `to` from the image of which the block's first element is at
    `source`; `start` are the places of axes at the block's first result."""
    *sides, last = patch.sides
    rows, places = rows_below(patch), dict(start)
    parts, inside = ["from"], []

    def first(side: Side) -> str:
        terms = [f"{places[a]} * {c}" for a, c in side.terms if a in places]
        return " + ".join([str(side.first), *terms])

    for i, side in enumerate(sides):
        inside.append(f"epx::within(first{i} + u{i}, {side.size})")
    row = f"epx::lay_row<{lanes}, {patch.pitch}>"
    end, there = len(sides), " && ".join(inside) or "true"
    loops = [(f"p{i}", a.size, patch.load.index.coefficient(a)) for i, a in enumerate(patch.plain)]
    loops += [(f"u{i}", s.length, s.stride) for i, s in enumerate(sides)]
    parts += [f"{name} * {step}" for name, _, step in loops]
    ahead = patch.load.index.coefficient(patch.plain[-1]) if patch.plain else 0
    body = [
        f"const bool there = {there};",
        *([f"epx::row_ahead<{last.length}>({' + '.join([*parts, str(ahead)])});"] if ahead else []),
        f"{row}(to, {' + '.join(parts)}, there ? lo : 0, there ? hi : 0);",
        f"to += {patch.pitch};",
    ]
    for name, length, _ in reversed(loops[len(patch.plain) :]):
        body = looped(name, length, body)
    body.append(f"to += {patch.plane - rows * patch.pitch};")
    for name, length, _ in reversed(loops[: len(patch.plain)]):
        body = looped(name, length, body)
    return [
        f"const float* const from = {source};",
        *(f"const int64_t first{i} = {first(s)};" for i, s in enumerate(patch.sides)),
        f"const int64_t lo = epx::least({last.length}, first{end} < 0 ? -first{end} : 0);",
        f"const int64_t hi = epx::least({last.length}, {last.size} - first{end});",
        *body,
    ]


@dataclass(frozen=True)
class Runs:
    """The memory that a copy is made from, as pieces that lie in a row: (how many, elements apart)
    along each direction, and `length` elements of each piece."""

    loops: tuple[tuple[int, int], ...]
    length: int

    @property
    def asks(self) -> int:
        """Pieces of at most ASKED elements that are asked for one by one."""
        return -(-self.length // ASKED) * math.prod(n for n, _ in self.loops)


def runs_of(patch: Patch) -> Runs:
    """What the copy of a block that touches no border reads."""
    *sides, last = patch.sides
    loops = [(a.size, patch.load.index.coefficient(a)) for a in patch.plain]
    loops += [(s.length, s.stride) for s in sides]
    length = min(last.length, last.size)
    while loops and 0 < loops[-1][1] <= length:
        count, apart = loops.pop()
        length += (count - 1) * apart
    return Runs(tuple(loops), length)


def elements(patch: Patch) -> int:
    """Elements of the whole image, each counted once."""
    inside = {a for s in patch.sides for a, _ in s.terms}
    return math.prod(a.size for a, _ in patch.load.index.terms if a not in inside) * math.prod(
        s.size for s in patch.sides
    )


def ask_lines(patch: Patch, source: str) -> list[str]:
    """C++ that asks for the q-th few lines of what the block at `source` is copied from."""
    runs = runs_of(patch)
    each, parts = -(-runs.length // ASKED), [source]
    apart = each
    for length, step in reversed(runs.loops):
        parts.append(f"q / {apart} % {length} * {step}")
        apart *= length
    start = f"q % {each} * {ASKED}"
    rest = f"epx::least({ASKED}, {runs.length} - {start})"
    return [f"epx::lines_later({' + '.join([*parts, start])}, {rest});"]


def looped(name: str, length: int, body: list[str]) -> list[str]:
    """`body` for each `name` below `length`."""
    return [f"for (int64_t {name} = 0; {name} < {length}; ++{name}) {{", *indent(body), "}"]
