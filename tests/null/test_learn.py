"""The learned cost model: it ranks what it has seen the like of, and the search heeds it."""

import itertools
import math
import random

import fake_records
import pytest

from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.learn import LEAST_ROWS, features, fit
from epitaxy.proposers.grower.moves import EXPLORE, moves

SPACES = {"region0": {"unroll": (1, 2, 4, 8), "tile": (16, 32, 64, 128), "stream": (0, 1)}}


def genome(**choices):
    return Genome((("region0", Choices(**choices)),))


EVERY = [
    genome(unroll=u, tile=t, stream=s)
    for u, t, s in itertools.product(*(SPACES["region0"][d] for d in ("unroll", "tile", "stream")))
]


def speedup(of):
    """Best at unroll 4, tile 32, with streaming."""
    chosen = of.of("region0")
    off = abs(math.log2(chosen.unroll / 4)) + abs(math.log2(chosen.tile / 32)) + 1 - chosen.stream
    return 2.0 * 0.8**off


def outcomes(problem, genomes):
    return [(problem, str(g), speedup(g)) for g in genomes]


def test_features_are_as_many_for_every_genome():
    problem = fake_records.problem()
    two = Genome((("region0", Choices()), ("region1", Choices(tile=16))))
    assert len(features(problem, two)) == len(features(problem, EVERY[0]))
    assert features(problem, EVERY[0]) != features(problem, EVERY[-1])


def test_another_problem_teaches_which_genomes_are_fast():
    other = fake_records.problem(name="another", source="class Model: pass\n")
    model = fit(fake_records.problem(), outcomes(other, EVERY))
    best = max(map(speedup, EVERY))
    ranked = [speedup(EVERY[i]) for i in model.rank(EVERY)]
    assert ranked[0] == pytest.approx(best)
    assert sorted(ranked[:8], reverse=True) > sorted(ranked[-8:], reverse=True)


def test_too_few_rows_teach_nothing():
    problem = fake_records.problem()
    few = EVERY[: LEAST_ROWS - 1]
    assert fit(problem, outcomes(problem, few)) is None
    assert fit(problem, outcomes(problem, EVERY[:LEAST_ROWS])) is not None


def test_decisions_that_are_no_more_are_left_alone():
    problem = fake_records.problem()
    old = [(problem, "region0(forgotten=1)", 3.0)] * 40
    assert fit(problem, old) is None


def test_the_search_takes_what_the_model_ranks_first_but_for_its_share_of_exploration():
    other = fake_records.problem(name="another", source="class Model: pass\n")
    model = fit(fake_records.problem(), outcomes(other, EVERY))
    elite = [(EVERY[0], "a"), (EVERY[5], "b")]
    found = list(moves([EVERY[0]], SPACES, elite, random.Random(0), model))
    plain = list(moves([EVERY[0]], SPACES, elite, random.Random(0)))
    assert found[0] == plain[0]
    assert {g for g, _, _ in found} >= {g for g, _, _ in plain}
    genomes = [g for g, _, _ in found[1:]]
    assert len(set(genomes)) == len(genomes)
    explored = [i for i, (_, why, _) in enumerate(found[1:], 1) if "ranked" not in why]
    assert explored[:3] == [EXPLORE, 2 * EXPLORE, 3 * EXPLORE]
    ranked = [speedup(g) for g, why, _ in found[1:] if "ranked" in why]
    assert sum(ranked[:5]) > sum(ranked[-5:])
