"""Compare: floors, energy and money of one problem on chips, by figures that can be checked."""

from __future__ import annotations

import pytest
from fake_records import CHIP, problem

from epitaxy.chip_facts import find
from epitaxy.compare import HEADER, UNKNOWN, chart, html, markdown, rows, standing
from epitaxy.verdict import Floor, Verdict

H100 = find("h100")


def test_a_floor_is_bytes_over_bandwidth_and_energy_is_power_times_it():
    it = standing(problem(), H100)
    assert it.floor is not None
    assert it.floor.time_s == pytest.approx(2 * 2048 * 4096 * 4 / 3350e9)
    assert it.energy_j == pytest.approx(700 * it.floor.time_s)
    assert it.usd_per_million == pytest.approx(2.0 / 3600 * it.floor.time_s * 1e6)


def test_arithmetic_of_another_dtype_has_another_peak():
    heavy = problem(flops=1e12)
    assert standing(heavy, H100).floor.compute_s == pytest.approx(1e12 / 67e12)
    assert standing(heavy, H100, "bfloat16").floor.compute_s == pytest.approx(1e12 / 989e12)


def test_what_is_unknown_is_said_and_nothing_is_made_of_it():
    it = standing(problem(), find("trainium2"))
    assert it.energy_j is None
    assert it.to_dict()["power"] is None
    row = dict(zip(HEADER, rows([it])[0], strict=True))
    assert row["at full power"] == row["calls per joule"] == UNKNOWN
    bare = standing(problem(flops=1e9), CHIP.replace(peak_flops_per_s={}, measured=False))
    assert bare.floor is None
    assert "no known peak for float32" in rows([bare])[0][3]


def test_the_lowest_floor_comes_first_and_what_has_none_last():
    bare = CHIP.replace(name="bare", peak_flops_per_s={}, measured=False)
    chips = [bare, CHIP, H100, find("mi300x")]
    names = [r[0] for r in rows([standing(problem(flops=1e9), c) for c in chips])]
    assert names[-2:] == [CHIP.name, "bare"]


def test_a_kernel_that_was_never_timed_shows_no_time():
    checked = Verdict(candidate="c", problem="p", machine="m", plan="full", status="accepted",
                      basis="checked", metrics={"occupancy": 0.5, "registers": 40.0})  # fmt: skip
    cell = rows([standing(problem(), H100, best=checked)])[0][-1]
    assert cell == "checked: occupancy 0.5, registers 40"
    timed = Verdict(candidate="c", problem="p", machine="m", plan="full", status="accepted",
                    time_s=2e-3, floor=Floor(time_s=1e-3, limit="memory: DRAM", compute_s=0.0,
                                             memory_s=1e-3, measured=True))  # fmt: skip
    assert (
        rows([standing(problem(), CHIP, best=timed)])[0][-1] == "measured: 2 ms, 50% of the limit"
    )


def test_page_and_table_hold_every_chip_and_no_script():
    standings = [standing(problem(name="a <b>"), c) for c in (H100, find("trainium2"), CHIP)]
    page, table = html(problem(name="a <b>"), standings), markdown(problem(), standings)
    for name in (H100.name, "AWS Trainium2"):
        assert name in page
        assert name in table
    assert "a &lt;b&gt;" in page
    assert "<script" not in page
    assert "700 W [A]" in page


def test_only_chips_of_known_power_are_drawn():
    drawn = chart([standing(problem(), c) for c in (H100, find("trainium2"))])
    assert drawn is not None
    assert [m["title"].partition(":")[0] for m in drawn.marks if m["kind"] == "dot"] == [H100.name]
    assert chart([standing(problem(), find("trainium2"))]) is None
