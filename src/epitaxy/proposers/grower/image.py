"""A padded copy of an image, from which a convolution reads whole vectors without looking at edges.

Along every guarded dimension d an element of the image is read at u_d + first_d, where
u_d = step_d * pixel + gap_d * window is never negative. The copy holds every u_d; where the image
has nothing it holds zeros. Where pixels step over `phases` elements of a row, the copy holds those
of each phase, u % phases, side by side: vectors of pixels are whole again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from epitaxy.proposers.grower.algebra import Affine, Axis, Guard, Load
from epitaxy.proposers.grower.contract import Contraction, size_of

LINE = 16
"""Elements of a cache line. Planes are an odd number of lines apart: the same pixel of all channels
would share few sets of the first cache otherwise."""


MISSED, LEAST_STEPS = 0.04, 64
"""Share of a direction's taps that lie outside the image, from which they are left out, and steps
of the sum that fall away together: partial sums wait in memory in between."""
FAR = 4
"""Elements that neighbouring pixels, or elements of a window, are apart at most."""


@dataclass(frozen=True)
class Side:
    """One guarded dimension: `size` elements, of which the copy holds `length` from `first` on."""

    terms: tuple[tuple[Axis, int], ...]
    first: int
    size: int
    length: int
    stride: int
    """Elements of the image from one to the next."""


@dataclass(frozen=True)
class Image:
    """What a direct convolution reads: `index` into a copy of planes of `rows` rows of `pitch`
    elements each, `plane` elements apart, or into the image itself where `planes` is 0."""

    load: Load
    plain: tuple[tuple[Axis, int], ...]
    sides: tuple[Side, ...]
    index: Affine
    planes: int
    plane: int
    rows: int
    pitch: int
    phases: int = 1
    phase: int = 0
    """Elements of a row of one phase."""
    windows: tuple[tuple[Axis, int], ...] = ()
    """The windows' part of u along a row of several phases, which `index` leaves out."""


