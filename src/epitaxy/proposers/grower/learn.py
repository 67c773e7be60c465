"""A cost model learned from the ledger: gradient-boosted trees rank genomes before they are built.

Every accepted verdict is one row: features of its problem and the decisions of its genome, and the
logarithm of its time as a share of what that problem's candidates take. Ratios to a baseline that
was timed beside them stand for times, so that rows of other days and loads compare.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.problem import Problem, TensorSpec
from epitaxy.proposers.grower.genome import Choices, Genome, parse

LEAST_ROWS = 16
"""Fewer judged candidates teach nothing."""
OWN_WEIGHT = 4.0
"""What one row of the problem at hand counts, beside one of another problem."""
DECISIONS = tuple(f.name for f in fields(Choices))
Outcome = tuple[Problem, str, float]
"""(problem, printed genome, speed-up over a baseline that was timed beside it)"""


def available() -> bool:
    """Whether scikit-learn can be imported here."""
    from importlib.util import find_spec

    return find_spec("sklearn") is not None


def features(problem: Problem, genome: Genome) -> list[float]:
    """Numbers that a model can learn from, always as many: sizes and decisions, as logarithms.

    Decisions are those of the first region and the means of the others.
    """
    work = problem.work
    row = [_log(work.flops), _log(work.bytes_read), _log(work.bytes_written)]
    tensors = [s for s in (*problem.inputs, *problem.parameters) if s is not None]
    for spec in (*[*tensors, None, None][:2], problem.outputs[0]):
        row += _sizes(spec)
    first, others = genome.regions[0][1], [c for _, c in genome.regions[1:]]
    row.append(float(len(genome.regions)))
    for name in DECISIONS:
        value = _log(getattr(first, name))
        rest = [_log(getattr(c, name)) for c in others]
        row += [value, statistics.fmean(rest) if rest else value]
    return row


def _sizes(spec: TensorSpec | None) -> list[float]:
    shape = spec.shape if spec is not None else ()
    last = [*(1,) * 2, *shape][-2:]
    return [_log(math.prod(shape)), *map(_log, last)]


def _log(value: float) -> float:
    return math.log2(1 + max(0.0, float(value)))


class CostModel:
    """Ranks genomes of one problem by what it has learned."""

    def __init__(self, problem: Problem, trees: Any, rows: int) -> None:
        self.problem, self.rows = problem, rows
        self._trees = trees

    def rank(self, genomes: Sequence[Genome]) -> list[int]:
        """The positions in `genomes`, the one that should be fastest first."""
        if not genomes:
            return []
        with _alone():
            predicted = self._trees.predict([features(self.problem, g) for g in genomes])
        return sorted(range(len(genomes)), key=lambda i: (float(predicted[i]), i))


def fit(problem: Problem, outcomes: Sequence[Outcome]) -> CostModel | None:
    """A model for `problem` from outcomes of it and of others; None where they are too few, or
    scikit-learn is missing (`epitaxy doctor` says so)."""
    groups: dict[str, list[tuple[list[float], float]]] = {}
    for of, text, speedup in outcomes:
        genome = _parsed(text)
        if genome is not None and speedup > 0:
            row = features(of, genome), -math.log(speedup)
            groups.setdefault(of.digest, []).append(row)
    rows = sum(map(len, groups.values()))
    if rows < LEAST_ROWS or not available():
        return None
    inputs, wanted, weights = [], [], []
    for digest, group in groups.items():
        middle = statistics.median(y for _, y in group)
        for x, y in group:
            inputs.append(x)
            wanted.append(y - middle)
            weights.append(OWN_WEIGHT if digest == problem.digest else 1.0)
    return CostModel(problem, _trees(inputs, wanted, weights), rows)


def _trees(inputs: list[list[float]], wanted: list[float], weights: list[float]) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(
        max_iter=80, learning_rate=0.1, max_leaf_nodes=15, min_samples_leaf=3,
        l2_regularization=1.0, early_stopping=False, random_state=0,
    )  # fmt: skip
    with _alone():
        return trees.fit(inputs, wanted, sample_weight=weights)


def _alone() -> Any:
    """One thread: small trees with a team that waits for busy cores took minutes."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


@cache
def _parsed(text: str) -> Genome | None:
    """The genome, or None when it knows decisions that are no more."""
    try:
        return parse(text)
    except BadInput:
        return None
