"""The same kernel at a size that the caches hold: is it memory that takes the time?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadCandidate, EpitaxyError
from epitaxy.growing import grow
from epitaxy.ledger import Ledger
from epitaxy.plugin import plugins
from epitaxy.problem import Problem

HELD = 0.25
"""Share of the last cache that the smaller problem may take: inputs take turns, and others live
there too."""
LEAST_NUMEL = 1 << 15
ALIKE = 1.25
"""Arithmetic per byte may change by this factor between the sizes; else time per byte says
nothing."""


def cut_down(candidate: Candidate, problem: Problem, machine: Any) -> tuple[Candidate, Problem]:
    """The candidate written anew for a smaller problem, from its genome, and that problem.

    Raises BadCandidate with the reason where that cannot be.
    """
    if not candidate.genome:
        raise BadCandidate(
            "it is fixed to its shapes, and has no genome to be written smaller from", ""
        )
    small = _problem(problem, machine.chip())
    with tempfile.TemporaryDirectory(prefix="epitaxy-") as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        try:
            desk = SimpleNamespace(problem=small, machine=machine, ledger=ledger)
            _, _, spaces = grow(desk, "", {}, 1)
            grown, reason, _ = grow(desk, _fitting(candidate.genome, spaces), {}, 1)
        except EpitaxyError as error:
            raise BadCandidate(
                f"its genome cannot be written smaller: {error.message}", ""
            ) from None
        finally:
            ledger.close()
    if not grown:
        raise BadCandidate(f"it cannot be written smaller: {reason or 'no kernel'}", "")
    return grown[0], small


def _fitting(genome: str, spaces: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """The decisions of a genome that a smaller problem takes, with the values it may have."""
    from dataclasses import asdict

    from epitaxy.proposers.grower.genome import parse

    told = []
    for region, choices in parse(genome).regions:
        space = spaces.get(region, {})
        kept = [f"{k}={v}" for k, v in asdict(choices).items() if v in space.get(k, ())]
        if kept:
            told.append(f"{region}({' '.join(kept)})")
    return " ".join(told)


def _problem(whole: Problem, chip: Chip) -> Problem:
    """The same module at a size that the last cache holds. Raises BadCandidate."""
    caches = [v.bytes for v in chip.levels[:-1] if v.bytes]
    if not caches or whole.working_set_bytes <= HELD * caches[-1]:
        raise BadCandidate("the caches hold it as it is", "")
    plugin = plugins("references").get(whole.reference)
    numel = max(LEAST_NUMEL, int(HELD * caches[-1] / 4))
    small: Problem | None = plugin.smaller(whole, numel) if hasattr(plugin, "smaller") else None
    if small is None or small.working_set_bytes > 2 * HELD * caches[-1]:
        raise BadCandidate("the problem cannot be made smaller", "")
    big, little = (p.work.flops / max(p.work.bytes, 1) for p in (whole, small))
    if max(big, little) > ALIKE * max(min(big, little), 0.01):
        raise BadCandidate("its arithmetic per byte changes with its size", "")
    return small