def image_of(what: Contraction, lanes: int) -> Image | None:
    """How `what` can read its right operand directly; None when it has to be packed."""
    load, across = what.right, what.columns[-1]
    if not isinstance(load, Load) or load.index.coefficient(across) < 1:
        return None
    if load.guards and load.fill != 0.0:
        return None  # copies hold zeros outside
    phases = load.index.coefficient(across)
    absent = lacking(what)
    guards = [g for g in load.guards if g not in absent]
    if not guards:
        if across.size % lanes == 0 and phases == 1:
            return Image(load, (), (), load.index, 0, 0, 0, 0)
        sides = _unguarded(what.columns, load, what.inner)
    else:
        sides = [_side(load, guard.index, guard.size) for guard in guards]
    last = next((s for s in sides if s is not None and across in dict(s.terms)), None)
    if last is None or None in sides or last.stride != 1:
        return None
    others = sorted((s for s in sides if s is not None and s != last), key=lambda s: -s.stride)
    inside = {a for s in (*others, last) for a, _ in s.terms}
    if len(inside) != sum(len(s.terms) for s in (*others, last)):
        return None
    plain = sorted(((a, c) for a, c in load.index.terms if a not in inside), key=lambda t: -t[1])
    windows = tuple((a, c) for a, c in last.terms if a != across)
    if phases > 1 and not {a for a, _ in windows} <= set(what.inner):
        return None
    reach = -(-across.size // lanes) * lanes - across.size
    phase = -(-(-(-last.length // phases) + reach) // 8) * 8
    pitch = phase * phases
    terms, stride = list(last.terms) if phases == 1 else [(across, 1)], pitch
    for side in reversed(others):
        terms += [(a, c * stride) for a, c in side.terms]
        stride *= side.length
    rows, planes = stride // pitch, 1
    plane = stride = (-(-stride // LINE) | 1) * LINE
    for axis, _ in reversed(plain):
        terms.append((axis, stride))
        stride, planes = stride * axis.size, planes * axis.size
    if stride > 2**31 - 1:
        return None
    index = Affine(0, tuple(terms))
    made = Image(load, tuple(plain), (*others, last), index, planes, plane, rows, pitch)
    return made if phases == 1 else replace(made, phases=phases, phase=phase, windows=windows)


def sides_of(what: Contraction, across: Axis) -> list[Side] | None:
    """Every direction of the image along which windows move, with or without guards; that of
    `across` is among them, one element after the other. None where it is read in another way."""
    load = what.right
    if not isinstance(load, Load) or load.index.coefficient(across) < 1:
        return None
    if load.guards and load.fill != 0.0:
        return None
    absent = lacking(what)
    guarded = [_side(load, g.index, g.size) for g in load.guards if g not in absent]
    known = {a for s in guarded if s is not None for a, _ in s.terms}
    windows, pixels = ([a for a in axes if a not in known] for axes in (what.inner, what.columns))
    sides = [*guarded, *_unguarded(pixels, load, windows)]
    found = [s for s in sides if s is not None]
    if len(found) < len(sides):
        return None
    if not any(across in dict(s.terms) for s in found):
        step = load.index.coefficient(across)
        length = step * (across.size - 1) + 1
        found.append(Side(((across, step),), 0, length, length, 1))
    axes = [a for s in found for a, _ in s.terms]
    along = next(s for s in found if across in dict(s.terms))
    return found if len(set(axes)) == len(axes) and along.stride == 1 else None


def lacking(what: Contraction) -> tuple[Guard, ...]:
    """The guards that say which taps there are in each of the batches: phases of a stride.

    Only those without which nothing else is read: other guards, of pixels, keep all that moves with
    taps and phases inside the image.
    """
    load = what.right
    if not isinstance(load, Load) or load.fill != 0.0:
        return ()
    batch, inner = set(what.batch), set(what.inner)
    spoken = {g: {a for a, _ in g.index.terms} for g in load.guards}
    bounded = {a for own in spoken.values() if own & set(what.columns) for a in own}

    def taps(own: set[Axis]) -> bool:
        moving = {a for a in own if load.index.coefficient(a)}
        both = bool(own & batch) and bool(own & inner)
        return both and own <= batch | inner and moving <= bounded

    return tuple(g for g, own in spoken.items() if taps(own))


def edges(what: Contraction) -> tuple[Guard, ...]:
    """The guards that say which taps a row of pixels has, where many lie outside the image for the
    rows near its edges, and whole stretches of the sum fall away with them."""
    load, across = what.right, what.columns[-1]
    if not isinstance(load, Load) or load.fill != 0.0 or lacking(what):
        return ()
    pixels, inner = set(what.columns), set(what.inner)
    spoken = {g: {a for a, _ in g.index.terms} for g in load.guards}
    rows = [g for g, own in spoken.items() if own <= pixels | inner and across not in own]
    found = tuple(g for g in rows if spoken[g] & inner and missed(g) >= MISSED)
    return found if size_of(whole_steps(what, found)) >= LEAST_STEPS else ()


def missed(guard: Guard) -> float:
    """The share of its places at which `guard` says no."""
    places = [guard.index.offset]
    for axis, c in guard.index.terms:
        places = [p + c * k for p in places for k in range(axis.size)]
    return sum(not 0 <= p < guard.size for p in places) / len(places)


def whole_steps(what: Contraction, absent: Iterable[Guard]) -> tuple[Axis, ...]:
    """The innermost axes of the sum of which all steps are there or none, as far as the guards
    `absent` say which."""
    spoken = {a for g in absent for a, _ in g.index.terms}
    count = next((n for n, a in enumerate(reversed(what.inner)) if a in spoken), len(what.inner))
    return what.inner[len(what.inner) - count :]


def _side(load: Load, index: Affine, size: int) -> Side | None:
    """The dimension that a guard speaks of; None when it is not a plain one."""
    strides = set()
    for axis, c in index.terms:
        of = load.index.coefficient(axis)
        if c <= 0 or of % c:
            return None
        strides.add(of // c)
    if len(strides) != 1:
        return None
    length = 1 + sum(c * (a.size - 1) for a, c in index.terms)
    return Side(index.terms, index.offset, size, length, strides.pop())


def _unguarded(pixels: Sequence[Axis], load: Load, windows: Iterable[Axis]) -> list[Side | None]:
    """The dimensions along which windows overlap, where nothing says how large they are: a window
    belongs to the pixels that step over a few of its elements. Whatever is paired, the copy holds
    only what lies between elements that are read."""
    sides: list[Side | None] = []
    for window in windows:
        gap = load.index.coefficient(window)
        steps = [(load.index.coefficient(p), p) for p in pixels]
        near = [(c, p) for c, p in steps if max(c, gap) <= FAR * math.gcd(c, gap) > 0 < min(c, gap)]
        if near:
            step, pixel = min(near, key=lambda found: found[0])
            stride = math.gcd(step, gap)
            terms = ((pixel, step // stride), (window, gap // stride))
            length = 1 + sum(c * (a.size - 1) for a, c in terms)
            sides.append(Side(terms, 0, length, length, stride))
    return sides


def copy_lines(image: Image, source: str) -> list[str]:
    """C++ that fills the copy `image` from `source`, a row at a time, by the whole team."""
    *sides, last = image.sides
    lines, stride = [], image.planes * image.rows
    parts = [source, str(image.load.index.offset)]
    inside = []
    for name, length, step in (
        *((f"p{i}", axis.size, c) for i, (axis, c) in enumerate(image.plain)),
        *((f"u{i}", s.length, s.stride) for i, s in enumerate(sides)),
    ):
        stride //= length
        text = "r" if stride == 1 else f"r / {stride}"
        lines.append(f"const int64_t {name} = {text} % {length};")
        parts.append(f"{name} * {step}")
    for i, side in enumerate(sides):
        inside.append(f"epx::within(u{i} + {side.first}, {side.size})")
    low, high = max(0, -last.first), min(last.length, last.size - last.first)
    lay, length = "epx::lay", image.pitch
    if image.phases > 1:
        lay, length = f"epx::lay_phases<{image.phases}>", image.phase
    return [
        f"epx::share<false>({image.planes * image.rows}, [&](int64_t r) {{",
        *(f"  {line}" for line in lines),
        f"  const bool there = {' && '.join(inside) or 'true'};",
        f"  float* const to = image.data + r / {image.rows} * {image.plane} + "
        f"r % {image.rows} * {image.pitch};",
        f"  {lay}(to, {' + '.join(parts)}, there ? {low} : 0, "
        f"there ? {max(low, high)} : 0, {length});",
        "});",
    ]


def floats(image: Image) -> int:
    """Elements of the copy."""
    return image.planes * image.plane


def worth(what: Contraction, image: Image) -> bool:
    """Whether the copy is smaller than what packing would write."""
    return floats(image) <= size_of(what.inner) * size_of(what.columns) * size_of(what.batch)
