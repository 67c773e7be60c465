"""Functions that the C++ headers have for a combination of others: the same values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together

from epitaxy.proposers.grower.algebra import Map, Reduce, operands, walk
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.idioms import with_idioms

EDGES = [0.0, -0.0, 1e-40, -1e-40, 1e-5, -1e-5, 17.0, 20.0, 20.5, -20.0, 88.5, -88.5, 1e4, -1e4]
EDGES += [math.inf, -math.inf, math.nan]
X = torch.cat([torch.randn(1001, generator=torch.Generator().manual_seed(0)), torch.tensor(EDGES)])
P = torch.rand(1018, generator=torch.Generator().manual_seed(1)) + 1e-3
T = torch.cat(
    [P[:1010].flip(0), torch.tensor([0.0, 0.0, 1e-40, 1e30, math.inf, math.nan, -1.0, 1])]
)
Q = torch.cat([P[:1012], torch.tensor([1e-40, 1e-30, 2.0, 3.0, -1.0, 0.0])])

CASES = {
    "softplus": (F.softplus, (X,), {"softplus"}),
    "softplus with a step": (
        lambda x: F.softplus(x, threshold=1.0),
        (X,),
        {"where", "gt", "softplus"},
    ),
    "logsigmoid": (F.logsigmoid, (X,), {"softplus"}),
    "elu": (F.elu, (X,), {"expm1_low", "where", "gt"}),
    "selu": (F.selu, (X,), {"expm1_low"}),
    "celu": (lambda x: F.celu(x, 1.5), (X,), {"expm1_low"}),
    "expm1 where it may overflow": (
        lambda x: torch.where(x > 1, x, torch.expm1(x)),
        (X,),
        {"expm1"},
    ),
    "expm1 on the other side": (lambda x: torch.where(x > 0, torch.expm1(x), x), (X,), {"expm1"}),
    "divergence": (
        lambda x, t: F.kl_div(torch.log(x), t, reduction="none"),
        (Q, T),
        {"kl_term"},
    ),
    "divergence of logarithms": (
        lambda x, t: F.kl_div(x, t, reduction="none"),
        (X, T),
        {"log", "isnan"},
    ),
}


ROWS = torch.randn(4, 6, 49, generator=torch.Generator().manual_seed(2))
ROWS = torch.cat([ROWS, ROWS * 1e-3 + 100.0, ROWS * 1e3, torch.full((1, 6, 49), 3.3)])
NORMS = {
    "layer": lambda x: F.layer_norm(x, (49,)),
    "group": lambda x: F.group_norm(x, 2),
    "instance": lambda x: F.instance_norm(x),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases."""
    together = Together()
    for name, (function, inputs, _) in CASES.items():
        together.add(name, function, inputs, Choices(width=8))
    for name, function in NORMS.items():
        together.add(name, function, [ROWS], Choices(width=8), Choices(width=16, stash=0))
    return together.build(tmp_path_factory.mktemp("idioms"))


@pytest.mark.parametrize("name", CASES)
def test_the_same_values(grown, name):
    function, inputs, functions = CASES[name]
    (region,) = grown.regions(name)
    used = {v.fn for v in walk(with_idioms(region).roots) if isinstance(v, Map)}
    assert functions <= used
    new = {"softplus", "expm1_low", "kl_term"} & functions
    assert not new or not used & {"log", "log1p", "expm1"}
    wanted = function(*(x.double() for x in inputs))
    (made,) = grown.outputs(name, 0, inputs)
    torch.testing.assert_close(made.double(), wanted, rtol=1e-6, atol=2e-7, equal_nan=True)


@pytest.mark.parametrize("name", NORMS)
def test_norms_look_at_their_rows_once_less(grown, name):
    (region,) = grown.regions(name)
    count = lambda r: sum(isinstance(v, Reduce) for v in walk(r.roots))  # noqa: E731
    steps = lambda r: max(map(depth, walk(r.roots)))  # noqa: E731
    assert count(with_idioms(region)) == count(region) == 3
    assert (steps(with_idioms(region)), steps(region)) == (2, 3)
    exact = NORMS[name](ROWS.double())
    for number in range(2):
        (made,) = grown.outputs(name, number, [ROWS])
        torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=2e-5)
        spoiled = ROWS.clone()
        spoiled[2, 3, 5] = math.inf
        (made,) = grown.outputs(name, number, [spoiled])
        assert torch.equal(made.isnan(), NORMS[name](spoiled).isnan())


def depth(value):
    """How many reductions a value waits for, one after the other."""
    below = max(map(depth, operands(value)), default=0)
    return below + isinstance(value, Reduce)


def test_a_module_without_them_stays_as_it_is(grown):
    (region,) = grown.regions("expm1 on the other side")
    assert with_idioms(region) == region
