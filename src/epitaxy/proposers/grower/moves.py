"""Where the search goes next: a portfolio around the first guess, then moves from the best.

With a cost model everything that could be tried next is ranked by it before anything is built;
one in EXPLORE is taken in the order that it has without.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.genome import Genome
from epitaxy.proposers.grower.learn import CostModel

EXPLORE = 4
"""One candidate in so many is not chosen by the cost model."""
MOST_RANKED = 600
CROSSES = 48
Spaces = Mapping[str, Mapping[str, tuple[int, ...]]]
Move = tuple[Genome, str, tuple[str, ...]]
"""(genome, intent, ids of its parents)"""


def moves(
    starts: Sequence[Genome], spaces: dict[str, dict[str, tuple[int, ...]]],
    elite: Sequence[tuple[Genome, str]], rng: random.Random, model: CostModel | None = None,
) -> Iterator[Move]:  # fmt: skip
    """Genomes worth trying next, the likeliest first; some may have been tried before.

    `starts`: the first guesses, the best one first. `elite`: the best genomes so far with their
    ids, fastest first.
    """
    for number, genome in enumerate(starts):
        yield genome, "first guess" if number == 0 else "first guess without better algebra", ()
    plain = _plain(starts[0], spaces, elite, rng)
    if model is None:
        yield from plain
        return
    yield from _ranked(plain, spaces, elite, rng, model)


def _plain(
    start: Genome, spaces: dict[str, dict[str, tuple[int, ...]]],
    elite: Sequence[tuple[Genome, str]], rng: random.Random,
) -> Iterator[Move]:  # fmt: skip
    """The variants that most often win, then neighbours of the best, every fourth a cross."""
    for genome in space.portfolio(start, spaces):
        yield genome, "a likely variant of the first guess", ()
    if not elite:
        return
    best, parent = elite[0]
    for i, genome in enumerate(space.neighbours(best, spaces, rng)):
        yield genome, "one decision away from the best", (parent,)
        if i % 3 == 2 and len(elite) > 1:
            yield _crossed(elite, spaces, rng)


def _crossed(
    elite: Sequence[tuple[Genome, str]], spaces: dict[str, dict[str, tuple[int, ...]]],
    rng: random.Random,
) -> Move:  # fmt: skip
    best, parent = elite[0]
    other, second = rng.choice(elite[1:])
    mixed = space.cross(best, other, spaces, rng)
    return mixed, "the best crossed with another", (parent, second)


def _ranked(
    plain: Iterator[Move], spaces: dict[str, dict[str, tuple[int, ...]]],
    elite: Sequence[tuple[Genome, str]], rng: random.Random, model: CostModel,
) -> Iterator[Move]:  # fmt: skip
    pool: dict[Genome, Move] = {}
    for move in plain:
        pool.setdefault(move[0], move)
        if len(pool) >= MOST_RANKED:
            break
    for _ in range(CROSSES if len(elite) > 1 else 0):
        move = _crossed(elite, spaces, rng)
        pool.setdefault(move[0], move)
    listed = list(pool.values())
    order = [listed[i] for i in model.rank([g for g, _, _ in listed])]
    queues = (iter(order), iter(listed))
    done: set[Genome] = set()
    for turn in range(1, len(listed) + 1):
        explores = turn % EXPLORE == 0
        genome, intent, parents = next(m for m in queues[explores] if m[0] not in done)
        done.add(genome)
        yield genome, intent if explores else f"{intent}, ranked by the cost model", parents
