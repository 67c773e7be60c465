"""What a kernel over rows fetches early, and what it keeps between its passes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS
from grown_case import Together
from test_chunks import captured

from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices

TOKENS = torch.randint(0, 50, (3, 37), generator=torch.Generator().manual_seed(0))
TABLE = torch.randn(50, 45)


def normalised(tokens, table, places):
    return F.layer_norm(F.embedding(tokens, table) + places, (45,))


CASES = {
    "chosen rows": (F.embedding, (TOKENS, TABLE)),
    "chosen rows, normalised": (normalised, (TOKENS, TABLE, torch.randn(37, 45))),
    "logarithm of a softmax": (lambda x: F.log_softmax(x, 1), (torch.randn(19, 93),)),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases with rows fetched early."""
    together = Together()
    for name, (function, inputs) in CASES.items():
        together.add(name, function, inputs, Choices(ahead=1, stream=1), Choices(ahead=1, width=16))
    return together.build(tmp_path_factory.mktemp("fetching"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("number", range(2))
def test_it_computes_what_pytorch_does(name, number, grown):
    function, inputs = CASES[name]
    (out,) = grown.outputs(name, number, inputs)
    torch.testing.assert_close(out, function(*inputs), rtol=2e-6, atol=2e-6)


def written(name, **choices):
    region, _ = captured(*CASES[name])
    return emit_region(region, Choices(**choices))


def test_rows_that_data_chooses_are_fetched_some_rows_early():
    assert "epx::prefetch(x1 + i + s" in written("chosen rows", ahead=1)
    assert "epx::prefetch" not in written("chosen rows", ahead=0)
    assert 1 in space.space(captured(*CASES["chosen rows"])[0], GENEROUS)["ahead"]


def test_the_next_row_is_fetched_beside_the_exponentials():
    text = written("logarithm of a softmax", ahead=1)
    exponentials = text.index("epx::exp_fast")
    assert exponentials < text.index("epx::prefetch") < text.index("auto pass2")


def test_values_are_kept_once_and_cheap_ones_not_at_all():
    assert written("chosen rows, normalised").count("Scratch<float> kept") == 1
    assert "Scratch" not in written("logarithm of a softmax")


WHICH = {
    "all of them": lambda tokens, table: F.embedding(tokens, table),
    "in another order": lambda tokens, table: F.embedding(tokens.t(), table),
    "some of them": lambda tokens, table: F.embedding(tokens[:, 1:30], table),
}


@pytest.fixture(scope="module")
def looked_up(tmp_path_factory):
    """Rows of a table, by all numbers of a tensor or by some."""
    together = Together()
    for name, function in WHICH.items():
        together.add(name, function, (TOKENS, TABLE), Choices())
    return together.build(tmp_path_factory.mktemp("looked_up"))


@pytest.mark.parametrize("name", WHICH)
@pytest.mark.parametrize("wrong", [-1, 50, 1 << 40, -(1 << 63), (1 << 32) + 3])
def test_a_call_with_numbers_outside_the_table_is_refused(name, wrong, looked_up):
    assert looked_up.called(name, 0, (TOKENS, TABLE))[1] == 0
    tokens = TOKENS.clone()
    tokens[2, 7] = wrong
    assert looked_up.called(name, 0, (tokens, TABLE))[1] == 1


def test_bounds_of_all_numbers_are_looked_at_once():
    def text(name):
        region, _ = captured(WHICH[name], (TOKENS, TABLE))
        return emit_region(region, Choices())

    assert text("all of them").count("epx::outside(x0, 111, 0, 50)") == 1
    assert "bad1" not in text("in another order")
    assert "epx::beyond(x0, 111)" in text("some of them")
