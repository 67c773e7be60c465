"""The desk: what somebody who writes kernels asks and does for one problem."""

from __future__ import annotations

import fake_records
import pytest
from test_study import FakeJudge

from epitaxy import trim
from epitaxy.desk import Desk
from epitaxy.errors import BadCandidate, BadInput, Cancelled, MachineFault, UnknownName
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.record import Record

PROBLEM = fake_records.problem(source="y = torch.softmax(torch.exp(x), 1)")
SCRIPT = [fake_records.candidate(PROBLEM, step) for step in range(1, 5)]
MACHINE = ReplayMachine(fake_records.CHIP, {"cpu": "EPYC", "cores": "4"})


@pytest.fixture
def desk(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add_problem(PROBLEM)
        made = Desk(PROBLEM, MACHINE, ledger)
        made._judge = FakeJudge(
            made.machine_digest, {SCRIPT[1].digest: 2.5, SCRIPT[2].digest: "crashed"}
        )
        yield made


def written(record):
    """Every card is plain data and back."""
    assert type(record).from_dict(record.to_dict()) == record
    assert isinstance(record, Record)
    return record


def test_a_cold_problem_says_what_is_not_known(desk):
    card = written(desk.problem_card())
    assert (card.problem, card.name) == (PROBLEM.id, "row softmax")
    assert card.inputs == ("float32[2048, 4096]", "not a tensor")
    assert card.floor_s > 0
    assert card.limit.startswith("memory")
    assert card.ridge > 1
    assert card.best == ""
    assert "nothing is accepted" in card.unknown[-1]


def test_an_unmeasured_chip_gives_no_floor(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        card = Desk(PROBLEM, ReplayMachine(), ledger).problem_card()
    assert card.floor_s is None
    assert any("probe" in text for text in card.unknown)


def test_judging_is_recorded_and_shows_on_the_card(desk):
    heard = []
    first = written(desk.judge(SCRIPT[0], say=heard.append))
    assert first.accepted
    assert not first.known
    assert first.speedup == 1.5
    assert heard[-2:] == ["judging", "recording"]
    desk.judge(SCRIPT[1], "full")
    card = desk.problem_card()
    assert card.best == SCRIPT[1].id
    assert card.best_speedup == 2.5
    assert "full plan, measured" in card.why
    assert [row.name for row in card.baselines] == ["eager"]
    assert card.judged["accepted"] == 2


def test_the_same_sources_are_not_run_twice(desk):
    desk.judge(SCRIPT[0])
    assert desk.judge(SCRIPT[0].id).known
    assert not desk.judge(SCRIPT[0], "full").known
    assert desk.judge(SCRIPT[0], "screen").known
    assert len(desk._judge.calls) == 2


def test_the_same_sources_under_another_intent_are_known(desk):
    desk.judge(SCRIPT[0])
    again = desk.judge(SCRIPT[0].replace(intent="another", proposer="hand", parents=("a" * 64,)))
    assert again.known
    assert again.candidate == SCRIPT[0].id
    assert len(desk._judge.calls) == 1


def test_edits_stand_on_their_parent(desk):
    desk.judge(SCRIPT[0])
    child = desk.candidate({"kernel.cpp": "// other\n"}, parent=SCRIPT[0].id, intent="try")
    assert child.parents == (SCRIPT[0].digest,)
    assert child.files["forward.py"] == SCRIPT[0].files["forward.py"]
    assert child.toolchain == "cpp"
    assert child.proposer == "hand"
    assert child.work is None


def test_bad_candidates_and_names_are_errors(desk):
    with pytest.raises(BadCandidate, match="among kernel"):
        desk.candidate({"kernel.cpp": "x"})
    with pytest.raises(BadCandidate, match="leaves the candidate's folder"):
        desk.candidate({"forward.py": "x", "kernel.cpp": "x", "../../x.py": "y"})
    with pytest.raises(UnknownName):
        desk.judge("abcdef")
    with pytest.raises(BadInput, match="unknown plan"):
        desk.judge(SCRIPT[0], "sloppy")
    other = fake_records.candidate(fake_records.problem(name="another"), 1)
    with pytest.raises(BadInput, match="another problem"):
        desk.judge(other)


def test_two_candidates_side_by_side(desk):
    for candidate in SCRIPT[:2]:
        desk.judge(candidate)
    card = written(desk.compare(SCRIPT[0].id, SCRIPT[1].id))
    assert "-  for (long i = 0; i < 2048L * 4096; i += 1)" in card.diff
    assert "+  for (long i = 0; i < 2048L * 4096; i += 2)" in card.diff
    figures = {row.name: row for row in card.figures}
    assert figures["speedup"].ratio == pytest.approx(2.5 / 1.5)
    with pytest.raises(BadInput, match="no parent"):
        desk.compare(SCRIPT[0].id)


def test_what_worked_and_what_did_not(desk):
    for candidate in SCRIPT[:3]:
        desk.judge(candidate)
    card = written(desk.search())
    assert [hit.candidate for hit in card.worked] == [SCRIPT[1].id, SCRIPT[0].id]
    assert card.worked[0].machine == "EPYC, 4 cores"
    assert card.dead_ends[0].example == SCRIPT[2].id
    assert card.considered == 3
    assert desk.search("no such word").considered == 0


def test_other_problems_are_found_by_their_operators(desk):
    like = fake_records.problem(name="log softmax", source="y = torch.softmax(x, 0).log()")
    far = fake_records.problem(name="conv", source="y = F.conv2d(x, w)")
    for problem in (like, far):
        desk.ledger.add_problem(problem)
        it = fake_records.candidate(problem, 9)
        desk.ledger.add_candidate(it)
        verdict = fake_records.accepted(it, 1e-3, {"eager": 3.0})
        desk.ledger.add_verdict(verdict.replace(machine=desk.machine_digest))
    desk.judge(SCRIPT[0])
    card = desk.search(everywhere=True)
    assert [hit.name for hit in card.worked] == ["row softmax", "log softmax", "conv"]
    assert card.similar == ("log softmax",)
    assert [hit.name for hit in desk.search("conv2d", everywhere=True).worked] == ["conv"]


def test_a_chip_by_name_and_ones_own(desk):
    own = written(desk.chip_card())
    assert own.measured
    assert own.memories[-1].read_bytes_per_s == 4.2e10
    assert own.ridges["float32"] > 1
    named = written(desk.chip_card("h100"))
    assert not named.measured
    assert named.facts
    with pytest.raises(UnknownName):
        desk.chip_card("h1000000")


GCC = """In file included from /usr/include/c++/12/vector:60,
                 from /tmp/build/abc/kernel.cpp:3:
/tmp/build/abc/kernel.cpp: In function 'void rows(float*)':
/tmp/build/abc/kernel.cpp:9:3: warning: unused variable 'a' [-Wunused]
    9 |   int a;
/tmp/build/abc/kernel.cpp:12:5: error: 'foo' was not declared in this scope
   12 |     foo(x);
      |     ^~~
/tmp/build/abc/kernel.cpp:12:5: note: suggested alternative: 'for'
/tmp/build/abc/kernel.cpp:14:1: error: expected ';' before '}' token
"""


def test_a_compilers_message_is_cut_to_its_errors():
    said = trim.compiler(GCC).splitlines()
    assert said[0] == "kernel.cpp:12:5: error: 'foo' was not declared in this scope"
    assert said[3].endswith("suggested alternative: 'for'")
    assert said[-1].startswith("kernel.cpp:14:1: error: expected")
    assert len(said) == 5
    many = trim.compiler("\n".join(f"k.cpp:{i}: error: x" for i in range(9)))
    assert many.splitlines()[-1] == "and 5 more errors"
    assert trim.compiler("") == ""
    assert trim.compiler("one\ntwo") == "one\ntwo"


@pytest.mark.parametrize(
    ("kind", "events"), [(Cancelled, ["cancelled"]), (MachineFault, []), (BadInput, [])]
)
def test_what_ends_while_baselines_are_prepared_begins_afresh(desk, kind, events):
    class Half(FakeJudge):
        def baselines(self):
            raise kind("it was ended", "call again")

    half = Half(desk.machine_digest)
    desk._judge, desk._own = half, True
    with pytest.raises(kind):
        desk.judge(SCRIPT[0])
    assert half.closed
    assert desk._judge is None
    assert [kind for kind, _, _ in desk.ledger.events(PROBLEM.digest)] == events
