"""Top-k: PyTorch's values, and its places also among equals and around NaN."""

from dataclasses import replace

import pytest
import torch
from grown_case import build_all, run

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import RegionCall

# (rows, size, k, largest, sorted)
SHAPES = [
    (9, 8, 2, True, True),
    (5, 33, 3, False, True),
    (4, 200, 3, True, True),
    (3, 300, 40, True, True),
    (6, 70, 70, True, True),
    (4, 257, 5, False, True),
    (3, 40, 6, True, False),
]


def kinds(rows, size):
    """Plain numbers, many equal ones, all equal, NaN, infinities."""
    x = torch.randn(rows, size)
    spoiled = x.clone()
    spoiled[0, size // 2] = torch.nan
    spoiled[1, ::3] = torch.nan
    endless = x.clone()
    endless[0, : size // 2], endless[1, 1], endless[2, -3:] = -torch.inf, torch.inf, torch.inf
    return [x, (x * 2).round(), torch.zeros_like(x), spoiled, endless, -endless]


def picker(k, largest, in_order):
    return lambda x: torch.topk(x, k, largest=largest, sorted=in_order)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    regions, genome = [], []
    for number, (rows, size, *form) in enumerate(SHAPES):
        program = capture(picker(*form), [torch.randn(rows, size)], accept=writable)
        (step,) = program.steps
        assert isinstance(step, RegionCall)
        assert step.framework
        regions.append(replace(step.region, name=f"picks{number}"))
        genome.append((f"picks{number}", Choices(width=(4, 8, 16)[number % 3])))
    return regions, build_all(regions, Genome(tuple(genome)), tmp_path_factory.mktemp("picks"))


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_values_and_places_are_pytorchs(number, grown):
    rows, size, k, largest, in_order = SHAPES[number]
    regions, library = grown
    for x in kinds(rows, size):
        wanted = torch.topk(x, k, largest=largest, sorted=in_order)
        values, places = run(library, regions[number], [x])
        torch.testing.assert_close(values, wanted.values, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(places, wanted.indices)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.topk(x, 2, dim=0)[0] * 2,
        lambda x: torch.topk(x, 200)[0] * 2,
        lambda x: torch.topk(x.double(), 2)[0] * 2,
    ],
)
def test_other_forms_stay_with_pytorch(function):
    x = torch.randn(3, 256)
    program = capture(function, [x], accept=writable)
    assert any("topk" in name for name in program.left)
    torch.testing.assert_close(run_program(program, {}, [x])[0], function(x))
