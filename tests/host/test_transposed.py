"""Transposed convolutions: convolutions, one for each phase of the stride."""

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together, oracles

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.interpret import run_program

torch.manual_seed(3)  # rounding differs from run to run otherwise
T = torch.randn
turned = F.conv_transpose2d
IMAGE = T(2, 5, 9, 11)
CASES = {
    "plain": (lambda x, w: turned(x, w, padding=1), [IMAGE, T(5, 6, 3, 3)]),
    "dilated": (lambda x, w: turned(x, w, dilation=2), [IMAGE, T(5, 6, 3, 2)]),
    "doubled": (
        lambda x, w, b: torch.tanh(turned(x, w, b, stride=2, padding=1)),
        [IMAGE, T(5, 6, 4, 4), T(6)],
    ),
    "doubled_unpadded": (
        lambda x, w, b: F.gelu(turned(x, w, b, stride=2)),
        [IMAGE, T(5, 6, 4, 4), T(6)],
    ),
    "uneven_phases": (
        lambda x, w, b: turned(x, w, b, stride=2, padding=1, output_padding=1),
        [IMAGE, T(5, 6, 3, 3), T(6)],
    ),
    "uneven_line": (
        lambda x, w: F.conv_transpose1d(x, w, stride=2, output_padding=1),
        [T(2, 5, 19), T(5, 7, 5)],
    ),
    "uneven_one_way": (
        lambda x, w: turned(x, w, stride=(2, 1), output_padding=(1, 0)),
        [IMAGE, T(5, 20, 3, 2)],
    ),
    "uneven_thirds": (
        lambda x, w: turned(x, w, stride=3, output_padding=2),
        [T(2, 9, 6, 7), T(9, 6, 4, 4)],
    ),
    "uneven_inside": (  # no tap is read outside the image, there or not
        lambda x, w: turned(x, w, stride=3, padding=(3, 0), output_padding=(1, 0)),
        [T(3, 1, 5, 16), T(1, 3, 5, 3)],
    ),
    "uneven_volume": (
        lambda x, w, b: F.conv_transpose3d(x, w, b, stride=2, padding=1, output_padding=1),
        [T(2, 3, 4, 5, 6), T(3, 17, 3, 3, 3), T(17)],
    ),
    "apart": (lambda x, w: turned(x, w, stride=3), [IMAGE, T(5, 6, 3, 3)]),
    "one_way": (lambda x, w: turned(x, w, stride=(1, 2), padding=(1, 0)), [IMAGE, T(5, 6, 3, 2)]),
    "grouped": (
        lambda x, w: turned(x, w, stride=2, padding=1, groups=2),
        [T(2, 4, 9, 11), T(4, 3, 4, 4)],
    ),
    "grouped_unpadded": (
        lambda x, w: turned(x, w, stride=2, groups=2),
        [T(2, 4, 9, 11), T(4, 3, 4, 4)],
    ),
    "few_channels": (
        lambda x, w: turned(x, w, stride=(1, 3), padding=(0, 3)),
        [T(3, 2, 8, 19), T(2, 2, 1, 3)],
    ),
    "channels_last": (
        lambda x, w: turned(x, w, stride=(2, 1), padding=(3, 3), output_padding=(1, 0)).permute(
            0, 2, 3, 1
        ),
        [T(1, 16, 6, 14), T(16, 6, 3, 5)],
    ),
    "shuffled": (
        lambda x, w: F.pixel_shuffle(F.conv2d(x, w, padding=1), 2),
        [T(2, 3, 8, 15), T(16, 3, 3, 3)],
    ),
    "shuffled_pixels": (
        lambda x, w: F.pixel_shuffle(F.conv2d(x, w, stride=2), 2),
        [T(2, 3, 8, 15), T(16, 3, 1, 1)],
    ),
    "shuffled_with_bias": (  # one element for each phase
        lambda x, w, b: F.pixel_shuffle(F.conv2d(x, w, b, padding=1), 2).relu(),
        [T(2, 16, 8, 15), T(20, 16, 3, 3), T(20)],
    ),
    "shuffled_scaled_followed": (
        lambda x, w, b, s, y: (
            F.pixel_shuffle(F.conv2d(x, w, b) * s[:, None, None], 2).maximum(y) + s[3]
        ),
        [T(2, 16, 8, 18), T(16, 16, 3, 3), T(16), T(16), T(2, 4, 12, 32)],
    ),
    "weights_of_places": (
        lambda x, w: torch.einsum("tkm,btnk->btmn", w, F.pad(x, (0, 0, 3, 3)).unfold(1, 2, 1)),
        [T(2, 8, 16), T(13, 2, 16)],
    ),
    "line": (lambda x, w: F.conv_transpose1d(x, w, stride=2, padding=1), [T(2, 5, 19), T(5, 6, 4)]),
    "volume": (
        lambda x, w: F.conv_transpose3d(x, w, stride=2, padding=1),
        [T(1, 3, 4, 5, 6), T(3, 4, 4, 4, 4)],
    ),
    "small_volume": (  # rows of pixels near the edges miss many taps, and ends of rows
        lambda x, w, b: F.conv_transpose3d(x, w, b).relu(),
        [T(2, 16, 3, 4, 6), T(16, 19, 3, 2, 5), T(19)],
    ),
    "small_and_spread": (  # one row meets no tap at all
        lambda x, w, b: turned(x, w, b, dilation=(3, 1)),
        [T(3, 20, 2, 6), T(20, 7, 2, 4), T(7)],
    ),
    "small_lines": (
        lambda x, w: turned(x, w, padding=(1, 0)),
        [T(2, 20, 3, 26), T(20, 33, 5, 4)],
    ),
    "followed": (
        lambda x, w, y, z: torch.relu(turned(x, w, stride=2, padding=1) * z + y),
        [T(2, 5, 3, 21), T(5, 20, 4, 4), T(2, 20, 6, 42), T(42)],
    ),
}
GENOMES = (
    Choices(form=3, width=8, tile_m=4, tile_n=1, nc=32, mc=8),
    Choices(form=3, width=16, tile_m=5, tile_n=2, nc=500, kc=20),
    Choices(form=3, width=32, tile_m=28, tile_n=1, nc=32, mc=32),
)


