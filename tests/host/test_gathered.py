"""Results of convolutions that go past the caches leave as whole lines, wherever rows begin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable

torch.manual_seed(8)
T = torch.randn
CASES = {
    "rows of a block, one after the other": (F.conv2d, [T(2, 3, 10, 31), T(16, 3, 3, 3)]),
    "parts of a long row": (F.conv1d, [T(2, 4, 333), T(16, 4, 5)]),
    "a volume, and a tile of fewer filters": (
        lambda x, w, b: F.conv3d(x, w, b).relu(),
        [T(1, 3, 5, 7, 21), T(40, 3, 3, 3, 3), T(40)],
    ),
    "groups": (lambda x, w: F.conv2d(x, w, groups=2), [T(1, 6, 9, 23), T(32, 3, 3, 3)]),
    "beside another image": (
        lambda x, w, y: F.conv2d(x, w) * y,
        [T(2, 3, 7, 19), T(16, 3, 3, 3), T(2, 16, 5, 17)],
    ),
    "edges": (lambda x, w: F.conv2d(x, w, None, 1, 2), [T(1, 4, 11, 13), T(16, 4, 5, 5)]),
    "two phases of a stride": (
        lambda x, w: F.conv_transpose2d(x, w, None, (1, 2)),
        [T(1, 5, 6, 19), T(5, 16, 3, 4)],
    ),
}  # fmt: skip
TILES = [(12, 1), (26, 1), (9, 2)]


def choices(tile_m, tile_n, width=16, stream=1):
    return Choices(
        form=3, width=width, tile_m=tile_m, tile_n=tile_n, nc=96, mc=16 * tile_n, stream=stream
    )


def source_of(function, inputs, chosen):
    (step,) = capture(function, inputs, accept=writable).steps
    return emit_region(step.region, chosen)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    together = Together()
    for name, (function, inputs) in CASES.items():
        genomes = [*(choices(*tile) for tile in TILES), choices(9, 1, width=8)]
        together.add(name, function, inputs, *genomes)
    return together.build(tmp_path_factory.mktemp("gathered"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("number", range(len(TILES) + 1))
def test_they_compute_what_pytorch_does(name, number, grown):
    function, inputs = CASES[name]
    exact = function(*[x.double() for x in inputs])
    (made,) = grown.outputs(name, number, inputs)
    assert float((made.double() - exact).abs().max() / exact.abs().max()) < 3e-6


@pytest.mark.parametrize("name", CASES)
def test_rows_that_begin_amid_lines_are_gathered(name):
    source = source_of(*CASES[name], choices(*TILES[0]))
    assert all(part in source for part in ("GATHER = 1", "epx::put(tail, to, ", "epx::fence();"))


def test_two_phases_are_gathered_as_one_row():
    assert "PHASES = 2" in source_of(*CASES["two phases of a stride"], choices(*TILES[0]))


@pytest.mark.parametrize(
    ("function", "inputs", "stream"),
    [
        (lambda x, w: F.conv2d(x, w, None, 1, 1), [T(1, 3, 8, 32), T(16, 3, 3, 3)], 1),  # lines
        (F.conv2d, [T(2, 3, 10, 31), T(16, 3, 3, 3)], 0),  # through the caches
        (lambda x, w: F.conv2d(x, w).transpose(-1, -2), [T(2, 3, 10, 31), T(16, 3, 3, 3)], 1),
    ],
)  # fmt: skip
def test_others_are_written_where_they_belong(function, inputs, stream):
    assert "GATHER = 1" not in source_of(function, inputs, choices(*TILES[0], stream=stream))
