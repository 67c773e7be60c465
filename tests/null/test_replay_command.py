"""`epitaxy replay`: recorded verdicts against new ones, from the ledger or from evidence files."""

from __future__ import annotations

import json

import fake_records
import pytest

from epitaxy.cli import main
from epitaxy.commands import replaying
from epitaxy.errors import BadInput
from epitaxy.ledger import Ledger
from epitaxy.report import verdict_json
from epitaxy.verdict import ErrorRow

RUN = fake_records.run(5)


class Again:
    """Stands for a judge: gives every candidate the verdict made by `change` from the recorded."""

    closed = 0

    def __init__(self, change):
        self.change = change
        self.known = {c.digest: v for c, v in RUN.judged}

    def judge(self, candidate, plan, best=0.0):
        return self.change(self.known[candidate.digest]).replace(plan=plan)

    def close(self):
        Again.closed += 1


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "ledger.sqlite"
    with Ledger(made) as ledger:
        ledger.add_problem(RUN.problem)
        for candidate, verdict in RUN.judged:
            ledger.add_candidate(candidate)
            ledger.add_verdict(verdict)
    return made


@pytest.fixture
def replay(path, monkeypatch):
    def run(change, *arguments):
        monkeypatch.setattr(replaying, "local_judge", lambda *_, **__: Again(change))
        return main(["replay", "--ledger", str(path), *arguments])

    return run


def slower(verdict):
    """The same, its speed-ups halved."""
    if not verdict.accepted:
        return verdict
    return fake_records.accepted(
        next(c for c, v in RUN.judged if v == verdict), verdict.time_s * 2, {"eager": 1.05}
    )


def less_exact(verdict):
    row = ErrorRow(distribution="given", error=1e-4, honest=1e-4, limit=1e-3)
    return verdict.replace(errors=(row,)) if verdict.accepted else verdict


def test_agreement(replay, capsys):
    before = Again.closed
    assert replay(lambda v: v) == 0
    out = capsys.readouterr().out
    assert "status: 5 of 5 agree" in out
    assert "recorded limits: 4 of 4; speed-up intervals overlap: 4 of 4" in out
    assert Again.closed == before + 1


def test_another_status_is_an_exit_code(replay, capsys):
    candidate = RUN.judged[1][0]

    def worse(verdict):
        same = verdict.candidate != candidate.digest
        return verdict if same else fake_records.refused(candidate, "writes too far")

    assert replay(worse) == 1
    out = capsys.readouterr().out
    assert "status: 4 of 5 agree" in out
    assert "writes too far" in out


@pytest.mark.parametrize(("change", "name"), [(slower, "times"), (less_exact, "errors")])
def test_other_figures_are_said_but_are_no_failure(replay, capsys, change, name):
    assert replay(change, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["agreed"]["status"] == 5
    assert (document["agreed"][name], document["agreed"][f"{name}_compared"]) == (0, 4)


def test_times_of_another_machine_are_not_compared(replay, capsys):
    assert replay(lambda v: v.replace(machine="elsewhere"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["agreed"]["times_compared"] == 0


def test_one_candidate(replay, capsys):
    assert replay(lambda v: v, RUN.judged[0][0].id) == 0
    assert "status: 1 of 1" in capsys.readouterr().out


def test_replaying_records_nothing(replay, path):
    with Ledger(path) as ledger:
        head = ledger.audit().head
    replay(lambda v: v)
    with Ledger(path) as ledger:
        assert ledger.audit().head == head


def write_verdict(folder):
    (folder / "verdict.json").write_text(json.dumps(verdict_json(RUN)))


def write_evidence(folder):
    candidate, verdict = RUN.best
    facts = {
        "problem": RUN.problem.to_dict(),
        "candidate": candidate.to_dict(),
        "verdict": verdict.to_dict(),
        "digests": {"verdict": verdict.digest},
    }
    (folder / "evidence.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("write", [write_verdict, write_evidence])
def test_evidence_needs_no_ledger(tmp_path, write):
    write(tmp_path)
    ((problem, candidate, verdict),) = replaying.recorded(str(tmp_path), "", None)
    assert problem == RUN.problem
    assert (candidate, verdict) == RUN.best


@pytest.mark.parametrize("write", [write_verdict, write_evidence])
def test_edited_evidence_is_refused(tmp_path, write):
    write(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("one round was dropped", "all is well"))
    with pytest.raises(BadInput, match=r"verdict in .* was edited"):
        replaying.recorded(str(file), "", None)


@pytest.mark.parametrize("text", ["{", "[]", '{"problem": 1}', '{"problem": {}, "candidate": {}}'])
def test_a_file_without_evidence_is_said(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match="holds no problem"):
        replaying.recorded(str(tmp_path / "a.json"), "", None)


def test_nothing_to_replay(tmp_path, capsys):
    assert main(["replay", "--ledger", str(tmp_path / "new.sqlite")]) == 2
    assert "nothing recorded" in capsys.readouterr().err
    assert main(["replay", str(tmp_path), "--ledger", str(tmp_path / "new.sqlite")]) == 2
    assert "holds no evidence.json" in capsys.readouterr().err
