"""What is computed together and what waits in a buffer: fewer passes, the same results."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS
from grown_case import Together
from test_chunks import captured

from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.emit_kernel import lane_axis
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.windows import separated


def softmax_then_pool(x):
    return F.max_pool2d(torch.softmax(x * 2, dim=1), 2)


def turned(x, angle):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)


def normalised_over_channels(x, w):
    x = F.conv2d(x, w, padding=1, groups=6).permute(0, 2, 3, 1)
    return F.layer_norm(x, (6,))


def pooled_and_shifted(x, bias):
    return torch.relu(F.max_pool2d(x, 2) + bias[:, None, None])


def normalised_columns(x, w, variance, scale):
    return F.gelu((x @ w) * torch.rsqrt(variance + 1e-5) * scale)


def normalised_then_pooled(x, w):
    return F.max_pool2d(F.group_norm(F.conv2d(x, w), 3), 4)


def normalised_lines_then_pooled(x, w):
    return F.avg_pool2d(F.layer_norm(F.conv_transpose2d(x, w, None, 2, 1, 1), (12,)), 2)


def neighbours(x, w):
    y = F.linear(x, w)
    return y[:, 1:] - y[:, :-1]


def gated(x, w):
    a, b = F.linear(x, w).chunk(2, dim=-1)
    return a * torch.sigmoid(b)


def pooled_pairs(x, w, bias):
    return F.max_pool1d(F.linear(x, w, bias).unsqueeze(1), 2).squeeze(1).sum(1)


CONTRACTED_ONCE = {
    "a norm, then windows over most of it": (
        normalised_then_pooled,
        (torch.randn(2, 8, 20, 21), torch.randn(48, 8, 3, 3)),
    ),
    "a norm, then windows over all of it": (
        normalised_then_pooled,
        (torch.randn(2, 8, 18, 22), torch.randn(48, 8, 3, 3)),
    ),
    "a norm of lines, then windows": (
        normalised_lines_then_pooled,
        (torch.randn(2, 24, 13, 6), torch.randn(24, 32, 3, 3)),
    ),
    "columns next to one another": (neighbours, (torch.randn(256, 64), torch.randn(80, 64))),
}
"""Where readers of a contraction's result name its axes differently."""
CASES = {
    **CONTRACTED_ONCE,
    "softmax, then windows": (softmax_then_pool, (torch.randn(2, 5, 12, 14),)),
    "windows, then rows": (
        normalised_over_channels,
        (torch.randn(2, 6, 9, 11), torch.randn(6, 1, 3, 3)),
    ),
    "tables of columns": (
        normalised_columns,
        (torch.randn(64, 32), torch.randn(32, 48), torch.rand(48) + 0.5, torch.randn(48)),
    ),
    "pairs of columns": (pooled_pairs, (torch.randn(16, 40), torch.randn(64, 40), torch.randn(64))),
    "small pool": (pooled_and_shifted, (torch.randn(1, 16, 10, 10), torch.randn(16))),
    "tables of angles": (turned, (torch.randn(64, 33, 32), torch.randn(33, 16))),
}


