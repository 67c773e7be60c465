"""A sweep around a genome that somebody wrote: every value of some decisions, or one step of each.

What was written may be short: decisions that are not named are those of the first guess. Values
must lie within what is tried for the region, because a generator of code takes no number unseen.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from epitaxy.errors import BadInput
from epitaxy.proposers._genomes import read
from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.genome import DECISIONS, Choices, Genome
from epitaxy.proposers.grower.moves import Move, Spaces

LARGEST = 4096
"""Combinations of one sweep."""

EXAMPLE = "region0(width=8 unroll=4)"


def written(text: str, start: Genome, spaces: Spaces) -> Genome:
    """The genome that `text` names, over `start`. Raises BadInput, naming what may be said."""
    genome = start
    for region, chosen in read(text, sorted(DECISIONS), dict, EXAMPLE):
        own = genome.of(region)
        usual = {d: {getattr(own, d), getattr(Choices(), d)} for d in chosen}
        for decision, value in chosen.items():
            if value not in usual[decision]:
                _possible(region, decision, value, spaces)
        genome = genome.with_choice(region, **chosen)
    return genome


def sweep(
    text: str, vary: Mapping[str, Sequence[int]], start: Genome, spaces: Spaces, seed: int
) -> Iterator[Move]:
    """The genome that `text` names, then its variants.

    `vary` maps decisions ("unroll", or "region0.unroll" where there are several regions) to values,
    none for all that are tried: the variants are every combination. Without `vary` they are all
    genomes one decision away, in an order set by `seed`. Raises BadInput.
    """
    middle = written(text, start, spaces) if text else start
    yield middle, "as it was written" if text else "first guess", ()
    if not vary:
        near = space.neighbours(
            middle, {n: dict(s) for n, s in spaces.items()}, random.Random(seed)
        )
        for genome in near:
            yield genome, "one decision away from what was written", ()
        return
    axes = [_axis(name, values, spaces) for name, values in vary.items()]
    if math.prod(len(values) for _, _, values in axes) > LARGEST:
        raise BadInput(
            f"the sweep has more than {LARGEST} combinations", "vary fewer decisions at once"
        )
    for chosen in itertools.product(*(values for _, _, values in axes)):
        genome = middle
        for (region, decision, _), value in zip(axes, chosen, strict=True):
            genome = genome.with_choice(region, **{decision: value})
        told = ", ".join(f"{d}={v}" for (_, d, _), v in zip(axes, chosen, strict=True))
        yield genome, f"swept: {told}", ()


def _axis(name: str, values: Sequence[int], spaces: Spaces) -> tuple[str, str, tuple[int, ...]]:
    """Region, decision and values of one swept decision."""
    region, dot, decision = name.rpartition(".")
    holding = [r for r, options in spaces.items() if decision in options]
    if not dot and len(holding) > 1:
        raise BadInput(
            f"several regions decide {decision!r}", f"write one of {_names(holding, decision)}"
        )
    region = region or (holding[0] if holding else next(iter(spaces)))
    for value in values:
        _possible(region, decision, value, spaces)
    if not values:
        _possible(region, decision, None, spaces)
    return region, decision, tuple(dict.fromkeys(values)) or spaces[region][decision]


def _names(regions: Sequence[str], decision: str) -> str:
    return ", ".join(f"{region}.{decision}" for region in regions)


def _possible(region: str, decision: str, value: int | None, spaces: Spaces) -> None:
    """Raise BadInput unless the decision is one of the region's and the value within its range."""
    options = spaces.get(region)
    if options is None:
        raise BadInput(f"there is no region {region!r}", f"regions: {', '.join(spaces)}")
    if decision not in options:
        raise BadInput(
            f"{decision!r} decides nothing in {region}", f"decisions: {', '.join(options)}"
        )
    low, high = min(options[decision]), max(options[decision])
    if value is not None and not low <= value <= high:
        raise BadInput(
            f"{region}.{decision}={value} is out of range",
            f"tried are {', '.join(map(str, options[decision]))}",
        )
