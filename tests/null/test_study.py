"""A study with a scripted proposer, a fake judge and a machine that only replays."""

from __future__ import annotations

import math

import fake_records
import pytest

import epitaxy
from epitaxy.errors import BadInput, MachineFault
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.proposers.scripted import Scripted
from epitaxy.replay import ReplayJudge
from epitaxy.study import NEAR_ENOUGH, PATIENCE, Budget, Study, create_study
from epitaxy.timing import unix_s
from epitaxy.toolchain import Build

PROBLEM = fake_records.problem()
SCRIPT = [fake_records.candidate(PROBLEM, step) for step in range(1, 7)]


class FakeJudge:
    """Speed-ups by candidate: a number, a status, or an exception to raise."""

    def __init__(self, machine, answers=None, default=1.5, of_limit=0.5):
        self.machine = machine
        self.answers = answers or {}
        self.default, self.of_limit = default, of_limit
        self.calls: list[tuple[str, str]] = []
        self.built: list[str] = []
        self.closed = False

    def baselines(self):
        return {"eager": 1e-3}

    def build(self, candidate):
        self.built.append(candidate.digest)
        return Build(ok=True, folder="")

    def judge(self, candidate, plan="screen", best=0.0):
        self.calls.append((candidate.digest, plan))
        answer = self.answers.get(candidate.digest, self.default)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, str):
            verdict = fake_records.refused(candidate).replace(status=answer)
        else:
            time_s = 1.6e-3 / self.of_limit
            verdict = fake_records.accepted(candidate, time_s, {"eager": answer})
        return verdict.replace(plan=plan, machine=self.machine, judged_unix_s=unix_s())

    def race(self, candidates):
        self.raced = [c.digest for c in candidates]
        return {d: 1.0 + place / 10 for place, d in enumerate(reversed(self.raced))}

    def close(self):
        self.closed = True


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def study_of(ledger, script=SCRIPT, budget="100", **judge):
    study = Study(PROBLEM, ReplayMachine(), Scripted(script), ledger, Budget.parse(budget))
    study._judge = FakeJudge(study.machine_digest, **judge)
    return study


class TestBudget:
    @pytest.mark.parametrize(
        ("text", "seconds", "candidates"),
        [("90s", 90, None), ("2m", 120, None), ("1.5h", 5400, None), (" 10 s ", 10, None),
         ("200", None, 200), (3, None, 3), (Budget(seconds=4.0), 4, None)],
    )  # fmt: skip
    def test_is_read(self, text, seconds, candidates):
        budget = Budget.parse(text)
        assert (budget.seconds, budget.candidates) == (seconds, candidates)

    @pytest.mark.parametrize("text", ["", "soon", "2 weeks", "-3s", "0", "0s", "1.5", "1e3", "m"])
    def test_errors_say_what_to_type(self, text):
        with pytest.raises(BadInput) as caught:
            Budget.parse(text)
        assert "2m" in caught.value.mend or "90s" in caught.value.mend


class TestAskAndTell:
    def test_what_is_told_is_recorded(self, ledger):
        study = study_of(ledger)
        asked = study.ask(2)
        assert asked == SCRIPT[:2]
        assert list(study.view().pending()) == asked
        verdict = study.judge.judge(asked[0])
        study.tell(asked[0], verdict)
        assert list(study.view().pending()) == asked[1:]
        assert ledger.judged(PROBLEM.digest) == [(asked[0], verdict)]
        assert study.proposer.learned == [verdict]
        assert study.best == (asked[0], verdict)

    def test_a_verdict_belongs_to_its_candidate(self, ledger):
        study = study_of(ledger)
        first, second = study.ask(2)
        with pytest.raises(BadInput, match="another candidate"):
            study.tell(first, study.judge.judge(second))

    def test_a_machine_fault_says_nothing(self, ledger):
        study = study_of(ledger, answers={SCRIPT[0].digest: "machine_fault"})
        candidate = study.ask()[0]
        study.tell(candidate, study.judge.judge(candidate))
        assert study.best is None
        assert not study.view().judged()
        assert not study.view().pending()
        assert len(ledger.verdicts(PROBLEM.digest)) == 1

    def test_nothing_judged_has_no_best(self, ledger):
        assert study_of(ledger).best is None


