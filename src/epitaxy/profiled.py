"""Profiles as the ledger keeps them, beside the verdicts on their candidates."""

from __future__ import annotations

from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.diagnose import diagnose
from epitaxy.ledger import machine_digest
from epitaxy.metric import Profiled
from epitaxy.timing import unix_s

SHOWN = 3
"""Limits named in one line."""


def kept(found: Any, candidate: Candidate, machine: Any) -> Profiled:
    """What `epitaxy.profiling.profile` measured, as the ledger keeps it."""
    return Profiled(
        candidate=candidate.digest,
        problem=candidate.problem,
        machine=machine_digest(machine.fingerprint()),
        profile=found.profile,
        loop=found.loop.summary if found.loop else "no loop was found",
        taken_unix_s=unix_s(),
    )


def limits(taken: Profiled | None) -> tuple[str, ...]:
    """What limited a candidate by its profile, the heaviest first: "few_threads 50%"."""
    if taken is None:
        return ()
    found = diagnose([taken.profile]).bottlenecks[:SHOWN]
    return tuple(f"{b.rule} {b.gain:.0%}" if b.gain is not None else b.rule for b in found)
