"""The floor is what the chip's peaks say, for the level where the working set lives."""

import pytest

from epitaxy.chip import Chip, Level
from epitaxy.errors import BadInput
from epitaxy.problem import Work
from epitaxy.roofline import (
    MARGIN,
    algebra,
    bandwidths,
    below_physics,
    floor,
    home_level,
    ridge,
)
from epitaxy.verdict import Floor

MIB = 1 << 20
L2 = Level(
    name="L2",
    bytes=MIB,
    read_bytes_per_s=400e9,
    write_bytes_per_s=200e9,
    stream_bytes_per_s=20e9,
    copy_bytes_per_s=300e9,
)
DRAM = Level(
    name="DRAM",
    bytes=1 << 34,
    read_bytes_per_s=40e9,
    write_bytes_per_s=20e9,
    stream_bytes_per_s=30e9,
    copy_bytes_per_s=35e9,
    copy_stream_bytes_per_s=50e9,
)


def chip(**changes):
    facts = {
        "name": "paper chip",
        "vendor": "none",
        "kind": "cpu",
        "measured": True,
        "peak_flops_per_s": {"float32": 400e9},
        "levels": (L2, DRAM),
    }
    return Chip(**(facts | changes))


def test_compute_bound():
    limit = floor(Work(flops=4e9, bytes_read=1e6), chip(), 64 * MIB)
    assert limit.limit == "compute"
    assert limit.time_s == limit.compute_s == pytest.approx(0.01)
    assert limit.measured


def test_reads_from_memory():
    limit = floor(Work(flops=1.0, bytes_read=64e6), chip(), 64 * MIB)
    assert limit.limit == "memory: DRAM"
    assert limit.time_s == pytest.approx(64e6 / 40e9)


def test_a_small_set_lives_in_its_cache():
    limit = floor(Work(bytes_read=5e5), chip(), MIB // 2)
    assert limit.limit == "memory: L2"
    assert limit.time_s == pytest.approx(5e5 / 400e9)


def test_writes_use_the_better_store():
    slow, fast = (floor(Work(bytes_written=1e6), chip(), w) for w in (64 * MIB, MIB // 2))
    assert slow.time_s == pytest.approx(1e6 / 30e9)
    assert fast.time_s == pytest.approx(1e6 / 200e9)


def test_reads_and_writes_pair_into_the_best_copy():
    limit = floor(Work(bytes_read=30e6, bytes_written=10e6), chip(), 64 * MIB)
    assert limit.time_s == pytest.approx(20e6 / 50e9 + 20e6 / 40e9)
    unpaired = chip(levels=(DRAM.replace(copy_bytes_per_s=1e9, copy_stream_bytes_per_s=0.0),))
    limit = floor(Work(bytes_read=10e6, bytes_written=10e6), unpaired, 64 * MIB)
    assert limit.time_s == pytest.approx(10e6 / 40e9 + 10e6 / 30e9)


def test_the_curve_decides_between_levels():
    curves = {"read": ((MIB, 400e9), (4 * MIB, 100e9), (16 * MIB, 40e9))}
    measured = chip(curves=curves)
    assert bandwidths(measured, 1000)["read"] == pytest.approx(400e9)
    assert bandwidths(measured, 2 * MIB)["read"] == pytest.approx(200e9)
    assert bandwidths(measured, 1 << 40)["read"] == pytest.approx(40e9)


def test_a_dip_in_the_curve_is_not_a_limit():
    curves = {"read": ((1e5, 50e9), (2e5, 300e9), (4e5, 100e9))}
    assert bandwidths(chip(curves=curves), 100_000)["read"] == pytest.approx(300e9)


def test_more_bytes_never_lower_the_floor():
    curves = {
        "read": ((1e5, 400e9), (1e6, 300e9), (1e7, 50e9)),
        "write": ((1e5, 200e9), (1e6, 150e9), (1e7, 20e9)),
        "copy_stream": ((1e5, 60e9), (1e6, 60e9), (1e7, 60e9)),
    }
    times = [
        floor(Work(bytes_read=n, bytes_written=n), chip(curves=curves), 2 * n).time_s
        for n in (10_000, 60_000, 200_000, 700_000, 3_000_000, 50_000_000)
    ]
    assert times == sorted(times)


def test_a_borrowed_peak_says_so():
    limit = floor(Work(flops=4e12, dtype="bfloat16"), chip(), MIB)
    assert limit.limit == "compute (float32 peak: none known for bfloat16)"
    limit = floor(Work(flops=4e12, dtype="int8"), chip(), MIB)
    assert limit.limit == "compute (float32 peak: none known for int8)"


def test_an_unknown_peak_is_an_error_with_a_mend():
    with pytest.raises(BadInput, match="no known peak for float4") as caught:
        floor(Work(flops=1e9, dtype="float4"), chip(), MIB)
    assert "epitaxy probe" in caught.value.mend


def test_no_bandwidth_is_an_error_with_a_mend():
    with pytest.raises(BadInput, match="no known memory bandwidth"):
        floor(Work(bytes_read=1.0), chip(levels=()), MIB)
    with pytest.raises(BadInput, match="no known memory bandwidth"):
        ridge(chip(levels=()), "float32")


def test_no_work_has_no_floor():
    limit = floor(Work(), chip(), 0)
    assert limit.time_s == 0.0
    assert not below_physics(1e-9, limit)


def test_datasheet_levels_without_bandwidth_are_passed_over():
    sheet = chip(measured=False, levels=(L2.replace(read_bytes_per_s=0.0), DRAM))
    assert home_level(sheet, 1000).name == "DRAM"
    assert not floor(Work(bytes_read=1.0), sheet, 1000).measured


def test_a_set_larger_than_every_level_lives_in_the_largest():
    assert home_level(chip(), 1 << 50).name == "DRAM"


def test_ridge_point():
    assert ridge(chip(), "float32") == pytest.approx(10.0)


def test_below_physics_leaves_a_margin():
    limit = Floor(time_s=1.0, limit="compute", compute_s=1.0, memory_s=0.0, measured=True)
    assert not below_physics(1.0, limit)
    assert not below_physics(MARGIN * 1.01, limit)
    assert below_physics(MARGIN * 0.99, limit)


HEAVY = Work(flops=4e9, bytes_read=4e6)  # 10 ms of arithmetic, 0.1 ms of memory


def test_algebra_is_the_ratio_of_the_floors():
    own = Work(flops=0.0, bytes_read=4e6)
    assert algebra(HEAVY, own, chip(), 64 * MIB, time_s=0.02) == pytest.approx(100, rel=0.01)
    assert algebra(HEAVY, None, chip(), 64 * MIB, time_s=0.02) == 1
    half = Work(flops=2e9, bytes_read=4e6)
    assert algebra(HEAVY, half, chip(), 64 * MIB, time_s=0.02) == pytest.approx(2)


def test_more_work_than_the_reference_is_no_algebra():
    assert algebra(HEAVY, Work(flops=9e9, bytes_read=4e6), chip(), 64 * MIB, time_s=0.03) == 1


def test_a_time_far_below_the_floor_shows_algebra_that_nobody_declared():
    assert algebra(HEAVY, None, chip(), 64 * MIB, time_s=1e-3) == pytest.approx(10)
    assert algebra(HEAVY, None, chip(), 64 * MIB, time_s=0.5e-2) == 1
