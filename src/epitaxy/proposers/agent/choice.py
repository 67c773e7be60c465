"""Which candidates a conversation begins from: by quality and by diversity."""

from __future__ import annotations

import random
from collections.abc import Sequence

from epitaxy.candidate import Candidate
from epitaxy.proposers.agent.calls import HELPERS, split
from epitaxy.verdict import Verdict

Judged = tuple[Candidate, Verdict]
ELITE = 6
"""Candidates among which a parent is chosen."""
PRESSURE = 0.6
"""Chance of the k-th best, relative to the one before it."""
NEW = 1.0
"""How much a candidate of entirely other lines than those already taken gains over their twin."""


def lines(candidate: Candidate) -> frozenset[str]:
    """The lines that say something, the grower's helpers aside."""
    texts = {n: text for n, text in split(candidate.files).items() if n != HELPERS}
    found = (
        line.split("#" if name.endswith(".py") else "//")[0].strip()
        for name, text in texts.items()
        for line in text.splitlines()
    )
    return frozenset(line for line in found if len(line) > 3)


def distance(one: Candidate, other: Candidate) -> float:
    """1 - the Jaccard index of their lines: 0.0 the same, 1.0 nothing in common."""
    a, b = lines(one), lines(other)
    return 1.0 - len(a & b) / len(a | b) if a | b else 0.0


def parent(
    accepted: Sequence[Judged], taken: Sequence[Candidate], rng: random.Random
) -> Candidate | None:
    """One of `accepted` (the best first), drawn by rank; those unlike what other conversations
    have `taken` are favoured. None where there is none."""
    elite = [c for c, _ in accepted[:ELITE]]
    if not elite:
        return None
    weights = []
    for rank, candidate in enumerate(elite):
        near = min((distance(candidate, other) for other in taken), default=1.0)
        weights.append(PRESSURE**rank * (1e-3 + near) ** NEW)
    return rng.choices(elite, weights)[0]


def diverse(
    accepted: Sequence[Judged], count: int, apart_from: Sequence[Candidate]
) -> list[Judged]:
    """Up to `count` of `accepted`, each as far as possible from `apart_from` and one another."""
    found: list[Judged] = []
    left = [pair for pair in accepted if pair[0] not in apart_from]
    while left and len(found) < count:
        near = [*apart_from, *(c for c, _ in found)]
        far = max(left, key=lambda p: min((distance(p[0], c) for c in near), default=1.0))
        found.append(far)
        left.remove(far)
    return found


def dead_ends(judged: Sequence[Judged], count: int) -> list[Judged]:
    """The latest failures, each reason once; then steps that made their parent slower."""
    found: dict[str, Judged] = {}
    for candidate, verdict in reversed(judged):
        if not verdict.accepted:
            found.setdefault(f"{verdict.status} {verdict.reason[:60]}", (candidate, verdict))
    merits = {c.digest: v.merit for c, v in judged if v.accepted}
    for candidate, verdict in reversed(judged):
        before = next((m for d, m in merits.items() if d.startswith(_first(candidate))), None)
        if verdict.accepted and before is not None and verdict.merit < before:
            found.setdefault(f"slower {candidate.intent}", (candidate, verdict))
    return list(found.values())[:count]


def _first(candidate: Candidate) -> str:
    return candidate.parents[0] if candidate.parents else "-"
