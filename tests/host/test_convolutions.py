"""Convolutions grown as contractions over an image: every form, under two genomes."""

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS
from grown_case import Together

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.image import floats, image_of
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.space import first_guess

torch.manual_seed(3)  # rounding differs from run to run otherwise
T = torch.randn
GENOMES = [
    Choices(kc=40, nc=64, mc=12, pack_b=0),
    Choices(width=16, tile_m=4, tile_n=1, kc=500, nc=128, mc=400, dynamic=1),
    Choices(form=3, kc=40, nc=40, mc=16, dynamic=1),
]
WHOLE_ROWS = [
    Choices(form=3, tile_m=12, nc=64, prefetch=64),
    Choices(form=3, tile_m=10, nc=16, kc=500, tile_n=1),
]
FEWER_LANES = Choices(form=3, width=4, tile_m=5, tile_n=3, kc=500, nc=500, mc=400)


def norm_relu(x, w, mean, var, scale, shift):
    y = F.conv2d(x, w, None, 1, 1)
    return F.relu(F.batch_norm(y, mean, var, scale, shift))


CASES = {
    "plain": (lambda x, w: F.conv2d(x, w), [T(2, 5, 9, 8), T(7, 5, 2, 3)]),
    "padded_bias": (
        lambda x, w, b: F.conv2d(x, w, b, 1, 1),
        [T(2, 16, 14, 13), T(24, 16, 3, 3), T(24)],
    ),
    "strided": (lambda x, w: F.conv2d(x, w, None, 2, 3), [T(2, 3, 33, 35), T(20, 3, 7, 7)]),
    "strided_by_three": (
        lambda x, w: F.conv2d(x, w, None, (2, 3), (1, 2)),
        [T(2, 12, 21, 40), T(20, 12, 3, 4)],
    ),
    "strided_and_dilated": (
        lambda x, w: F.conv2d(x, w, None, 2, 3, (1, 3)),
        [T(2, 12, 20, 30), T(20, 12, 3, 3)],
    ),
    "not_padded": (lambda x, w: F.conv2d(x, w), [T(2, 12, 13, 15), T(20, 12, 3, 3)]),
    "not_padded_strided": (
        lambda x, w: F.conv2d(x, w, None, 2),
        [T(2, 12, 13, 29), T(20, 12, 3, 3)],
    ),
    "not_padded_volume": (lambda x, w: F.conv3d(x, w), [T(2, 3, 7, 9, 11), T(12, 3, 3, 2, 3)]),
    "uneven": (
        lambda x, w: F.conv2d(x, w, None, (2, 1), (0, 2), (1, 2)),
        [T(2, 4, 17, 19), T(9, 4, 3, 3)],
    ),
    "pointwise": (lambda x, w: F.conv2d(x, w), [T(2, 32, 9, 11), T(20, 32, 1, 1)]),
    "dilated": (lambda x, w: F.conv2d(x, w, None, 1, 2, 2), [T(2, 8, 15, 17), T(20, 8, 3, 3)]),
    "grouped": (
        lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 4),
        [T(2, 16, 15, 17), T(24, 4, 3, 3)],
    ),
    "depthwise": (
        lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 16),
        [T(2, 16, 15, 17), T(16, 1, 3, 3)],
    ),
    "line": (lambda x, w: F.conv1d(x, w, None, 1, 2), [T(2, 16, 100), T(12, 16, 5)]),
    "volume": (lambda x, w: F.conv3d(x, w, None, 1, 1), [T(2, 4, 7, 9, 11), T(12, 4, 3, 3, 3)]),
    "same_padding": (
        lambda x, w: F.conv2d(x, w, padding="same"),
        [T(2, 4, 12, 12), T(9, 4, 3, 3)],
    ),
    "norm_relu": (
        norm_relu,
        [T(2, 8, 12, 12), T(16, 8, 3, 3), T(16), T(16).abs() + 0.5, T(16), T(16)],
    ),
    "pooled": (
        lambda x, w: F.max_pool2d(F.relu(F.conv2d(x, w, None, 1, 1)), 2),
        [T(2, 4, 16, 24), T(12, 4, 3, 3)],
    ),
    "two": (
        lambda x, w, v: F.conv2d(F.relu(F.conv2d(x, w, None, 1, 1)), v),
        [T(2, 4, 16, 24), T(12, 4, 3, 3), T(8, 12, 1, 1)],
    ),
    "few_pixels": (
        lambda x, w: F.relu(F.conv2d(x, w, None, 1, 1)),
        [T(2, 20, 4, 4), T(36, 20, 3, 3)],
    ),
    "few_pixels_strided": (
        lambda x, w: F.conv2d(x, w, None, 2, 1),
        [T(3, 12, 10, 6), T(36, 12, 3, 3)],
    ),
    "residual": (
        lambda x, w: F.conv2d(x, w, None, 1, 1) + x,
        [T(2, 12, 16, 24), T(12, 12, 3, 3)],
    ),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases under every genome."""
    together = Together()
    for name, (function, inputs) in CASES.items():
        also = [FEWER_LANES] if name in ("strided", "padded_bias") else []
        also += WHOLE_ROWS if name.startswith("few_pixels") else []
        together.add(name, function, inputs, *GENOMES, *also)
    return together.build(tmp_path_factory.mktemp("convolutions"))


@pytest.mark.parametrize("name", CASES)
def test_convolutions_give_what_float64_gives(name, grown):
    function, inputs = CASES[name]
    exact = function(*[x.double() for x in inputs])
    for number in range(sum(case == name for case, _ in grown.programs)):
        (made,) = grown.outputs(name, number, inputs)
        error = (made.double() - exact).abs().max() / exact.abs().max()
        assert float(error) < 3e-6


@pytest.mark.parametrize("name", ["strided_by_three", "grouped", "line", "volume", "pooled"])
def test_lanes_run_along_the_filters_of_any_image(name):
    function, inputs = CASES[name]
    step = capture(function, inputs, accept=writable).steps[0]
    assert "convolve_filters" in emit_region(step.region, Choices(form=3)).split("extern", 1)[1]


@pytest.mark.parametrize("name", ["few_pixels", "few_pixels_strided"])
def test_tiles_hold_whole_rows_of_small_images(name):
    function, inputs = CASES[name]
    (step,) = capture(function, inputs, accept=writable).steps
    written = emit_region(step.region, WHOLE_ROWS[0]).split("extern", 1)[1]
    assert "convolve_filters" in written
    assert "TALL = 1," not in written


def test_zeros_outside_an_image_are_not_taken_for_other_padding():
    def around(x, w):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), value=2.0), w)

    (step,) = capture(around, [T(1, 4, 9, 8), T(16, 4, 3, 3)], accept=writable).steps
    written = emit_region(step.region, Choices(form=3, pack_b=0)).split("extern", 1)[1]
    assert "2.0f" in written
    assert "convolve_" not in written


@pytest.mark.parametrize("name", ["strided", "strided_by_three", "strided_and_dilated"])
def test_strided_pixels_lie_side_by_side_in_the_copy(name):
    function, inputs = CASES[name]
    (step,) = capture(function, inputs, accept=writable).steps
    assert "lay_phases<" in emit_region(step.region, Choices(pack_b=0)).split("extern", 1)[1]


@pytest.mark.parametrize("name", ["not_padded", "not_padded_strided", "not_padded_volume"])
def test_an_image_of_odd_rows_is_read_from_a_copy(name):
    function, inputs = CASES[name]
    (step,) = capture(function, inputs, accept=writable).steps
    written = emit_region(step.region, Choices(pack_b=0)).split("extern", 1)[1]
    assert "convolve_direct" in written
    assert " image(" in written


def test_many_groups_read_one_copy_of_the_image():
    """The copy holds the image of all groups: for each, packing writes every window of its own."""

    def function(x, w):
        return F.conv2d(x, w, None, 1, 1, 1, 16)

    (step,) = capture(function, [T(1, 64, 14, 14), T(64, 4, 3, 3)], accept=writable).steps
    (kernel,) = plan(coalesce(step.region), Choices()).kernels
    image = image_of(kernel.contraction, Choices().width)
    assert floats(image) > size_of(kernel.contraction.inner) * size_of(kernel.contraction.columns)
    assert " image(" in emit_region(step.region, Choices(pack_b=0)).split("extern", 1)[1]


def test_the_result_of_a_convolution_is_not_streamed_by_itself():
    """Its tiles end within lines."""
    caches = (GENEROUS.levels[0].replace(name=f"L{n}", bytes=n << 16) for n in (1, 2))
    chip = GENEROUS.replace(levels=(*caches, *GENEROUS.levels))

    def streamed(function, *inputs):
        (step,) = capture(function, inputs, accept=writable).steps
        return first_guess(step.region, chip).stream

    assert streamed(torch.relu, T(1, 64, 60, 62)) == 1
    assert streamed(lambda x, w: F.conv2d(x, w, None, 1, 1), T(1, 16, 60, 62), T(64, 16, 3, 3)) == 0


SQUARES = {
    "padded": (lambda x, w: F.conv2d(x, w, None, 1, 1), [T(2, 5, 9, 11), T(7, 5, 3, 3)]),
    "not_padded": (lambda x, w: F.relu(F.conv2d(x, w)), [T(1, 17, 13, 30), T(13, 17, 3, 3)]),
    "uneven": (lambda x, w: F.conv2d(x, w, None, 1, (0, 2)), [T(3, 8, 7, 5), T(16, 8, 3, 3)]),
    "residual": (
        lambda x, w: F.conv2d(x, w, None, 1, 1) + x,
        [T(2, 12, 16, 24), T(12, 12, 3, 3)],
    ),
}


TRANSFORMS = {
    Choices(winograd=2, squares=9, width=4): 3e-6,
    Choices(winograd=4, squares=9, width=8): 1e-5,
    Choices(winograd=4, squares=9, width=16): 1e-5,
}
"""Decisions, and how far they may be off."""


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    """The convolutions that may be transformed, under each of the transforms."""
    together = Together()
    for name, (function, inputs) in SQUARES.items():
        together.add(name, function, inputs, *TRANSFORMS)
    return together.build(tmp_path_factory.mktemp("transformed"))


@pytest.mark.parametrize("name", SQUARES)
def test_transformed_convolutions_give_what_float64_gives(name, transformed):
    function, inputs = SQUARES[name]
    exact = function(*[x.double() for x in inputs])
    for number, (choices, limit) in enumerate(TRANSFORMS.items()):
        (region,) = transformed.regions(name, number)
        assert "convolve_winograd" in emit_region(region, choices)
        (made,) = transformed.outputs(name, number, inputs)
        error = (made.double() - exact).abs().max() / exact.abs().max()
        assert float(error) < limit


def test_only_windows_of_3_by_3_in_steps_of_1_are_transformed():
    for name in ("strided", "dilated", "grouped", "line", "plain", "volume"):
        function, inputs = CASES[name]
        (step,) = capture(function, inputs, accept=writable).steps
        assert "winograd" not in emit_region(step.region, Choices(winograd=2)).split("{", 1)[1]


def test_what_follows_a_convolution_is_done_before_its_result_is_written():
    function, inputs = CASES["norm_relu"]
    (step,) = capture(function, inputs).steps
    kernels = plan(coalesce(step.region), Choices()).kernels
    assert sum(k.contraction is not None for k in kernels) == 1
    large = [k for k in kernels if k.targets[0].numel >= step.region.outputs[0].numel]
    assert len(large) == 1, "nothing but the convolution runs over its result"


def test_channels_of_small_images_are_no_windows():
    """Those of 4 x 4 pixels lie 16 apart, as far as a dilated window's elements might."""
    (step,) = capture(
        lambda x, w: F.conv2d(x, w, None, 1, 1), [T(2, 64, 4, 4), T(64, 64, 3, 3)], accept=writable
    ).steps
    chosen = first_guess(step.region, GENEROUS.replace(vector_bytes=64, vector_registers=32))
    assert (chosen.form, chosen.winograd) == (3, 0)
    assert "convolve_filters" in emit_region(step.region, chosen).split("extern", 1)[1]


def test_large_results_go_past_the_caches_where_a_vector_is_a_line():
    large, small = torch.randn(8, 16, 64, 64), torch.randn(8, 16, 16, 16)
    wide = GENEROUS.replace(vector_bytes=64, vector_registers=32)
    wide = wide.replace(levels=(GENEROUS.levels[0].replace(bytes=1 << 22), *GENEROUS.levels))
    narrow = wide.replace(vector_bytes=32, vector_registers=16)
    for x, chip, expected in ((large, wide, 1), (small, wide, 0), (large, narrow, 0)):
        (step,) = capture(lambda x, w: F.conv2d(x, w), [x, torch.randn(32, 16, 1, 1)]).steps
        assert first_guess(step.region, chip).stream == expected


def test_panels_that_stay_in_the_first_cache_are_read_where_they_lie():
    (step,) = capture(torch.matmul, [torch.randn(128, 64), torch.randn(64, 3136)]).steps
    wide = GENEROUS.replace(vector_bytes=64, vector_registers=32)
    assert first_guess(step.region, wide).pack_b == 0
    (step,) = capture(torch.matmul, [torch.randn(128, 640), torch.randn(640, 3136)]).steps
    assert first_guess(step.region, wide).pack_b == 1
