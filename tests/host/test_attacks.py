"""A fixed share of the attack corpus; `make attacks` runs the whole of it."""

import pytest

from epitaxy.attacks import Range, chosen, corpus, main, row
from epitaxy.guards import GUARDS
from epitaxy.plugin import plugins

ATTACKS = [
    "half_the_rows", "identity", "marks_its_input", "content_cache", "reads_clock",
    "double_output", "patches_torch", "python_half_precision",
]  # fmt: skip
CONTROLS = ["plain_lean", "own_scratch", "plain_wave", "torch_in_place"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    print("a share of the corpus only: `make attacks` runs the whole")
    it = Range(tmp_path_factory.mktemp("attacks"))
    yield it
    it.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_only_its_guard_does_it(place, name):
    outcome = place.fire(*chosen([name]))
    assert not outcome.fault, row(outcome)


@pytest.mark.parametrize("name", CONTROLS)
def test_honest_code_that_looks_odd_is_accepted(place, name):
    outcome = place.fire(*chosen([name]))
    assert not outcome.fault, row(outcome)


def test_every_specimen_names_guards_that_exist():
    known = {*GUARDS, *plugins("checks").names()}
    named = {guard for s in corpus() for guard in (s.guard, *s.off) if guard}
    assert named <= known
    assert len({s.name for s in corpus()}) == len(corpus())


def test_an_unknown_attack_is_said(capsys):
    assert main(["identitty"]) == 2
    assert "identity" in capsys.readouterr().err