class TestOptimize:
    def test_those_that_are_close_are_raced_before_the_final_judgement(self, ledger):
        ratios = (2.0, 3.0, 2.9, 2.8, 2.95, 2.4)
        study = study_of(ledger, answers={c.digest: x for c, x in zip(SCRIPT, ratios, strict=True)})
        study.optimize()
        close = [SCRIPT[n].digest for n in (1, 4, 2)]
        assert study.judge.raced == close
        finals = [d for d, plan in study.judge.calls if plan == "full"]
        assert finals == close[::-1][:2]
        ((kind, _, body),) = [e for e in ledger.events(PROBLEM.digest) if e[0] == "raced"]
        assert body["ratios"][close[2]] == 1.0

    def test_what_the_machine_kept_from_being_judged_is_not_called_unaccepted(self, ledger):
        """A screening alone proves nothing, and nothing is said against the candidates."""
        study = study_of(ledger)
        judge = study._judge.judge
        fails = {"full"}

        def failing(candidate, plan="screen", best=0.0):
            verdict = judge(candidate, plan, best)
            if plan not in fails:
                return verdict
            refused = fake_records.refused(candidate).replace(reason="memory ran out")
            return refused.replace(status="machine_fault", plan=plan, machine=verdict.machine)

        study._judge.judge = failing
        with pytest.raises(MachineFault, match="memory ran out") as caught:
            study.optimize()
        assert "run again" in caught.value.mend
        assert [plan for _, plan in study.judge.calls].count("full") == 2, "it is not asked on"
        fails.clear()
        study.optimize()
        assert study.best is not None
        assert study.best[1].plan == "full"

    def test_a_machine_that_judges_nobody_says_so(self, ledger):
        study = study_of(ledger, default="machine_fault")
        with pytest.raises(MachineFault, match="no candidate could be judged"):
            study.optimize()

    def test_nobody_is_raced_when_the_time_is_over(self, ledger):
        study = study_of(ledger, budget=Budget(seconds=1e-9))
        for candidate in study.ask(3):
            study.tell(candidate, study.judge.judge(candidate))
        study.optimize()
        assert [plan for _, plan in study.judge.calls[3:]] == ["full"]
        assert not hasattr(study.judge, "raced")

    def test_who_is_far_ahead_is_not_raced(self, ledger):
        study = study_of(ledger, answers={SCRIPT[2].digest: 3.0}, default=2.0)
        study.optimize()
        assert not hasattr(study.judge, "raced")

    def test_the_script_is_judged_to_its_end(self, ledger):
        answers = {SCRIPT[2].digest: 3.0, SCRIPT[4].digest: 2.5, SCRIPT[0].digest: "crashed"}
        study = study_of(ledger, answers=answers)
        study.optimize()
        assert study.stop_reason == "the script is at its end"
        screened = [d for d, plan in study._judge.calls if plan == "screen"]
        assert screened == [c.digest for c in SCRIPT]
        finals = [d for d, plan in study._judge.calls if plan == "full"]
        assert finals == [SCRIPT[2].digest, SCRIPT[4].digest]
        assert set(study._judge.built) >= set(screened)
        assert study.best[0] == SCRIPT[2]
        assert study.best[1].plan == "full"
        assert study._judge.closed
        kind, _, body = ledger.events(PROBLEM.digest)[-1]
        assert (kind, body) == ("stopped", {"reason": study.stop_reason})

    def test_what_is_known_is_not_judged_again(self, ledger):
        study_of(ledger).optimize()
        again = study_of(ledger)
        again.optimize()
        assert not [call for call in again._judge.calls if call[1] == "screen"]
        assert again.best[1].plan == "full"
        assert len(again.view().judged()) == len(SCRIPT)

    def test_another_machine_judges_for_itself(self, ledger):
        study_of(ledger).optimize()
        machine = ReplayMachine(fingerprint={"cpu": "another"})
        other = Study(PROBLEM, machine, Scripted(SCRIPT), ledger, Budget.parse("100"))
        assert not other.view().judged()

    def test_a_budget_of_candidates_is_kept(self, ledger):
        study = study_of(ledger, budget="3")
        study.optimize()
        assert [plan for _, plan in study._judge.calls].count("screen") == 3
        assert study.stop_reason == "the budget is spent"

    def test_a_budget_of_time_is_kept(self, ledger):
        study = study_of(ledger, budget="0.000001s")
        study.optimize()
        assert not study._judge.calls
        assert study.stop_reason == "the budget is spent"

    def test_enough_candidates_near_the_limit_end_it(self, ledger):
        script = [fake_records.candidate(PROBLEM, step) for step in range(1, 20)]
        study = study_of(ledger, script, of_limit=0.99)
        study.optimize()
        assert [plan for _, plan in study._judge.calls].count("screen") == NEAR_ENOUGH
        assert "limit" in study.stop_reason

    def test_no_gain_for_long_ends_it(self, ledger):
        script = [fake_records.candidate(PROBLEM, step) for step in range(1, PATIENCE + 20)]
        study = study_of(ledger, script)
        study.optimize()
        assert [plan for _, plan in study._judge.calls].count("screen") == PATIENCE + 1
        assert "no faster" in study.stop_reason

    def test_nothing_accepted_is_a_result(self, ledger):
        study = study_of(ledger, answers={c.digest: "incorrect" for c in SCRIPT})
        study.optimize()
        assert study.best is None
        assert len(ledger.judged(PROBLEM.digest)) == len(SCRIPT)

    def test_an_interrupt_keeps_what_was_judged(self, ledger):
        study = study_of(ledger, answers={SCRIPT[3].digest: KeyboardInterrupt()})
        with pytest.raises(KeyboardInterrupt):
            study.optimize()
        assert study.stop_reason == "interrupted"
        assert study._judge.closed
        assert [c for c, _ in ledger.judged(PROBLEM.digest)] == SCRIPT[:3]
        again = study_of(ledger)
        again.optimize()
        screened = [d for d, plan in again._judge.calls if plan == "screen"]
        assert screened == [c.digest for c in SCRIPT[3:]]

    def test_progress_is_told(self, ledger):
        seen = []
        study_of(ledger, answers={SCRIPT[0].digest: "refused"}).optimize([seen.append])
        assert [seen[0].phase, seen[1].phase] == ["capturing", "preparing baselines"]
        assert {"building", "measuring", "final judging"} <= {p.phase for p in seen}
        last = seen[-1]
        assert (last.judged, last.accepted, last.refused) == (6, 5, 1)
        assert last.left_s is None
        assert last.speedup == pytest.approx(1.5)

    def test_a_recorded_search_can_be_replayed(self, ledger):
        first = study_of(ledger, answers={SCRIPT[1].digest: 4.0})
        first.optimize()
        count = len(ledger.verdicts(PROBLEM.digest))
        judge = ReplayJudge(ledger, PROBLEM)
        machine = ReplayMachine(fingerprint={"cpu": "of the replay"})
        again = Study(PROBLEM, machine, Scripted(SCRIPT), ledger, first.budget, judge=judge)
        again.optimize()
        assert again.best == first.best
        assert len(ledger.verdicts(PROBLEM.digest)) == count


def test_create_study_takes_objects_and_names(tmp_path):
    script = Scripted(SCRIPT)
    study = create_study(
        PROBLEM, machine="replay", proposer=script, ledger=tmp_path / "l.sqlite", budget="5"
    )
    assert study.proposer is script
    assert study.machine.name == "replay"
    with pytest.raises(MachineFault):
        study.optimize()
    assert epitaxy.create_study is create_study


@pytest.mark.parametrize("option", [{"machine": "locla"}, {"proposer": "growr"}, {"budget": "x"}])
def test_create_study_names_what_is_wrong(tmp_path, option):
    with pytest.raises(BadInput):
        create_study(PROBLEM, ledger=tmp_path / "l.sqlite", **option)


@pytest.mark.parametrize(
    "fields",
    [{}, {"tokens": 5}, {"seconds": 1.0, "candidates": 0}, {"seconds": 0.0}, {"seconds": -1.0},
     {"seconds": math.nan}, {"candidates": 1, "usd": 0.0}, {"candidates": 1, "tokens": 0}],
)  # fmt: skip
def test_a_contradictory_budget_cannot_be_built(fields):
    with pytest.raises(BadInput):
        Budget(**fields)