# The stride does not divide what they make or the padding, or taps are spread too.
RAGGED = {
    "odd": (lambda x, w: turned(x, w, stride=2, padding=1), [IMAGE, T(5, 6, 3, 3)]),
    "one_way": (lambda x, w: turned(x, w, stride=(1, 2)), [IMAGE, T(5, 6, 2, 3)]),
    "thirds": (lambda x, w: turned(x, w, stride=3, padding=1), [IMAGE, T(5, 6, 5, 4)]),
    "fourths": (
        lambda x, w, b: turned(x, w, b, stride=4, padding=3, output_padding=2),
        [IMAGE, T(5, 6, 7, 4), T(6)],
    ),
    "line": (lambda x, w: F.conv_transpose1d(x, w, stride=2, padding=2), [T(2, 5, 19), T(5, 6, 3)]),
    "spread": (lambda x, w: turned(x, w, stride=2, dilation=3), [IMAGE, T(5, 6, 4, 2)]),
    "with_gaps": (
        lambda x, w, b: turned(x, w, b, stride=(2, 3), padding=(1, 2), dilation=(2, 1)),
        [IMAGE, T(5, 6, 3, 5), T(6)],
    ),
    "few_taps": (
        lambda x, w: turned(x, w, stride=5, padding=1, dilation=2, groups=2),
        [T(2, 4, 9, 11), T(4, 3, 3, 3)],
    ),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases captured and compiled together, copied and packed as the image is read."""
    together = Together()
    for number, (name, (function, inputs)) in enumerate(CASES.items()):
        first = Choices(unroll=1, pack_b=number % 2, tile_m=4)
        together.add(name, function, inputs, first, *GENOMES)
        assert len(together.regions(name)) == 1
    return together.build(tmp_path_factory.mktemp("transposed"))


@pytest.mark.parametrize("name", CASES)
def test_transposed_convolutions_compute_what_pytorch_computes(name, grown):
    function, inputs = CASES[name]
    for given, exact in oracles(function, inputs):
        for number in range(1 + len(GENOMES)):
            (made,) = grown.outputs(name, number, given)
            torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-5, equal_nan=True)


# Phases that lie between each other, and copies of the image: one where both read the same.
TOGETHER = {
    "doubled": (2, 2), "doubled_unpadded": (2, 1), "grouped_unpadded": (2, 1), "followed": (2, 2),
    "plain": (1, 1), "shuffled_with_bias": (2, 1), "shuffled_scaled_followed": (2, 1),
}  # fmt: skip


def test_phases_beside_each_other_are_written_as_whole_vectors():
    for name, (phases, laid) in TOGETHER.items():
        function, inputs = CASES[name]
        (step,) = capture(function, inputs, accept=writable).steps
        text = emit_region(step.region, Choices(form=3, tile_n=1))
        assert f"PHASES = {phases}, LAID = {laid}," in text, name
        assert "put_strided" not in text


def test_taps_that_a_phase_lacks_are_left_out():
    missing = {"uneven_phases": True, "uneven_volume": True, "doubled": False}
    # Nothing else keeps these from reading beyond the ends of what is read.
    missing |= {"weights_of_places": False, "channels_last": False}
    for name, left_out in missing.items():
        function, inputs = CASES[name]
        (step,) = capture(function, inputs, accept=writable).steps
        for form in (0, 3):
            text = emit_region(step.region, Choices(form=form, tile_n=1, pack_b=0))
            assert ("finish, there);" in text) == left_out


def test_taps_that_lie_outside_a_small_image_are_left_out():
    rows = {"small_volume": True, "small_and_spread": True, "small_lines": True, "plain": False}
    for name, left_out in rows.items():
        function, inputs = CASES[name]
        (step,) = capture(function, inputs, accept=writable).steps
        text = emit_region(step.region, Choices(form=3, tile_n=1, nc=64))
        assert ("finish, there);" in text) == left_out
        assert "bool meets(" in text  # along rows, where these are whole
        cut = emit_region(step.region, Choices(form=3, tile_n=1, nc=4))
        assert ("bool meets(" in cut) == (inputs[0].shape[-1] < 16)


def test_spread_taps_in_no_whole_rounds_stay_with_the_framework():
    program = capture(
        lambda x, w: turned(x, w, stride=2, dilation=3), [IMAGE, T(5, 6, 3, 3)], accept=writable
    )
    assert any("convolution" in name for name in program.left)


@pytest.mark.parametrize("name", RAGGED)
def test_phases_of_any_form_are_made_of_even_ones(name):
    function, inputs = RAGGED[name]
    program = capture(function, inputs, accept=writable)
    assert program.left == ()
    for given, exact in oracles(function, inputs):
        (made,) = run_program(program, {}, given)
        torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-5, equal_nan=True)
