"""Convolutions ask memory for what they read and write next while they compute."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS

from epitaxy.chip import Level
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.emit_filters import blocks_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.patch import patch_of, runs_of
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.space import first_guess

T = torch.randn
CHIP = GENEROUS.replace(
    cores=4, vector_bytes=64, vector_registers=32,
    levels=(
        Level(name="L1", bytes=192 << 10, bytes_core=48 << 10, read_bytes_per_s=5e11),
        Level(name="L2", bytes=4 << 20, bytes_core=1 << 20, read_bytes_per_s=3e11),
        Level(name="L3", bytes=32 << 20, read_bytes_per_s=1e11),
        *GENEROUS.levels,
    ),
)  # fmt: skip
FORMS = {
    "whole_rows": (lambda x, w: F.conv2d(x, w, None, 1, 1), [T(2, 8, 28, 28), T(32, 8, 3, 3)]),
    "parts_of_rows": (lambda x, w: F.conv2d(x, w), [T(2, 8, 40, 100), T(32, 8, 3, 3)]),
    "steps": (lambda x, w: F.conv2d(x, w, None, 2, 1), [T(2, 8, 56, 56), T(32, 8, 3, 3)]),
    "volumes": (lambda x, w: F.conv3d(x, w, None, 1, 1), [T(1, 4, 8, 16, 16), T(32, 4, 3, 3, 3)]),
}


def region_of(function, inputs):
    (step,) = capture(function, inputs, accept=writable).steps
    return step.region


def patch(name, pixels):
    (kernel,) = plan(coalesce(region_of(*FORMS[name])), Choices()).kernels
    return patch_of(kernel.contraction, *blocks_of(kernel.contraction, pixels))


def places(loops, length):
    """How far every element of pieces in a row lies from the first."""
    starts = (sum(at) for at in itertools.product(*(range(0, n * s, s) for n, s in loops)))
    return {start + k for start in starts for k in range(length)}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("pixels", [32, 128])
def test_what_is_asked_for_is_what_the_next_copy_reads(name, pixels):
    block = patch(name, pixels)
    *sides, last = block.sides
    loops = [(a.size, block.load.index.coefficient(a)) for a in block.plain]
    loops += [(s.length, s.stride) for s in sides]
    copied = places(loops, min(last.length, last.size))
    runs = runs_of(block)
    asked = places(runs.loops, runs.length)
    assert copied <= asked, "nothing of it is left out"
    assert len(asked) <= 1.25 * len(copied), "and little else"


def test_whole_rows_of_an_image_are_asked_for_in_one_piece():
    runs = runs_of(patch("whole_rows", 128))
    assert len(runs.loops) == 1, "one for each channel"
    assert runs.length >= 6 * 28
    assert runs_of(patch("parts_of_rows", 32)).length < 100


def test_results_are_asked_for_where_they_go_through_the_caches():
    region = region_of(*FORMS["whole_rows"])
    through, past = (Choices(form=3, width=16, nc=128, stream=s) for s in (0, 1))
    assert " ASK = 1," in emit_region(region, through)
    assert " ASK = 0," in emit_region(region, past)


def test_an_image_that_is_worked_on_for_long_is_not_asked_for():
    chosen = Choices(form=3, width=16, nc=128)
    assert " ASKS = 0," not in emit_region(region_of(*FORMS["whole_rows"]), chosen)
    many = region_of(lambda x, w: F.conv2d(x, w, None, 1, 1), [T(1, 8, 28, 28), T(512, 8, 3, 3)])
    assert " ASKS = 0," in emit_region(many, chosen)


def test_blocks_leave_room_for_the_next_one():
    """128 channels of 512 pixels twice, and sums, are more than a part of the second cache."""
    region = region_of(F.conv2d, [T(8, 128, 56, 56), T(128, 128, 1, 1)])
    wide = first_guess(region, CHIP)
    assert (wide.form, wide.nc) == (3, 256)
    more = CHIP.levels[1].replace(bytes=16 << 20, bytes_core=4 << 20)
    roomy = CHIP.replace(levels=(CHIP.levels[0], more, *CHIP.levels[2:]))
    assert first_guess(region, roomy).nc == 512
