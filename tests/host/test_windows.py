"""Pools one direction after the other, a few lines at a time where windows overlap."""

import pytest
import torch
import torch.nn.functional as F
from grown_case import build, regions_of, run

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit_kernel import lane_axis
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.windows import IN_GROUPS, separated

CASES = {
    "overlapping": (lambda x: F.avg_pool2d(x, 3, 1, 1), (4, 8, 12, 130), 4),
    "strided": (lambda x: F.max_pool2d(x, 3, 2, 1), (4, 8, 30, 130), 5),
    "deep": (lambda x: F.avg_pool3d(x, 3, 1, 1), (2, 4, 5, 12, 66), 6),
    "apart": (lambda x: F.max_pool2d(x, 2), (4, 8, 25, 130), 12),
    "prime": (lambda x: F.avg_pool2d(x, 3, 1, 1), (4, 8, 13, 130), 13),
}


@pytest.mark.parametrize("name", CASES)
def test_lines_in_groups(name, tmp_path):
    function, shape, lines = CASES[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    choices = Choices(windows=IN_GROUPS, prefetch=16)
    (region,) = regions_of(capture(function, [x]))
    (kernel,) = plan(coalesce(region), choices).kernels
    pair = separated(kernel, lane_axis(kernel, choices), 1, groups=True)
    assert pair is not None
    assert pair.lines is not None
    assert pair.lines.size == lines
    (got,) = run(build([region], choices, tmp_path), region, [x])
    torch.testing.assert_close(got, function(x), rtol=2e-6, atol=2e-6)
