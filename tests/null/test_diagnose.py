"""From metrics to ranked bottlenecks, by rules that are data."""

from __future__ import annotations

import pytest

from epitaxy import rulebook
from epitaxy.diagnose import diagnose
from epitaxy.errors import BadInput, UnknownName
from epitaxy.metric import Bottleneck, Metric, Profile, metrics_of

STALL = "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio"
TAIL = {
    "launch__waves_per_multiprocessor": 1.25, "launch__grid_size": 330.0, "launch__sm_count": 132.0,
    "smsp__issue_active.avg.per_cycle_active": 0.3,
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": 30.0,
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": 40.0,
    "smsp__average_warp_latency_per_inst_issued.ratio": 20.0, STALL: 12.0,
}  # fmt: skip


def profile(values, kernel="k", family="nvidia", **more):
    return Profile(
        kernel=kernel, family=family, source="ncu", metrics=metrics_of(values, "ncu"), **more
    )


def test_a_cause_comes_before_its_symptoms():
    found = diagnose([profile(TAIL)])
    rules = [f.rule for f in found.bottlenecks]
    assert rules[0] == "tail_wave"
    tail = found.bottlenecks[0]
    assert tail.gain == pytest.approx(1 - 1.25 / 2)
    assert tail.speedup == pytest.approx(1 / (1.25 / 2))
    stall = next(f for f in found.bottlenecks if f.rule == "stall_long_scoreboard")
    assert stall.gain > tail.gain
    assert stall.explained_by == ("tail_wave",)
    assert STALL in [m.id for m in stall.evidence]
    assert [f.rank for f in found.bottlenecks] == list(range(1, len(rules) + 1))
    assert rules.index("stall_long_scoreboard") < rules.index("latency_bound")


def test_without_its_cause_a_symptom_stands_alone():
    values = TAIL | {"launch__waves_per_multiprocessor": 8.0, "launch__grid_size": 2112.0}
    first = diagnose([profile(values)]).first
    assert first.rule in ("stall_long_scoreboard", "issue_slots")


def test_what_could_not_be_asked_says_what_it_needs():
    kernel = diagnose([profile({"launch__block_size": 100.0})]).kernels[0]
    assert [f.rule for f in kernel.bottlenecks] == ["block_size"]
    needs = {u.rule: u.needs for u in kernel.unevaluated}
    assert "launch__waves_per_multiprocessor" in needs["tail_wave"]
    asked = {*kernel.passed, *needs, "block_size"}
    assert asked == {rule.id for rule in rulebook.rules("nvidia")}


def test_a_metric_that_the_chip_does_not_have_is_said():
    gmma = "smsp__average_warps_issue_stalled_gmma_per_issue_active.ratio"
    hmma = "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_elapsed"
    kernel = diagnose([profile(TAIL | {hmma: 20.0}, chip="GB100")]).kernels[0]
    assert kernel.misplaced == {hmma: "exists on GA100, GH100, not on GB100"}
    why = {u.rule: u.why for u in kernel.unevaluated}["stall_gmma"]
    assert why == f"{gmma} exists on GH100, not on GB100"


def test_kernels_are_weighed_by_their_share_of_the_time():
    small = {"launch__grid_size": 13.0, "launch__sm_count": 132.0}
    found = diagnose([profile(TAIL, "long", time_s=9.0), profile(small, "short", time_s=1.0)])
    assert [k.profile.kernel for k in found.kernels] == ["long", "short"]
    assert found.first.kernel == "long"
    other = next(f for f in found.bottlenecks if f.kernel == "short")
    assert other.gain > 0.9
    assert other.weight == pytest.approx(other.gain * 0.1)
    without = diagnose([profile(TAIL, "long"), profile(small, "short")])
    assert "weighed equally" in without.notes[0]


def test_bottlenecks_are_records():
    found = diagnose([profile(TAIL)])
    assert type(found).from_dict(found.to_dict()) == found


def test_nothing_to_diagnose_and_no_rules_are_errors():
    with pytest.raises(BadInput, match="no kernel"):
        diagnose([])
    with pytest.raises(UnknownName, match="family"):
        diagnose([profile({}, family="nvidja")])


def test_records_refuse_what_contradicts_itself():
    with pytest.raises(BadInput, match="twice"):
        Profile(kernel="k", family="cpu", source="s", metrics=(Metric(id="a", value=1.0),) * 2)
    with pytest.raises(BadInput, match="nan"):
        Metric(id="a", value=float("nan"))
    with pytest.raises(BadInput, match="go together"):
        Bottleneck(
            rule="r", kernel="k", limit="l", says="s", evidence=(), move="m", source="s", gain=0.1
        )


@pytest.mark.parametrize("family", rulebook.families())
def test_rules_name_metrics_that_exist(family):
    """Every name in a rule is a definition or in the family's table, so that no typo hides one."""
    from epitaxy import expression

    for rule in rulebook.rules(family):
        mentioned = {*expression.names(rule.when), *expression.names(rule.gain or "0")}
        for used in [n for n in mentioned if n in rule.let]:
            mentioned |= set(expression.names(rule.let[used]))
        for name in mentioned - set(rule.let):
            assert rulebook.find(family, name) or name.startswith("chip."), f"{rule.id}: {name}"


BROKEN = """
family = "x"
[sources]
S = "somebody"
[[rule]]
id = "r"
limit = "l"
when = "{when}"
says = "s"
move = "m"
source = "{source}"
"""


@pytest.mark.parametrize(
    ("when", "source", "said"),
    [("open('f')", "S", "not allowed"), ("a >", "S", "cannot read"), ("a > 1", "T", "'T'")],
)
def test_a_broken_rule_names_its_file(when, source, said):
    with pytest.raises(BadInput, match=r"rules/x\.toml") as caught:
        rulebook.read("x.toml", BROKEN.format(when=when, source=source))
    assert said in str(caught.value)
