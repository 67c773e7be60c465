"""Asking the grower from outside a search: its next candidates, or a sweep around a genome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.cards import GrowCard, Grown, VerdictCard
from epitaxy.errors import BadInput
from epitaxy.plugin import plugins
from epitaxy.record import FrozenDict
from epitaxy.study import Budget, Study

Spaces = Mapping[str, Mapping[str, Sequence[int]]]


def grow(
    desk: Any, genome: str, vary: Mapping[str, Sequence[int]], count: int
) -> tuple[Sequence[Candidate], str, Spaces]:
    """Up to `count` candidates for a desk's problem and machine, why there are fewer, and the
    values of each decision by region (none where the grower writes in another language).

    Raises BadInput and BadProblem.
    """
    grower = plugins("proposers").get("grower")
    study = Study(
        desk.problem, desk.machine, grower, desk.ledger, Budget(candidates=count), judge=_NONE
    )
    view = study.view()
    if genome or vary:
        return grower.around(view, genome, vary, count), "", grower.decisions(view)
    asked = study.ask(count)
    reason = grower.stop_reason() if len(asked) < count else ""
    try:
        return asked, reason, grower.decisions(view)
    except BadInput:
        return asked, reason, {}


class _None:
    """A judge that is never asked: growing alone judges nothing."""

    notes = ()


_NONE = _None()


def grow_card(
    grown: Sequence[Candidate], verdicts: Mapping[str, VerdictCard], spaces: Spaces, reason: str
) -> GrowCard:
    """What was grown, the fastest first, with the decisions that may be written."""
    from epitaxy.proposers.grower.genome import DECISIONS

    rows = [
        Grown(
            candidate=c.id,
            genome=c.genome,
            intent=c.intent,
            regions=c.regions,
            left=c.left,
            verdict=verdicts.get(c.id),
        )
        for c in grown
    ]
    values = {f"{r}.{d}": options for r, space in spaces.items() for d, options in space.items()}
    named = sorted({name.partition(".")[2] for name in values})
    return GrowCard(
        grown=tuple(sorted(rows, key=_rank)),
        decisions=FrozenDict({k: ", ".join(map(str, v)) for k, v in values.items()}),
        meaning=FrozenDict({name: DECISIONS[name] for name in named}),
        reason=reason,
    )


def _rank(row: Grown) -> float:
    return -((row.verdict and row.verdict.speedup) or 0.0)
