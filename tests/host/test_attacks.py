"""A share of the attack corpus, spread over the guards; `make attacks` runs the whole of it."""

import pytest

from epitaxy.attacks import (
    Range,
    absent,
    chosen,
    corpus,
    main,
    refused_by_reading,
    row,
    run,
    summary,
    unrun,
)
from epitaxy.guards import GUARDS
from epitaxy.plugin import plugins

WITH_TIMES = ["content_cache", "rewrites_the_loop"]
ATTACKS = [
    "half_the_rows", "marks_its_input", "lazy_list", "same_buffer",
    "never_writes_zeros", "folds_its_own_weights",
]  # fmt: skip
LUCK = {"never_writes_zeros": 5}
"""Attacks that go through without their guard only while nobody else is given the same memory, and
how often they may try again."""
CONTROLS = ["own_scratch", "thread_pool", "torch_in_place"]
STATIC = ("sources", "clocks", "opaque", "patches", "libraries")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    print("a share of the corpus only: `make attacks` runs the whole")
    it = Range(tmp_path_factory.mktemp("attacks"))
    yield it
    it.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_only_its_guard_does_it(place, name):
    outcome = place.fire(*chosen([name]))
    for _ in range(LUCK.get(name, 0)):
        outcome = place.fire(*chosen([name])) if outcome.fault else outcome
    assert not outcome.fault, row(outcome)


@pytest.mark.parametrize("name", WITH_TIMES)
def test_an_attack_on_the_clock_is_refused_by_its_guard(place, name):
    (it,) = chosen([name])
    verdict = place.judge(it, it.also)
    assert not verdict.accepted
    assert verdict.reason.startswith(it.guard), verdict.reason


@pytest.mark.parametrize("name", CONTROLS)
def test_honest_code_that_looks_odd_is_accepted(place, name):
    outcome = place.fire(*chosen([name]))
    assert not outcome.fault, row(outcome)


def test_static_checks_refuse_each_attack_of_theirs_alone():
    for it in corpus():
        if it.guard in STATIC or it.honest:
            said = set(refused_by_reading(it))
            assert said - set(it.also) == ({it.guard} if it.guard else set()), (it.name, said)


def test_what_needs_a_gpu_is_told_apart_and_its_sources_are_read():
    """Without a GPU it is not run, and counted aloud; static checks refuse what they name."""
    left = [it for it in corpus() if it.device != "cpu"]
    attacks = [it for it in left if not it.honest]
    assert len(attacks) >= 10
    for it in attacks:
        named = {it.guard, *it.also} & set(STATIC)
        assert set(refused_by_reading(it)) == named, it.name
    cpu = plugins("machines").get("cpu")
    assert absent(corpus(), cpu) == left
    assert list(run(left[:1], cpu)) == []
    read = sum(bool({it.guard, *it.also} & set(STATIC)) for it in attacks)
    assert f"NOT RUN: {len(attacks)} attacks and {len(left) - len(attacks)} honest" in unrun(left)
    assert f"refuses {read} of those" in unrun(left)


def test_every_specimen_names_guards_that_exist():
    known = {*GUARDS, *plugins("checks").names()}
    named = {guard for s in corpus() for guard in (s.guard, *s.also) if guard}
    assert named <= known
    assert len({s.name for s in corpus()}) == len(corpus())
    honest = sum(s.honest for s in corpus())
    assert len(corpus()) - honest >= 80
    assert honest >= 30


def test_every_guard_has_an_attack_of_its_own():
    assert {*GUARDS, *plugins("checks").names()} == {s.guard for s in corpus() if s.guard}


def test_the_summary_counts_what_went_wrong(place):
    (it,) = chosen(["half_the_rows"])
    outcome = place.fire(it)
    assert "1 attacks on 1 guards" in summary([outcome])
    assert "0 undeserved" in summary([outcome])


def test_an_unknown_attack_is_said(capsys):
    assert main(["identitty"]) == 2
    assert "identity" in capsys.readouterr().err
