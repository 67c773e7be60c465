"""What all growers do with the genomes worth trying: candidates of sources not seen before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from epitaxy.candidate import Candidate

MOST_LOOKS = 5000
"""Moves that are written out before the search is called exhausted."""
EXHAUSTED = "no move is left: every neighbour of the best has been judged"


def unseen(
    moves: Iterable[tuple[Any, str, tuple[str, ...]]],
    make: Callable[[Any, str, tuple[str, ...]], Candidate | None],
    body: Callable[[Candidate], str],
    seen: Iterable[Candidate],
    count: int,
) -> list[Candidate]:
    """Up to `count` candidates that `make` makes of genome, intent and parents, each with a `body`
    that neither those `seen` nor one before it has."""
    known = {body(c) for c in seen}
    found: list[Candidate] = []
    for genome, intent, parents in itertools.islice(moves, MOST_LOOKS):
        candidate = make(genome, intent, parents)
        if candidate is None or body(candidate) in known:
            continue
        known.add(body(candidate))
        found.append(candidate)
        if len(found) == count:
            break
    return found
