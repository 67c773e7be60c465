"""Taps of a row of a convolution read each pixel once: their weights wait in registers."""

from __future__ import annotations

import subprocess

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS
from grown_case import Together

from epitaxy.compiler import find_compiler, flags
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region, header
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.space import first_guess

torch.manual_seed(3)
T = torch.randn
WIDE = GENEROUS.replace(vector_bytes=64, vector_registers=32)
CHECKS = """
struct Near { enum : int64_t { N = epx::native_bytes / 4, GROUP = 3, STEP = 2 };
              static constexpr int64_t at(int64_t u) { return u * 2; } };
struct Far : Near { static constexpr int64_t at(int64_t u) { return u * 3; } };
struct Double : Near { enum : int64_t { N = 2 * Near::N }; };
constexpr int R = epx::registers;
static_assert(epx::together<Near, R - 5, 1, 0>() == 3, "three weights beside the sums");
static_assert(epx::together<Near, R - 4, 1, 0>() == 2, "room for two");
static_assert(epx::together<Near, R - 3, 1, 0>() == 1, "no room");
static_assert(epx::together<Near, R / 2 - 4, 2, 0>() == 3, "six weights beside the sums");
static_assert(epx::together<Near, 4, 1, 1>() == 2, "two are left of the group");
static_assert(epx::together<Far, 4, 1, 0>() == 1, "other pixels");
static_assert(epx::together<Double, R / 2 - 4, 1, 0>() == 3, "vectors of two registers");
static_assert(epx::together<Double, R / 2 - 1, 1, 0>() == 1, "vectors of two registers");
"""
CASES = {
    "seven taps": (F.conv2d, [T(1, 3, 9, 40), T(16, 3, 3, 7)]),
    "taps as far as pixels": (
        lambda x, w: F.conv2d(x, w, None, (1, 2), 2, (1, 2)),
        [T(1, 4, 10, 50), T(16, 4, 3, 3)],
    ),
    "rows of a small image": (
        lambda x, w: F.conv2d(x, w, None, 1, 1),
        [T(2, 4, 8, 6), T(40, 4, 3, 3)],
    ),
    "edges": (F.conv_transpose2d, [T(1, 5, 6, 16), T(5, 16, 5, 7)]),
}  # fmt: skip
TILES = [(23, 1), (26, 1), (12, 1), (11, 2), (9, 2)]


def region_of(function, inputs):
    (step,) = capture(function, inputs, accept=writable).steps
    return step.region


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    together = Together()
    for name, (function, inputs) in CASES.items():
        genomes = [Choices(form=3, width=16, tile_m=m, tile_n=n, nc=64) for m, n in TILES]
        together.add(name, function, inputs, *genomes)
    return together.build(tmp_path_factory.mktemp("pixels"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("number", range(len(TILES)))
def test_they_compute_what_pytorch_does(name, number, grown):
    function, inputs = CASES[name]
    exact = function(*[x.double() for x in inputs])
    (made,) = grown.outputs(name, number, inputs)
    assert float((made.double() - exact).abs().max() / exact.abs().max()) < 3e-6


def test_as_many_taps_share_a_pixel_as_registers_hold_weights(tmp_path):
    body = emit_region(region_of(*CASES["seven taps"]), Choices(form=3, width=16))
    (tmp_path / "taps.cpp").write_text(header(body) + CHECKS)
    compiler = find_compiler()
    command = [compiler.path, *flags(compiler), "-fsyntax-only", str(tmp_path / "taps.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("function", "weights", "tile"),
    [
        (lambda x, w: F.conv2d(x, w, None, 1, 1), (16, 8, 3, 3), (27, 1)),
        (lambda x, w: F.conv2d(x, w, None, 1, (1, 3)), (16, 16, 3, 7), (26, 1)),
        (lambda x, w: F.conv2d(x, w, None, 2, 1), (16, 16, 3, 3), (28, 1)),  # other pixels
        (lambda x, w: F.conv2d(x, w, None, 1, (2, 3)), (64, 16, 5, 7), (11, 2)),
        (lambda x, w: F.conv2d(x, w, None, 2, 1), (64, 16, 3, 3), (14, 2)),
    ],
)  # fmt: skip
def test_a_first_guess_leaves_registers_for_the_weights_of_a_row(function, weights, tile):
    guess = first_guess(region_of(function, [T(4, weights[1], 56, 56), T(*weights)]), WIDE)
    assert (guess.form, guess.tile_m, guess.tile_n) == (3, *tile)
