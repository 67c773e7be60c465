"""Inputs of a problem from named distributions, within the domain of the given ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

DISTRIBUTIONS = (
    "given",
    "normal",
    "large",
    "tiny",
    "shifted",
    "skewed",
    "mixed",
    "cancellation",
    "constant_rows",
    "edges",
    "special",
)
INDICES = ("equal_indices", "extreme_indices", "sorted_indices")
"""Distributions of integers, within the range seen; floats are normal then."""
SPECIAL = "special"
"""The distribution in which a few elements are NaN."""
DECADES = 4.0
"""Magnitudes of `mixed` range over as many powers of ten, up and down."""
SHIFT = 100.0
EDGE = 300.0
PARTS = 16
KINDS = 8
"""A tensor of floats with at most this many different values (and two at least) holds labels."""


def transform(
    given: Sequence[Any],
    distribution: str,
    seed: int,
    fixed: Sequence[bool],
    special: str = "nan",
) -> list[Any]:
    """`given` redrawn from `distribution`: shapes, dtypes and value domains stay.

    "given" itself is left as it is. Otherwise floats that are all >= 0 stay so, floats within
    [0, 1] stay within, rows that sum to 1 still do, triangles and symmetric matrices stay what
    they are, labels (few different values) are shuffled by rows. Integers are redrawn within the
    range seen: permutations stay permutations, rising rows (offsets) rising, with their ends,
    rows without duplicates have none. `special` is the policy's: NaN, or infinities too.
    `fixed` says which inputs are the same under every seed: masks and labels that are, stay.
    """
    if distribution == "given":
        return list(given)
    generator = torch.Generator().manual_seed(seed)
    return [
        _one(x, distribution, generator, same, special) if isinstance(x, torch.Tensor) else x
        for x, same in zip(given, fixed, strict=True)
    ]


def blend(first: Sequence[Any], second: Sequence[Any], seed: int) -> list[Any]:
    """`first` with a stretch of each tensor of floats from `second`: 1 of its PARTS along dim 0.

    Both are inputs of one problem, so that domains hold within every row. Matrices with a
    structure that rows do not carry (symmetric ones) stay `first`'s.
    """
    place = torch.Generator().manual_seed(seed)
    return [_blended(a, b, place) for a, b in zip(first, second, strict=True)]


def unseen(first: Sequence[Any], second: Sequence[Any], seed: int) -> list[Any]:
    """`first` with 1 of PARTS of each tensor's elements from `second`, at any place.

    Rows are cut, so that properties of rows of floats (a sum of 1) are lost: for timing, not for
    judging. Integers keep what indices need: rows that rise, rows without duplicates.
    """
    place = torch.Generator().manual_seed(seed)
    return [_mixed(a, b, place) for a, b in zip(first, second, strict=True)]


def _mixed(a: Any, b: Any, generator: torch.Generator) -> Any:
    if not isinstance(a, torch.Tensor) or a.shape != b.shape or not a.numel():
        return a
    length = -(-a.numel() // PARTS)
    start = int(torch.randint(0, a.numel() - length + 1, (), generator=generator))
    mixed = a.clone(memory_format=torch.contiguous_format)
    mixed.view(-1)[start : start + length] = b.reshape(-1)[start : start + length]
    free = (
        a.dtype == torch.uint8
        or a.is_floating_point()
        or a.is_complex()
        or a.dtype == torch.bool
        or not a.dim()
    )
    return mixed if free else _as_lawful(mixed, a.contiguous(), b, generator)


def _as_lawful(
    mixed: torch.Tensor, a: torch.Tensor, b: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """`mixed` where rows of `a` are bound by nothing; sorted where they rise (offsets), `b` where
    they rise without duplicates; else, without duplicates, `a` with one stretch of every row turned
    round."""
    rows = a.sort(-1).values
    distinct = bool((rows[..., 1:] > rows[..., :-1]).all())
    if bool((a[..., 1:] >= a[..., :-1]).all()):
        return b.contiguous() if distinct else mixed.sort(-1).values
    if not distinct:
        return mixed
    width = a.shape[-1]
    length = min(width, max(2, -(-width // PARTS)))
    start = int(torch.randint(0, width - length + 1, (), generator=generator))
    turned = a.clone(memory_format=torch.contiguous_format)
    turned[..., start : start + length] = a[..., start : start + length].flip(-1)
    return turned


def nudged(inputs: Sequence[Any], seed: int, wide: bool = True) -> list[Any]:
    """`inputs` in float64, each element of a tensor of floats moved by up to half a rounding.

    Not `wide`: in their own dtype, moved by up to one rounding. Labels (few different values)
    stay: a comparison with them is no arithmetic.
    """
    generator = torch.Generator().manual_seed(seed)

    def move(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point() or _labels(x):
            return x
        most = torch.finfo(x.dtype).eps / (2 if wide else 1)
        noise = torch.rand(x.shape, generator=generator, dtype=torch.float32).double()
        moved = x.double() * (1 + most * (2 * noise - 1))
        return moved if wide else moved.to(x.dtype)

    return [move(x) for x in inputs]


def _blended(a: Any, b: Any, generator: torch.Generator) -> Any:
    if not isinstance(a, torch.Tensor) or not a.is_floating_point() or not a.dim():
        return a
    if a.shape != b.shape or (a.dim() >= 2 and a.shape[-1] == a.shape[-2] and torch.equal(a, a.mT)):
        return a
    rows = a.shape[0]
    length = -(-rows // PARTS)
    start = int(torch.randint(0, rows - length + 1, (), generator=generator))
    mixed = a.clone()
    mixed[start : start + length] = b[start : start + length]
    return mixed


def _one(
    x: torch.Tensor, distribution: str, generator: torch.Generator, fixed: bool, special: str
) -> torch.Tensor:
    if not x.numel():
        return x
    if x.dtype == torch.bool:
        return _booleans(x, generator, fixed)
    if not x.is_floating_point():
        return _integers(x, distribution, generator)
    if not bool(torch.isfinite(x).all()):
        return x  # a mask made of infinities
    if _labels(x):
        return x if fixed or not x.dim() else _shuffled(x, generator)
    drawn = _float(x.shape, distribution, generator)
    drawn = _structured(_into_domain(drawn, x), x).to(x.dtype)
    return _with_special(drawn, generator, special) if distribution == SPECIAL else drawn


def _with_special(drawn: torch.Tensor, generator: torch.Generator, special: str) -> torch.Tensor:
    """A NaN in about one row of sixteen, one at least; not in the first, so that rows remain.

    With `special` "all" every second one is an infinity of either sign.
    """
    rows = drawn.reshape(drawn.shape[0] if drawn.dim() > 1 else 1, -1)
    count = max(1, rows.shape[0] // 16)
    where = torch.randint(min(1, rows.shape[0] - 1), rows.shape[0], (count,), generator=generator)
    places = torch.randint(0, rows.shape[1], (count,), generator=generator)
    rows[where, places] = torch.nan
    if special == "all":
        rows[where[1::2], places[1::2]] = torch.inf
        rows[where[3::4], places[3::4]] = -torch.inf
    return drawn


def _booleans(x: torch.Tensor, generator: torch.Generator, fixed: bool) -> torch.Tensor:
    if fixed and bool(x.any()) and not bool(x.all()):
        return x
    share = x.double().mean().item()
    return torch.rand(x.shape, generator=generator) < min(max(share, 0.05), 0.95)


def _integers(x: torch.Tensor, distribution: str, generator: torch.Generator) -> torch.Tensor:
    drawn = _indices(x, distribution, generator)
    low, high = int(x.min()), int(x.max())
    if not x.dim() or x.shape[-1] < 3:
        return drawn
    rows = torch.arange(low, low + x.shape[-1], dtype=x.dtype).expand(x.shape)
    permutes = torch.equal(x.sort(-1).values, rows)
    rises = bool((x.diff(dim=-1) >= 0).all()) and low < high
    if permutes and rises:
        return x  # positions
    if permutes and distribution in INDICES:
        return rows.flip(-1).clone() if distribution == "extreme_indices" else rows.clone()
    if permutes:
        return (torch.rand(x.shape, generator=generator).argsort(-1) + low).to(x.dtype)
    if rises:
        drawn = drawn.sort(-1).values
        drawn = drawn.maximum(x[..., :1]).minimum(x[..., -1:])
        drawn[..., 0], drawn[..., -1] = x[..., 0], x[..., -1]
    elif x.shape[-1] >= KINDS and bool((x.sort(-1).values.diff(dim=-1) > 0).all()):
        # Turned round the range and shuffled, they stay distinct.
        turn = int(torch.randint(0, high - low + 1, (), generator=generator))
        turned = (x - low + turn) % (high - low + 1) + low
        order = torch.randperm(x.shape[-1], generator=generator)
        return turned[..., order] if distribution != "sorted_indices" else turned.sort(-1).values
    return drawn


def _indices(x: torch.Tensor, distribution: str, generator: torch.Generator) -> torch.Tensor:
    """Integers within the range of `x`: uniform, or as their distribution says."""
    low, high = int(x.min()), int(x.max())
    drawn = torch.randint(low, high + 1, x.shape, generator=generator, dtype=x.dtype)
    if distribution == "equal_indices":
        return torch.full_like(x, int(drawn.reshape(-1)[0]))
    if distribution == "extreme_indices":
        ends = torch.rand(x.shape, generator=generator) < 0.5
        return torch.where(ends, torch.full_like(x, low), torch.full_like(x, high))
    if distribution == "sorted_indices" and x.dim():
        return drawn.sort(-1).values
    return drawn


def _labels(x: torch.Tensor) -> bool:
    """Whether there are 2 to KINDS different values; a look at the first ones mostly tells."""
    if x.numel() <= 2 * KINDS:
        return False
    return _kinds(x.reshape(-1)[:1024]) <= KINDS and 2 <= _kinds(x) <= KINDS


def _kinds(x: torch.Tensor) -> int:
    unique: Any = torch.unique  # PyTorch gives it no types
    return int(unique(x).numel())


def _shuffled(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x[torch.randperm(x.shape[0], generator=generator)]


def _float(shape: torch.Size, distribution: str, generator: torch.Generator) -> torch.Tensor:
    normal = torch.randn(shape, generator=generator)
    if distribution in ("normal", SPECIAL, *INDICES):
        return normal
    if distribution == "large":
        return normal * 1e3
    if distribution == "tiny":
        return normal * 1e-4
    if distribution == "shifted":
        return normal + SHIFT
    if distribution == "skewed":
        rare = torch.rand(shape, generator=generator) < 1e-3
        return torch.where(rare, normal * 1e4, normal)
    if distribution == "mixed":
        return normal * 10 ** ((2 * torch.rand(shape, generator=generator) - 1) * DECADES)
    if distribution == "cancellation":
        signs = torch.ones(shape)
        signs.view(-1)[1::2] = -1
        return signs * 1e3 + normal
    if distribution == "edges":
        return _edges(normal, generator)
    return torch.full(shape, 0.5) + normal[..., :1] * (1 if shape else 0)


def _edges(normal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The first or the last value of every line is far above the rest, some rows far below zero.

    A maximum over all but one element, or from a wrong start, then makes exponentials overflow
    or vanish; with other inputs a softmax forgives it.
    """
    drawn = normal.clone()
    for axis, size in enumerate(normal.shape):
        if size >= 3:
            line = [1 if a == axis else n for a, n in enumerate(normal.shape)]
            place = _by_turns(math.prod(line), 2, generator).reshape(line).long() * (size - 1)
            drawn.scatter_(axis, place, EDGE + normal.gather(axis, place))
    if normal.dim():
        low = _by_turns(normal.shape[0], 3, generator)
        drawn[low] = normal[low] - SHIFT
    return drawn