WIDTHS = (8, 32)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases under each width."""
    together = Together()
    for name, (function, inputs) in CASES.items():
        together.add(name, function, inputs, *(Choices(width=width) for width in WIDTHS))
    return together.build(tmp_path_factory.mktemp("schedule"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("number", range(len(WIDTHS)))
def test_it_computes_what_pytorch_does(name, number, grown):
    function, inputs = CASES[name]
    (out,) = grown.outputs(name, number, inputs)
    torch.testing.assert_close(out, function(*inputs), rtol=2e-6, atol=2e-6)


def test_axes_that_only_another_kernel_splits_are_one_loop():
    region, _ = captured(*CASES["softmax, then windows"])
    rows, pool = plan(coalesce(region), Choices(width=8)).kernels
    assert len(rows.targets) == 2  # the maximum and the sum, in one pass over the rows
    assert [a.size for a in rows.outer] == [2, 12 * 14]
    assert len(pool.inner) == 2


def test_a_bias_in_order_does_not_make_an_image_be_read_across_its_planes():
    region, _ = captured(*CASES["small pool"])
    for kernel in plan(coalesce(region), Choices(width=16)).kernels:
        lane = lane_axis(kernel, Choices(width=16))
        assert lane is not None
        assert lane.size == 5  # the pool's columns, though sixteen channels would fill the lanes


def test_lanes_run_along_a_pool_s_columns_and_not_across_its_window():
    region, _ = captured(lambda x: F.max_pool2d(x, 3, 2), [torch.randn(2, 8, 15, 15)])
    (pool,) = plan(coalesce(region), Choices(width=16)).kernels
    assert lane_axis(pool, Choices(width=16)) == pool.outer[-1]


def test_windows_far_apart_are_not_taken_one_direction_after_the_other():
    region, _ = captured(*CASES["small pool"])
    (pool,) = plan(coalesce(region), Choices(width=16)).kernels
    channels, columns = pool.outer[0], pool.outer[-1]
    assert separated(pool, columns, 3) is not None
    assert separated(pool, channels, 3) is None  # a line would be fifty times what is read


def test_a_table_replaces_what_would_be_computed_many_times():
    region, _ = captured(*CASES["tables of angles"])
    tables, main = plan(coalesce(region), Choices(width=8)).kernels
    assert tables.numel == 33 * 32
    assert main.numel == 64 * 33 * 32


def test_what_a_reduction_gives_is_no_table():
    region, _ = captured(F.log_softmax, [torch.randn(512, 256)])
    (rows,) = plan(coalesce(region), Choices(width=8)).kernels
    assert rows.inner


def test_what_waits_in_a_buffer_is_not_computed_again():
    region, _ = captured(
        normalised_over_channels, [torch.randn(2, 6, 9, 11), torch.randn(6, 1, 3, 3)]
    )
    kernels = plan(coalesce(region), Choices(width=8)).kernels
    assert sum(a.size == 3 for k in kernels for a in k.inner) == 2


def test_columns_that_are_pooled_in_pairs_are_finished_and_written_as_they_come():
    region, _ = captured(*CASES["pairs of columns"])
    product, pool, rows = plan(coalesce(region), Choices(width=16)).kernels
    assert product.contraction is not None
    assert [a.size for a in product.outer] == [16, 64]  # the bias is added here
    assert [a.size for a in rows.outer] == [16]
    assert not pool.whole


@pytest.mark.parametrize("name", CONTRACTED_ONCE)
def test_a_contraction_is_computed_once_however_its_readers_go_over_it(name, grown):
    regions = grown.regions(name)
    kernels = [k for r in regions for k in plan(coalesce(r), Choices(width=8)).kernels]
    assert sum(k.contraction is not None for k in kernels) == 1
    assert len(regions) == 2
    assert regions[0].source[-1].startswith(("aten.convolution", "aten.linear"))


def test_a_small_contraction_is_computed_again_rather_than_by_a_region_of_its_own():
    region, _ = captured(neighbours, [torch.randn(24, 16), torch.randn(20, 16)])
    assert region.source[0] == "aten.linear.default"


def test_parts_of_a_contraction_that_are_its_whole_are_computed_where_they_are_read():
    region, _ = captured(gated, [torch.randn(256, 64), torch.randn(160, 64)])
    assert region.source[0] == "aten.linear.default"


def test_few_points_need_no_table():
    region, _ = captured(turned, [torch.randn(4, 33, 32), torch.randn(33, 16)])
    assert len(plan(coalesce(region), Choices(width=8)).kernels) == 1


def test_long_chains_of_instructions_run_side_by_side():
    lanes = max(4, GENEROUS.vector_bytes // 4)

    def width(function):
        return space.first_guess(captured(function, [torch.randn(64, 512)])[0], GENEROUS).width

    assert width(F.softplus) == 4 * lanes
    assert width(torch.relu) == lanes


def test_columns_are_reduced_in_tiles_as_wide_as_leaves_every_core_its_tasks():
    region, _ = captured(lambda x: x.sum(0), [torch.randn(512, 4096)])

    def tile(cores):
        return space.first_guess(region, GENEROUS.replace(cores=cores)).tile

    plain = 16 * max(4, GENEROUS.vector_bytes // 4)
    assert tile(1) == 8 * plain
    assert tile(64) == plain
    for cores in (2, 4):
        assert tile(cores) > plain
        assert 4096 // tile(cores) >= 4 * cores


def test_a_convolution_summed_over_all_its_pixels_has_a_first_guess():
    def pooled(x, w):
        return F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1).mean((2, 3))

    region, _ = captured(pooled, [torch.randn(2, 8, 6, 6), torch.randn(8, 12, 3, 3)])
    assert space.first_guess(region, GENEROUS).winograd == 0


def test_what_each_column_needs_is_computed_once():
    region, _ = captured(*CASES["tables of columns"])
    *tables, product = plan(coalesce(region), Choices(width=8)).kernels
    assert product.contraction is not None
    assert tables
    assert all(k.numel <= 48 for k in tables)
    written = emit_region(region, Choices(width=8))
    assert "rsqrt" not in written.partition("finish = ")[2]


def test_lanes_run_along_what_nearly_fills_them_rather_than_along_a_window():
    region, _ = captured(lambda x: F.max_pool2d(torch.sigmoid(x), 2), [torch.randn(2, 3, 30, 30)])
    for width, axis in ((8, 15), (16, 15)):
        choices = Choices(width=width)
        (kernel,) = plan(coalesce(region), choices).kernels
        assert lane_axis(kernel, choices).size == axis
