"""Long sums of equal values, where every addition errs the same way: as exact as PyTorch's."""

from __future__ import annotations

import pytest
import torch
from grown_case import Together

from epitaxy.proposers.grower.genome import Choices

LIMIT = 16 * 2.0**-23
"""What the judge always allows."""
VALUE = 0.1


def total(*dims):
    """A sum over these dimensions."""
    return lambda x: x.sum(dims)


def spread(x):
    """Mean squared distance from 0.3, over all but the first two dimensions."""
    return ((x - 0.3) ** 2).mean((2, 3, 4))


CASES = {
    "rows": (total(1), (2, 70000)),
    "very long rows": (total(1), (1, 4096 * 300)),
    "short rows, many": (total(1, 2), (2, 5000, 24)),
    "rows of a volume": (total(2, 3, 4), (2, 3, 31, 63, 63)),
    "rows of an image, longer than a block": (total(1, 2), (2, 300, 5000)),
    "squares of a volume": (spread, (2, 3, 40, 50, 30)),
    "columns": (total(0), (20000, 48)),
    "columns, up to where they are added plainly": (total(0), (512, 48)),
    "columns of an image": (total(0, 2), (130, 7, 90, 33)),
}
CHOICES = (Choices(width=16), Choices(width=8, unroll=1))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases, compiled together."""
    made = Together()
    for name, (function, shape) in CASES.items():
        made.add(name, function, [torch.full(shape, VALUE)], *CHOICES)
    return made.build(tmp_path_factory.mktemp("sums"))


@pytest.mark.parametrize("number", range(len(CHOICES)))
@pytest.mark.parametrize("name", CASES)
def test_equal_values_add_up_as_exactly_as_they_should(name, number, grown):
    function, shape = CASES[name]
    x = torch.full(shape, VALUE)
    exact = function(x.double())
    (found,) = grown.outputs(name, number, [x])
    assert ((found - exact).abs() / exact.abs()).max() <= LIMIT
