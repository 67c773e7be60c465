"""The judge on real processes: honest code is accepted, every kind of bad code gets its status."""

import pytest
from relu_case import HONEST, KERNEL, problem

from epitaxy.candidate import Candidate
from epitaxy.judge import Judge
from epitaxy.toolchain import Build

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def judge(tmp_path_factory, machine_of):
    with machine_of() as machine:
        it = Judge(problem(tmp_path_factory.mktemp("judge")), machine, baselines=["eager"])
        yield it
        it.close()


@pytest.fixture(scope="module")
def forward(judge):
    """The forward file that the grower writes for this very problem."""
    from epitaxy.proposers.grower.growth import grow_program

    return grow_program(judge.reference).forward


def candidate(judge, forward, body=HONEST, kernel=KERNEL):
    return Candidate(
        problem=judge.problem.digest,
        toolchain="cpp",
        files={"kernel.cpp": kernel.replace("BODY", body), "forward.py": forward},
        entry="forward.py",
        proposer="test",
    )


def test_honest_code_is_accepted_with_all_its_evidence(judge, forward):
    verdict = judge.judge(candidate(judge, forward), "screen")
    assert verdict.status == "accepted", verdict.reason
    assert {"candidate", "eager"} <= set(verdict.samples)
    assert verdict.comparisons[0].baseline == "eager"
    assert verdict.floor.time_s > 0
    assert len(verdict.errors) >= 3


def test_the_full_plan_uses_fresh_processes_and_a_control(judge, forward):
    verdict = judge.judge(candidate(judge, forward), "full")
    assert verdict.status == "accepted", verdict.reason
    assert 0.2 < verdict.metrics["control_ratio"] < 5
    assert len({row.distribution for row in verdict.errors}) >= 7


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("y[i] = x[i];", "incorrect", "error"),
        ("y[i] = 0.0f;", "incorrect", "error"),
        ("{ if (i < 1000) y[i] = x[i]; }", "incorrect", "error"),
        ("y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5001f * x[i];", "incorrect", "error"),
        (HONEST + " { const_cast<float*>(x)[0] = 1.0f; }", "refused", "writes to its inputs"),
        ("*(volatile int*)0 = 1;", "crashed", "SIGSEGV"),
        ("y[i] = nothing;", "build_failed", "nothing"),
        ('system("id");', "refused", "calls system"),
    ],
)
def test_bad_code_gets_its_status_and_a_reason(judge, forward, body, status, says):
    verdict = judge.judge(candidate(judge, forward, body), "screen")
    assert (verdict.status, says in verdict.reason) == (status, True), verdict.reason
    assert verdict.time_s is None
    assert not verdict.samples


def test_a_race_takes_place_between_those_that_are_built(judge, forward, monkeypatch):
    first, second = candidate(judge, forward), candidate(judge, forward, f"{{ {HONEST} }}")
    found = judge.race([first, second])
    assert set(found) == {first.digest, second.digest}
    assert min(found.values()) == 1.0
    real, late = judge.build, Build(ok=False, folder="", log="compiling took more than 60 s")
    monkeypatch.setattr(judge, "build", lambda c: late if c is second else real(c))
    assert judge.race([first, second]) == {}


@pytest.mark.parametrize(
    "line",
    ["import os", "import ctypes", "eval('1')", "open('/etc/passwd')", "().__class__.__bases__"],
)
def test_forward_may_only_compute(judge, forward, line):
    verdict = judge.judge(candidate(judge, f"{forward}\n{line}\n"), "screen")
    assert verdict.status == "refused"
    assert "sources" in verdict.reason


def test_no_source_can_steer_a_terminal_through_a_verdict(judge, forward):
    kernel = '#include "\x1b[2J\u202e.h"\n' + KERNEL
    verdict = judge.judge(candidate(judge, forward, kernel=kernel), "screen")
    assert (verdict.status, "includes" in verdict.reason) == ("refused", True)
    said = [verdict.reason, *(finding.message for finding in verdict.findings)]
    assert all(c.isprintable() or c in "\n\t" for text in said for c in text)


def test_a_candidate_for_another_problem_is_the_callers_mistake(judge, forward):
    from epitaxy.errors import BadInput

    with pytest.raises(BadInput, match="another problem"):
        judge.judge(candidate(judge, forward).replace(problem="0" * 64), "screen")
