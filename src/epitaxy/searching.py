"""Searching the ledger: what worked, what did not, on this problem and on others like it."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from functools import cache

from epitaxy.candidate import Candidate
from epitaxy.cards import DeadEnd, Hit, SearchCard
from epitaxy.errors import BadInput
from epitaxy.ledger import Judged, Ledger
from epitaxy.problem import Problem
from epitaxy.profiled import limits
from epitaxy.verdict import Verdict

MOST_PROBLEMS = 60
"""Other problems that are looked through, the likest first."""
MOST_WORDS, MOST_LETTERS = 20, 400
ALIKE = 0.25
"""Share of operators in common from which a problem is named as similar."""
_OPERATOR = re.compile(r"\b(?:torch|F|nn|functional)\.([A-Za-z_]\w+)")
_PLUMBING = frozenset(
    {"Module", "Tensor", "functional", "randn", "rand", "nn", "Parameter", "float32"}
)
_NUMBER = re.compile(r"\d[\d.e+-]*")


def operators(problem: Problem) -> frozenset[str]:
    """Names of PyTorch's operators in a problem's source, in lower case."""
    return frozenset(n.lower() for n in _OPERATOR.findall(problem.source) if n not in _PLUMBING)


def similarity(one: Problem, other: Problem) -> float:
    """Shared operators over all operators of both: 0 to 1."""
    a, b = operators(one), operators(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def search(
    ledger: Ledger, like: Problem, words: str, only: Problem | None, most: int
) -> SearchCard:
    """Candidates that hold all `words`, for the problem `only` or (None) for all, those like
    `like` first; at most `most` that worked and as many dead ends. Raises BadInput.
    """
    ranked = sorted(ledger.problems(), key=lambda p: -similarity(p, like))
    near = [p for p in ranked if p.digest != like.digest and similarity(p, like) >= ALIKE]
    problems = [p for p in ranked if only is None or p.digest == only.digest]
    wanted = _wanted(words)
    limited = cache(lambda digest: limits(next(iter(ledger.profiles(digest)), None)))
    machines = cache(lambda digest: _machine(ledger.machine(digest)))
    found: list[tuple[Problem, Judged]] = []
    for problem in problems[:MOST_PROBLEMS]:
        about = f"{problem.name} {' '.join(operators(problem))}"
        for pair in ledger.judged(problem.digest):
            text = _text(about, *pair, limited(pair[0].digest)) if wanted else ""
            if all(word in text for word in wanted):
                found.append((problem, pair))
    order = {p.digest: i for i, p in enumerate(problems)}
    worked = sorted(
        (hit for hit in found if hit[1][1].accepted),
        key=lambda hit: (order[hit[0].digest], -hit[1][1].merit),
    )
    return SearchCard(
        worked=tuple(
            _hit(p, pair, limited(pair[0].digest), machines(pair[1].machine))
            for p, pair in worked[: max(0, most)]
        ),
        dead_ends=tuple(_dead_ends([pair for _, pair in found])[: max(0, most)]),
        similar=tuple(dict.fromkeys(p.name for p in near))[:10],
        considered=len(found),
    )


def _wanted(words: str) -> frozenset[str]:
    wanted = frozenset(words.lower().split())
    if len(wanted) > MOST_WORDS or len(words) > MOST_LETTERS:
        raise BadInput(
            f"{len(words)} letters to search for",
            f"give at most {MOST_WORDS} words and {MOST_LETTERS} letters",
        )
    return wanted


def _text(about: str, candidate: Candidate, verdict: Verdict, limited: tuple[str, ...]) -> str:
    parts = (
        *limited,
        about,
        candidate.intent,
        candidate.genome,
        candidate.toolchain,
        candidate.proposer,
    )
    return " ".join([*parts, *candidate.regions, verdict.status, verdict.reason]).lower()


def _hit(problem: Problem, pair: Judged, limited: tuple[str, ...], machine: str) -> Hit:
    candidate, verdict = pair
    return Hit(
        candidate=candidate.id,
        problem=problem.id,
        name=problem.name,
        machine=machine,
        status=verdict.status,
        speedup=verdict.speedup,
        time_s=verdict.time_s,
        intent=candidate.intent,
        genome=candidate.genome,
        reason=verdict.reason,
        limits=limited,
    )


def _machine(fingerprint: Mapping[str, str]) -> str:
    """A machine in a few words: the chip that it stands for, or its processor and cores."""
    if fingerprint.get("chip"):
        return fingerprint["chip"]
    named = fingerprint.get("cpu") or fingerprint.get("machine") or "unknown"
    cores = fingerprint.get("cores")
    return f"{named}, {cores} cores" if cores else named


def _dead_ends(pairs: list[Judged]) -> list[DeadEnd]:
    """Reasons of failures, numbers in them aside, the commonest first."""
    kinds: dict[str, list[Judged]] = collections.defaultdict(list)
    for candidate, verdict in pairs:
        if not verdict.accepted:
            kinds[_NUMBER.sub("#", verdict.reason)].append((candidate, verdict))
    ranked = sorted(kinds.values(), key=lambda group: -len(group))
    return [
        DeadEnd(reason=group[-1][1].reason[:300], times=len(group), example=group[-1][0].id)
        for group in ranked
    ]
