"""What a verdict rests on, and what follows for what it may hold."""

from __future__ import annotations

import pytest

from epitaxy.chip import find_chip
from epitaxy.errors import BadInput
from epitaxy.predict import predicted_cost
from epitaxy.problem import Work
from epitaxy.record import FrozenDict
from epitaxy.roofline import floor
from epitaxy.toolchains._absent import same_but_numbers
from epitaxy.toolchains._occupancy import limiter, occupancy
from epitaxy.toolchains._triton import over_limit
from epitaxy.verdict import BASES, Comparison, Verdict

CHECKED = {
    "candidate": "c", "problem": "p", "machine": "m", "plan": "full", "status": "accepted",
    "basis": "checked",
}  # fmt: skip
H100 = find_chip("h100_sxm")


def test_a_checked_verdict_is_accepted_without_a_time():
    verdict = Verdict(**CHECKED, metrics=FrozenDict(predicted_cost=2.0))
    assert verdict.accepted
    assert verdict.time_s is None
    assert verdict.speedup is None
    assert verdict.merit == 0.5
    assert Verdict.from_dict(verdict.to_dict()) == verdict


def test_the_basis_enters_the_digest():
    both = [Verdict(**{**CHECKED, "basis": b}).digest for b in ("checked", "simulated")]
    assert both[0] != both[1]


ROW = Comparison(
    baseline="eager", time_s=2.0, speedup=2.0, low=1.9, high=2.1, outcome="faster",
    detectable=0.1, pairs=9,
)  # fmt: skip


@pytest.mark.parametrize("basis", sorted(set(BASES) - {"measured"}))
@pytest.mark.parametrize(
    "measured",
    [
        {"time_s": 1.0},
        {"samples": FrozenDict(candidate=(1.0,))},
        {"comparisons": (ROW,)},
        {"energy_j": 1.0},
    ],
)
def test_what_was_not_measured_holds_no_measurement(basis, measured):
    with pytest.raises(BadInput):
        Verdict(**{**CHECKED, "basis": basis, **measured})


def test_what_was_only_compiled_is_not_accepted():
    with pytest.raises(BadInput, match="not shown to be correct"):
        Verdict(**{**CHECKED, "basis": "compiled"})
    kept = {**CHECKED, "basis": "compiled", "status": "unchecked", "reason": "nothing runs it"}
    assert not Verdict(**kept).accepted
    with pytest.raises(BadInput, match="compiled alone"):
        Verdict(**{**kept, "basis": "measured"})


def test_a_measured_verdict_needs_its_time():
    with pytest.raises(BadInput, match="if and only if"):
        Verdict(**{**CHECKED, "basis": "measured"})
    with pytest.raises(BadInput, match="unknown basis"):
        Verdict(**{**CHECKED, "basis": "guessed"})


def test_occupancy_and_its_limiter_follow_the_chips_limits():
    launch = {"warps": 8, "shared_bytes": 100_000, "kernel": "k"}
    found = occupancy(launch, 64.0, H100)
    assert found["blocks_by_local_memory"] == 2
    assert found["blocks_by_registers"] == 4
    assert found["occupancy"] == 2 * 8 / 64
    assert limiter(found) == "local memory"
    assert limiter(occupancy({**launch, "shared_bytes": 0}, 255.0, H100)) == "registers"


def test_a_broken_limit_is_named_with_its_bytes():
    fault = over_limit({"warps": 4, "shared_bytes": 400_000, "kernel": "k"}, H100)
    assert "400000 bytes" in fault
    assert "232448" in fault
    assert over_limit({"warps": 4, "shared_bytes": 232_448, "kernel": "k"}, H100) == ""
    assert "1024" in over_limit({"warps": 64, "shared_bytes": 0, "kernel": "k"}, H100)


def test_predictions_rank_full_cores_before_empty_ones_and_spills_last():
    work = Work(bytes_read=1e9, bytes_written=1e9)
    limit = floor(work, H100, 1 << 40)
    good = {"occupancy": 1.0, "programs": 1e5, "launches": 1.0, "count_global_loads": 4.0}
    costs = [
        predicted_cost(m, work, H100, limit)
        for m in (good, {**good, "occupancy": 0.02}, {**good, "spill_bytes": 4096.0})
    ]
    assert 1.0 <= costs[0] < costs[1]
    assert costs[0] < costs[2]
    assert predicted_cost({}, work, H100, limit) == 0.0


def test_a_smaller_form_may_differ_in_numbers_alone():
    text = '"""64 x 64"""\n\ndef f(x):\n    return x + 64\n'
    assert same_but_numbers(text, text.replace("64", "16"))
    assert not same_but_numbers(text, text.replace("+", "-"))
    assert not same_but_numbers(text, "def f(")
