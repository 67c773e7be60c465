"""Depthwise convolutions from a padded copy of each plane, several rows at a time."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS
from grown_case import Together, oracles

from epitaxy.proposers.grower.algebra import Load
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.emit_kernel import lane_axis
from epitaxy.proposers.grower.emit_planes import IN_PLANES, plane_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.rewrite import coalesce, rebuild
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.space import first_guess, space

T = torch.randn


def depth(x, w, **more):
    return F.conv2d(x, w, groups=x.shape[1], **more)


CASES = {
    "padded": (
        lambda x, w, b: depth(x, w, bias=b, padding=1),
        [T(2, 5, 19, 37), T(5, 1, 3, 3), T(5)],
    ),
    "bare": (lambda x, w: depth(x, w), [T(2, 5, 12, 21), T(5, 1, 3, 3)]),
    "wide": (
        lambda x, w, y: torch.tanh(depth(x, w, padding=3)) + y,
        [T(1, 3, 130, 30), T(3, 1, 7, 7), T(1, 3, 130, 30)],
    ),
    "uneven": (lambda x, w: depth(x, w, padding=(2, 1)), [T(1, 3, 9, 33), T(3, 1, 5, 3)]),
    "spread": (
        lambda x, w: depth(x, w, padding=(1, 2), dilation=(1, 2)),
        [T(1, 3, 9, 33), T(3, 1, 3, 3)],
    ),
}
GENOMES = [
    Choices(windows=IN_PLANES, width=width, stream=stream) for width in (8, 16) for stream in (0, 1)
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    together = Together()
    for name, (function, inputs) in CASES.items():
        together.add(name, function, inputs, *GENOMES)
        assert "epx::weigh_plane" in emit_region(together.regions(name)[0], GENOMES[0])
    return together.build(tmp_path_factory.mktemp("planes"))


@pytest.mark.parametrize("name", CASES)
def test_planes_are_weighed_as_pytorch_weighs_them(name, grown):
    function, inputs = CASES[name]
    for given, exact in oracles(function, inputs):
        for number in range(len(GENOMES)):
            (made,) = grown.outputs(name, number, given)
            torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_rows_of_results_go_past_the_caches_together():
    function, inputs = CASES["padded"]
    (step,) = capture(function, inputs, accept=writable).steps
    assert "epx::copy_past(" in emit_region(step.region, GENOMES[1])
    assert "epx::copy_past(" not in emit_region(step.region, GENOMES[0])
    (step,) = capture(lambda *x: function(*x).transpose(1, 2).contiguous(), inputs).steps
    assert "epx::copy_past(" not in emit_region(step.region, GENOMES[1]), "rows lie apart"


def test_other_windows_are_written_as_before():
    for function, inputs in (
        (lambda x, w: depth(x, w, stride=2), [T(1, 3, 21, 21), T(3, 1, 3, 3)]),
        (lambda x, w: depth(x, w, dilation=2), [T(1, 3, 21, 21), T(3, 1, 3, 3)]),
        (lambda x: F.avg_pool2d(x, 3, 1), [T(1, 3, 21, 21)]),
    ):
        (step,) = capture(function, inputs, accept=writable).steps
        assert "epx::weigh_plane<" not in emit_region(step.region, GENOMES[0])


def test_an_image_that_is_bounded_twice_one_way_is_written_as_before():
    function, inputs = CASES["padded"]
    (step,) = capture(function, inputs, accept=writable).steps
    (kernel,) = plan(coalesce(step.region), GENOMES[0]).kernels
    (target,), lane = kernel.targets, lane_axis(kernel, GENOMES[0])

    def cropped(value):
        if not isinstance(value, Load) or not value.guards:
            return None
        first = value.guards[0]
        return replace(value, guards=(replace(first, size=first.size - 2), *value.guards))

    twice = replace(target, value=rebuild(target.value, cropped, {}))
    assert plane_of(kernel, lane) is not None
    assert plane_of(replace(kernel, targets=(twice,)), lane) is None


def test_the_search_may_work_in_planes():
    function, inputs = CASES["padded"]
    (step,) = capture(function, inputs, accept=writable).steps
    assert IN_PLANES in space(step.region, GENEROUS)["windows"]


def test_the_first_guess_works_in_planes_where_that_gains():
    for side, chip, expected in (
        (3, GENEROUS.replace(vector_bytes=64), IN_PLANES),
        (7, GENEROUS.replace(vector_bytes=64), IN_PLANES),
        (5, GENEROUS.replace(vector_bytes=32), IN_PLANES),
        (7, GENEROUS.replace(vector_bytes=32), 1),  # too few registers for so many taps
    ):
        inputs = [T(1, 3, 21, 21), T(3, 1, side, side)]
        (step,) = capture(lambda x, w: depth(x, w, padding=1), inputs, accept=writable).steps
        assert first_guess(step.region, chip).windows == expected, side