def _by_turns(count: int, every: int, generator: torch.Generator) -> torch.Tensor:
    """True for one of `every`, from a random first: even a few rows are then of each kind."""
    first = torch.randint(every, (), generator=generator)
    return (torch.arange(count) + first) % every == 0


def _into_domain(drawn: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    low, high = given.min().item(), given.max().item()
    rows = given.double().sum(-1) if given.dim() else given.double()
    if low >= 0 and given.dim() and torch.allclose(rows, torch.ones_like(rows), atol=1e-4):
        return torch.softmax((drawn - drawn.amax(-1, True)).clamp_min(-30), -1)
    if low >= 0 and high <= 1:
        # The sigmoid of SHIFT is 1 to the last place: shifted values crowd below 1 instead.
        middle = drawn.mean().item()
        return 0.9 + 0.1 * torch.sigmoid(drawn - SHIFT) if middle > SHIFT / 2 else drawn.sigmoid()
    return drawn.abs() if low >= 0 else drawn


def _structured(drawn: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Triangular, diagonal and symmetric matrices stay what they are."""
    if given.dim() < 2 or min(given.shape[-2:]) < 3:
        return drawn
    if given.shape[-1] == given.shape[-2] and torch.equal(given, given.mT):
        drawn = (drawn + drawn.mT) / 2
    # One look at a corner spares whole matrices the comparison.
    if not bool(given[..., -1, 0].any()) and torch.equal(given, given.triu()):
        drawn = drawn.triu()
    if not bool(given[..., 0, -1].any()) and torch.equal(given, given.tril()):
        drawn = drawn.tril()
    return drawn
