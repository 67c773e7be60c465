"""Genomes whose decisions are named numbers, as text and back, and steps from one to the next."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict

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


def of(genome: Genome, region: str) -> Choices:
    """The choices for one region. Raises BadInput for an unknown one."""
    for name, choices in genome:
        if name == region:
            return choices
    raise BadInput(f"the genome says nothing of {region!r}", "replay it with its own problem")


def parse(printed: str, known: Sequence[str]) -> Genome:
    """Read a printed genome of the decisions `known`. Raises BadInput."""
    regions = []
    for name, body in re.findall(r"(\w+)\(([^()]*)\)", printed):
        pairs = [item.partition("=") for item in body.split()]
        unknown = [k for k, _, _ in pairs if k not in known]
        if unknown:
            raise BadInput(
                f"unknown decision {unknown[0]!r} in a genome", f"known: {', '.join(known)}"
            )
        try:
            regions.append((name, Choices({k: int(v) for k, _, v in pairs})))
        except ValueError:
            raise BadInput(
                f"a decision of {name} is not a number: {body}", "write name=integer"
            ) from None
    if not regions:
        raise BadInput(f"no region in genome {printed[:40]!r}", "write region0(rows=64 ...)")
    return tuple(regions)


def neighbours(genome: Genome, spaces: Mapping[str, Space], rng: random.Random) -> list[Genome]:
    """Every genome one step of one decision away, in random order; then every other value."""
    near: list[Genome] = []
    far: list[Genome] = []
    for name, options in spaces.items():
        for decision, values in options.items():
            now = of(genome, name)[decision]
            for value in values:
                if value == now:
                    continue
                step = abs(math.log2(max(1, value)) - math.log2(max(1, now))) <= 1
                other = tuple(
                    (n, Choices({**c, decision: value}) if n == name else c) for n, c in genome
                )
                (near if step else far).append(other)
    rng.shuffle(near)
    rng.shuffle(far)
    return [*near, *far]


def moves(
    start: Genome, spaces: Mapping[str, Space], elite: Sequence[tuple[Genome, str]],
    rng: random.Random,
) -> Iterator[tuple[Genome, str, tuple[str, ...]]]:  # fmt: skip
    """Genomes worth trying next with intent and parents: the guess, then neighbours of the best."""
    yield start, "first guess", ()
    for best, parent in elite:
        for other in neighbours(best, spaces, rng):
            yield other, "one decision away from the best", (parent,)
    for other in neighbours(start, spaces, rng):
        yield other, "a variant of the first guess", ()


def powers(low: int, high: int) -> tuple[int, ...]:
    """The powers of two from `low` to `high`."""
    return tuple(1 << n for n in range(low.bit_length() - 1, max(low, high).bit_length()))
