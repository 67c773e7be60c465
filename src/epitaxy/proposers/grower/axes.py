"""Dimension variables and index arithmetic: what lets reshapes vanish from a region.

Every dimension of every node is a `Dim`. Dims that must run together are joined; a reshape that
splits or merges dimensions splits a Dim into factors. An `Ix` is the index of one dimension as an
affine form over axes, plus gathered (data-dependent) parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import Affine, Axis, Guard, Value


class Inexpressible(Exception):
    """The index wanted of `node` has no affine form: store it first, or leave it."""

    def __init__(self, node: object = None) -> None:
        super().__init__(str(node))
        self.node = node


class NeedSplit(Exception):
    """`axis` must become two axes, the inner one of size `inner`."""

    def __init__(self, axis: Axis, inner: int) -> None:
        super().__init__(f"{axis.name}: {inner}")
        self.axis = axis
        self.inner = inner


class Dim:
    """A dimension variable: joined to another, split into factors, or a leaf (an atomic axis)."""

    __slots__ = ("joined", "name", "parts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.joined: Dim | None = None
        self.parts: tuple[Dim, Dim] | None = None
        self.name = ""

    def root(self) -> Dim:
        """The Dim that stands for this one."""
        dim = self
        while dim.joined is not None:
            dim = dim.joined
        return dim

    def leaves(self) -> list[Dim]:
        """The atomic factors, outermost first; none for size 1."""
        dim = self.root()
        if dim.size == 1:
            return []
        if dim.parts is None:
            return [dim]
        return dim.parts[0].leaves() + dim.parts[1].leaves()

    def split(self, inner: int) -> tuple[Dim, Dim]:
        """Split a leaf; `inner` divides its size."""
        dim = self.root()
        dim.parts = (Dim(dim.size // inner), Dim(inner))
        return dim.parts


def align(first: Sequence[Dim], second: Sequence[Dim]) -> bool:
    """Join two lists of dims of equal total size, factor by factor from the innermost.

    False when the factors do not nest; what was joined until then stays joined.
    """
    a = [leaf for dim in first for leaf in dim.leaves()]
    b = [leaf for dim in second for leaf in dim.leaves()]
    while a and b:
        x, y = a.pop().root(), b.pop().root()
        if x is y:
            continue
        if x.parts or y.parts:
            a.extend(x.leaves())
            b.extend(y.leaves())
        elif x.size == y.size:
            x.joined = y
        elif x.size % y.size == 0:
            outer, inner = x.split(y.size)
            inner.joined = y
            a.append(outer)
        elif y.size % x.size == 0:
            outer, inner = y.split(x.size)
            inner.joined = x
            b.append(outer)
        else:
            return False
    return not a and not b


@dataclass(frozen=True)
class Ix:
    """The index of one dimension: offset + axis terms + (value, coefficient, bound) gathers.

    Gathered values lie in [0, bound).
    """

    offset: int = 0
    terms: tuple[tuple[Axis, int], ...] = ()
    gathers: tuple[tuple[Value, int, int], ...] = ()

    @property
    def axes(self) -> frozenset[Axis]:
        """Every axis the index depends on."""
        own = frozenset(a for a, _ in self.terms)
        return own.union(*(v.axes for v, _, _ in self.gathers))

    def affine(self) -> Affine:
        """The index as the algebra's Affine; Inexpressible when it gathers."""
        if self.gathers:
            raise Inexpressible
        return Affine(self.offset, self.terms)

    def range(self) -> tuple[int, int]:
        """Least and greatest value."""
        low = high = self.offset
        spans = [c * (a.size - 1) for a, c in self.terms]
        spans += [c * (bound - 1) for _, c, bound in self.gathers]
        for span in spans:
            low += min(span, 0)
            high += max(span, 0)
        return low, high

    def within(self, size: int) -> bool:
        """Whether every value lies in [0, size)."""
        low, high = self.range()
        return low >= 0 and high < size

    def shifted(self, offset: int) -> Ix:
        """This index plus a number."""
        return Ix(self.offset + offset, self.terms, self.gathers)

    def times(self, factor: int) -> Ix:
        """This index times a number."""
        terms = tuple((a, c * factor) for a, c in self.terms if factor)
        gathers = tuple((v, c * factor, n) for v, c, n in self.gathers if factor)
        return Ix(self.offset * factor, terms, gathers)

    def plus(self, other: Ix) -> Ix:
        """The sum of two indices."""
        return total((self, other))

    def free(self) -> bool:
        """Whether it is the constant 0."""
        return not (self.offset or self.terms or self.gathers)


