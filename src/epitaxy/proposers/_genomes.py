"""Genomes whose decisions are named numbers, as text and back, and steps from one to the next."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict

C = TypeVar("C")
Choices = FrozenDict[int]
"""One region's decisions by name."""
Genome = tuple[tuple[str, Choices], ...]
"""Choices for every region of a program, by region name."""
Space = Mapping[str, tuple[int, ...]]
"""The values of each decision that are tried."""


def text(genome: Genome) -> str:
    """The genome as text; `parse` reads it."""
    bodies = [(name, " ".join(f"{k}={v}" for k, v in chosen.items())) for name, chosen in genome]
    return " ".join(f"{name}({body})" for name, body in bodies)


def of(genome: tuple[tuple[str, C], ...], region: str) -> C:
    """The choices for one region. Raises BadInput for an unknown one."""
    for name, choices in genome:
        if name == region:
            return choices
    raise BadInput(f"the genome says nothing of {region!r}", "replay it with its own problem")


def read(
    printed: str, known: Sequence[str], make: Callable[[dict[str, int]], C], example: str
) -> tuple[tuple[str, C], ...]:
    """Regions and what `make` makes of the decisions `known` of each, from a printed genome.

    Raises BadInput on unknown decisions or broken text; `example` is how a region looks.
    """
    regions = []
    for name, body in re.findall(r"(?<!\w)(\w+)\(([^()]*)\)", printed):
        pairs = [item.partition("=") for item in body.split()]
        unknown = [k for k, _, _ in pairs if k not in known]
        if unknown:
            raise BadInput(
                f"unknown decision {unknown[0]!r} in a genome", f"known: {', '.join(known)}"
            )
        try:
            regions.append((name, make({k: int(v) for k, _, v in pairs})))
        except ValueError:
            raise BadInput(
                f"a decision of {name} is not a number: {body}", "write name=integer"
            ) from None
    if not regions:
        raise BadInput(f"no region in genome {printed[:40]!r}", f"write {example}")
    return tuple(regions)


def parse(printed: str, known: Sequence[str]) -> Genome:
    """Read a printed genome of the decisions `known`. Raises BadInput."""
    return read(printed, known, Choices, "region0(rows=64 ...)")


def changed(genome: Genome, region: str, decision: str, value: int) -> Genome:
    """A copy with one decision of one region changed."""
    return tuple((n, Choices({**c, decision: value}) if n == region else c) for n, c in genome)


def neighbours(
    genome: Any, spaces: Mapping[str, Space], rng: random.Random, change: Any = changed
) -> list[Any]:
    """Every genome one step of one decision away, in random order; then every other value.

    `genome` holds for each region what gives a decision by its name; `change(genome, region,
    decision, value)` gives the copy.
    """
    near: list[Any] = []
    far: list[Any] = []
    for name, options in spaces.items():
        for decision, values in options.items():
            now = of(genome, name)[decision]
            for value in values:
                if value == now:
                    continue
                step = abs(math.log2(max(1, value)) - math.log2(max(1, now))) <= 1
                (near if step else far).append(change(genome, name, decision, value))
    rng.shuffle(near)
    rng.shuffle(far)
    return [*near, *far]


def moves(
    start: Any, spaces: Mapping[str, Space], elite: Sequence[tuple[Any, str]],
    rng: random.Random, change: Any = changed,
) -> Iterator[tuple[Any, str, tuple[str, ...]]]:  # fmt: skip
    """Genomes worth trying next with intent and parents: the guess, then the neighbours of those
    that are predicted, or measured, to be the best, then the guess's; `change` as there."""
    yield start, "first guess", ()
    for best, parent in elite:
        for other in neighbours(best, spaces, rng, change):
            yield other, "one decision away from the best", (parent,)
    for other in neighbours(start, spaces, rng, change):
        yield other, "a variant of the first guess", ()


def powers(low: int, high: int) -> tuple[int, ...]:
    """The powers of two from `low` to `high`."""
    return tuple(1 << n for n in range(low.bit_length() - 1, max(low, high).bit_length()))
