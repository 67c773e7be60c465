"""Results put together from pieces along an axis, and positions found in many accumulators."""

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
from epitaxy.proposers.grower.pieces import pieced


def rotary(x, angle):
    a, b = x.chunk(2, dim=-1)
    c, s = angle.cos(), angle.sin()
    return torch.cat((a * c - b * s, a * s + b * c), dim=-1)


def halves_turned(x):
    a, b = x.chunk(2, dim=-1)
    return torch.stack((-b, a), -1).flatten(-2)


def with_nan(*shape):
    x = torch.randn(*shape)
    x[0, 1] = float("nan")
    return x


CASES = {
    "rotary": (rotary, (torch.randn(2, 5, 7, 48), torch.randn(7, 24))),
    "three of unequal length": (
        lambda a, b, c: torch.cat((a * 2, b.exp(), c), 1) + 1,
        (torch.randn(5, 17), with_nan(5, 40), torch.randn(5, 20)),
    ),
    "along channels": (
        lambda a, b: torch.relu(torch.cat((a, b), 1)),
        (with_nan(3, 2, 5, 5), torch.randn(3, 4, 5, 5)),
    ),
    "and pooled": (
        lambda a, b: F.max_pool2d(torch.cat((a, b), 1), 3, 2, ceil_mode=True),
        (with_nan(3, 2, 10, 10), torch.randn(3, 4, 10, 10)),
    ),
    "in turns": (halves_turned, (torch.randn(6, 34),)),
    "within its own rows": (
        lambda x: torch.cat((x[:, 16:], x[:, :16] * 3), 1),
        (torch.randn(9, 50),),
    ),
    "with what goes on": (
        lambda a, b: torch.cat((a, b), 1).softmax(1),
        (torch.randn(4, 32), torch.randn(4, 32)),
    ),
}
TIES = torch.tensor([3.0, 1.0, 1.0, 2.0]).repeat(3, 60)
NANS = torch.randn(3, 301)
NANS[0, 7], NANS[0, 290], NANS[1, 300], NANS[2] = (float("nan"),) * 3 + (float("inf"),)
POSITIONS = {
    "ties": (lambda x: (x.argmin(1), x.argmax(1)), (TIES,)),
    "nan and infinities": (lambda x: (x.argmin(1), x.argmax(1)), (NANS,)),
    "nan among maxima": (lambda x: (x.amax(1), x.amin(1)), (NANS,)),
    "least of all": (lambda x: x.argmax(1), (torch.full((2, 77), -float("inf")),)),
    "running product": (lambda x: x.cumprod(1), (1 + 0.1 * torch.randn(4, 333),)),
    "indices": (lambda i, x: x[i] * 2, (torch.randint(0, 40, (9, 35)), torch.randn(40))),
}
ALL = CASES | POSITIONS
WRITTEN = (Choices(), Choices(width=16, unroll=2, stream=1), Choices(width=32, unroll=1))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases at three widths."""
    together = Together()
    for name, (function, inputs) in ALL.items():
        together.add(name, function, inputs, *WRITTEN)
    return together.build(tmp_path_factory.mktemp("pieces"))


@pytest.mark.parametrize("number", range(len(WRITTEN)))
@pytest.mark.parametrize("name", ALL)
def test_it_computes_what_pytorch_does(name, number, grown):
    function, inputs = ALL[name]
    wanted = function(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for out, want in zip(grown.outputs(name, number, inputs), wanted, strict=True):
        torch.testing.assert_close(out, want, rtol=3e-6, atol=3e-6, equal_nan=True)


def written(name):
    return emit_region(captured(*CASES[name])[0], Choices())


def test_both_halves_come_from_one_reading_of_both():
    text = written("rotary")
    assert text.count("epx::get<V>(tail, x0") == 2
    assert text.count("epx::cos") == text.count("epx::sin") == 1
    assert "get_guarded" not in text
    assert "select" not in text


def test_pieces_of_unequal_length_are_loops_of_their_own():
    text = written("three of unequal length")
    assert text.count("// kernel") == 3
    assert "select" not in text


def test_a_pool_of_what_is_put_together_is_cut_too():
    region, _ = captured(*CASES["and pooled"])
    stores = pieced(region).stores
    assert [a.size for s in stores for a in s.axes if a not in region.stores[0].axes] == [2, 4]
    first, second = written("and pooled").split("// kernel")[1:]
    assert "x1 + " not in first
    assert "x0 + " not in second


@pytest.mark.parametrize("name", ["in turns", "with what goes on"])
def test_short_runs_and_reduced_values_stay_whole(name):
    region, _ = captured(*CASES[name])
    assert pieced(region) is region


def test_short_rows_are_fetched_a_page_ahead_where_vectors_are_long():
    shapes = (torch.randn(8, 64, 1024, 16), torch.randn(1024, 8))
    region, _ = captured(rotary, shapes)
    chip = GENEROUS.replace(vector_bytes=64)
    assert space.first_guess(region, chip).prefetch == 64
    assert space.first_guess(region, GENEROUS).prefetch == 0


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: x.argmin(1), 128),
        (lambda x, y: x.square().sum(), 128),
        (lambda x, y: (x - y).square().sum(), 0),
        (lambda x, y: torch.softmax(x, 1), 0),
        (lambda x, y: torch.relu(x), 0),
        (lambda x, y: x.cumsum(1), 128),
        (lambda x, y: (x * y).cumsum(1), 128),
        (lambda x, y: (x * y).flip(1).cumsum(1).flip(1), 128),
    ],
)
def test_a_single_stream_is_fetched_early(function, expected):
    region, _ = captured(function, [torch.zeros(4096, 4096), torch.zeros(4096, 4096)])
    chip = GENEROUS.replace(vector_bytes=64)
    assert space.first_guess(region, chip).prefetch == expected
    assert space.first_guess(region, GENEROUS).prefetch == 0


@pytest.mark.parametrize(("length", "distance"), [(4096, 4096), (8192, -2048)])
def test_rows_from_their_ends_are_fetched_the_other_way(length, distance):
    rows = torch.zeros(4096, length)
    region, _ = captured(lambda x: x.flip(1).cumsum(1).flip(1), [rows])
    text = emit_region(region, Choices(width=16, prefetch=128))
    assert f"epx::prefetch(x0 + i0_ * {length} + i + {distance})" in text


@pytest.mark.parametrize(
    ("function", "shape", "streamed"),
    [
        (torch.relu, (600, 4096), 1),
        (torch.relu, (300, 4096), 0),
        (lambda x: torch.softmax(x, 1), (600, 4096), 1),
        (lambda x: torch.softmax(x, 1), (45000, 55), 0),
        (lambda x: torch.softmax(x, 1), (90000, 55), 1),
        (lambda x: x.cumsum(1), (600, 4096), 1),
        (lambda x: x.sum(1), (4096, 4096), 0),
        (lambda x: F.avg_pool2d(x, 3, 1, 1), (32, 32, 56, 56), 0),
    ],
)
def test_whole_lines_of_large_results_go_past_a_cache_of_32_mib(function, shape, streamed):
    """From 8 MiB on where 16 move; what ends within lines from 16 MiB on."""
    region, _ = captured(function, [torch.zeros(shape)])
    assert space.first_guess(region, GENEROUS.replace(vector_bytes=64)).stream == streamed