def total(parts: Iterable[Ix]) -> Ix:
    """The sum of indices in canonical order: larger coefficients first, then names."""
    offset, terms, gathers = 0, {}, {}  # type: int, dict[Axis, int], dict[Value, tuple[int, int]]
    for ix in parts:
        offset += ix.offset
        for axis, c in ix.terms:
            terms[axis] = terms.get(axis, 0) + c
        for value, c, bound in ix.gathers:
            gathers[value] = (gathers.get(value, (0, 0))[0] + c, bound)
    ordered = sorted(((a, c) for a, c in terms.items() if c), key=lambda t: (-abs(t[1]), t[0].name))
    kept = tuple((v, c, n) for v, (c, n) in gathers.items() if c)
    return Ix(offset, tuple(ordered), kept)


def composite(axes: Sequence[Axis]) -> Ix:
    """The position in axes listed outermost first, counted as one dimension."""
    stride, terms = 1, []
    for axis in reversed(axes):
        terms.append((axis, stride))
        stride *= axis.size
    return Ix(0, tuple(reversed(terms)))


def pure(ix: Ix) -> tuple[Axis, ...] | None:
    """The axes, outermost first, when the index is exactly their position; else None."""
    if ix.offset or ix.gathers:
        return None
    stride, axes = 1, []
    for axis, c in sorted(ix.terms, key=lambda t: t[1]):
        if c != stride:
            return None
        axes.append(axis)
        stride *= axis.size
    return tuple(reversed(axes))


def flipped(ix: Ix) -> tuple[Axis, ...] | None:
    """The axes when the index is n - 1 - their position, n their total size; else None."""
    back = ix.times(-1)
    high = ix.range()[1]
    return pure(Ix(back.offset + high, back.terms, back.gathers)) if ix.range()[0] == 0 else None


def divmod_ix(ix: Ix, size: int) -> tuple[Ix, Ix]:
    """(ix // size, ix % size); raises NeedSplit where an axis straddles, or Inexpressible."""
    if size == 1:
        return ix, Ix()
    outer = [(a, c // size) for a, c in ix.terms if c % size == 0]
    inner = [(a, c) for a, c in ix.terms if c % size]
    out_g = [(v, c // size, n) for v, c, n in ix.gathers if c % size == 0]
    in_g = [(v, c, n) for v, c, n in ix.gathers if c % size]
    rest = Ix(ix.offset % size, tuple(inner), tuple(in_g))
    if rest.within(size):
        return total([Ix(ix.offset // size, tuple(outer), tuple(out_g))]), total([rest])
    for axis, c in inner:
        factor = size // abs(c)
        if size % abs(c) == 0 and axis.size > factor and axis.size % factor == 0:
            raise NeedSplit(axis, factor)
    raise Inexpressible


def reshape(index: Sequence[Ix], shape: Sequence[int], source: Sequence[int]) -> tuple[Ix, ...]:
    """The index into `source` of element `index` of its reshape to `shape`.

    Raises NeedSplit or Inexpressible.
    """
    result: list[Ix] = [Ix()] * len(source)
    left = [i for i, n in enumerate(shape) if n != 1]
    wanted = [j for j, n in enumerate(source) if n != 1]
    while wanted:
        group, flat, have = [wanted.pop()], [], 1
        want = source[group[0]]
        while have != want:
            if have < want:
                i = left.pop()
                flat.append(index[i].times(have))
                have *= shape[i]
            else:
                group.append(wanted.pop())
                want *= source[group[-1]]
        place = total(flat)
        for j in group[:-1]:
            place, result[j] = divmod_ix(place, source[j])
        result[group[-1]] = place
    return tuple(result)


def guards_of(index: Sequence[Ix], shape: Sequence[int]) -> tuple[Guard, ...]:
    """The guards that keep an access of `shape` at `index` inside; none where it always is."""
    guards = []
    for ix, size in zip(index, shape, strict=True):
        if not ix.within(size):
            guards.append(Guard(ix.affine(), size))
    return tuple(dict.fromkeys(guards))
