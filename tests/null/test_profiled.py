"""Profiles are kept in the ledger, and found again wherever a candidate is."""

from __future__ import annotations

import json
from types import SimpleNamespace

import fake_records
import pytest

from epitaxy import reports
from epitaxy.cli import main
from epitaxy.commands.replaying import recorded
from epitaxy.desk import Desk
from epitaxy.errors import BadInput, LedgerError
from epitaxy.insight import profile_card
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.product import export
from epitaxy.profiling import profile as profiling
from epitaxy.serve.schema import filled

PROBLEM = fake_records.problem(source="y = torch.softmax(x, 1)")
FIRST, SECOND = (fake_records.candidate(PROBLEM, step) for step in (1, 2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def desk(path):
    """Two accepted candidates; the first was profiled here."""
    with Ledger(path) as ledger:
        ledger.add_problem(PROBLEM)
        made = Desk(PROBLEM, ReplayMachine(fake_records.CHIP), ledger)
        for candidate in (FIRST, SECOND):
            ledger.add_candidate(candidate)
            verdict = fake_records.accepted(candidate, 1e-3)
            ledger.add_verdict(verdict.replace(machine=made.machine_digest))
        ledger.add_profile(fake_records.profiled(FIRST, made.machine_digest))
        yield made


def test_it_is_shown_with_its_candidate(desk):
    card = desk.show(FIRST.id)
    assert type(card).from_dict(card.to_dict()) == card
    assert card.profile.ablations[0].name == "denormals_flushed"
    assert card.profile.failed == {"streaming": "none"}
    assert card.profile.diagnosis.bottlenecks[0].rule == "denormals"
    assert (card.profile.loop, card.profile.taken_unix_s) == ("a loop", 1e9)
    assert desk.show(SECOND.id).profile is None


def test_a_variant_of_too_few_rounds_has_no_interval(desk):
    taken = fake_records.profiled(SECOND, desk.machine_digest)
    open_ended = [m for m in taken.profile.metrics if not m.id.endswith((".low", ".high"))]
    card = profile_card(taken.replace(profile=taken.profile.replace(metrics=tuple(open_ended))))
    (row,) = card.ablations
    assert (row.name, row.low, row.high) == ("denormals_flushed", None, None)
    assert filled(card).ablations[0].low is None


def test_what_limited_a_candidate_finds_it(desk):
    assert [hit.candidate for hit in desk.search("denormals").worked] == [FIRST.id]
    limits = {hit.candidate: hit.limits for hit in desk.search().worked}
    assert limits == {FIRST.id: ("denormals 69%",), SECOND.id: ()}


def test_a_search_diagnoses_each_candidate_once(desk, monkeypatch):
    asked = []
    monkeypatch.setattr("epitaxy.searching.limits", lambda taken: asked.append(taken) or ("it",))
    desk.search("unroll it accepted grower", most=1)
    assert len(asked) == 2
    desk.search(most=1)
    assert len(asked) == 3, "without words, only what is shown is diagnosed"


@pytest.mark.parametrize("words", [" ".join(f"w{n}" for n in range(21)), "x" * 401])
def test_a_search_takes_few_words(desk, words):
    assert desk.search("unroll " * 57).worked, "the same word is one"
    with pytest.raises(BadInput, match="letters to search for"):
        desk.search(words)


class TestComparing:
    def figures(self, desk):
        card = desk.compare(FIRST.id, SECOND.id)
        return {row.name: row for row in card.figures}, card.note

    def test_one_that_was_never_profiled_is_said(self, desk):
        rows, note = self.figures(desk)
        assert SECOND.id in note
        assert "never profiled" in note
        assert "profile.time_s" not in rows

    def test_metrics_stand_side_by_side(self, desk):
        name = "ablation.denormals_flushed.time_ratio"
        more = {name: 0.62}
        desk.ledger.add_profile(fake_records.profiled(SECOND, desk.machine_digest, **more))
        rows, note = self.figures(desk)
        assert note == ""
        assert rows[name].ratio == pytest.approx(2.0)
        assert rows["profile.time_s"].ratio == 1.0
        assert not any(row.endswith(".low") for row in rows)

    def test_machines_are_not_mixed(self, desk):
        another = desk.ledger.add_machine({"cpu": "another"})
        desk.ledger.add_profile(fake_records.profiled(SECOND, another))
        rows, note = self.figures(desk)
        assert "different machines" in note
        assert "profile.time_s" not in rows


def test_profiling_keeps_what_it_found(desk, monkeypatch):
    def measured(candidate, problem, machine, **_):
        profile = fake_records.profiled(candidate).profile
        return SimpleNamespace(profile=profile, loop=None)

    monkeypatch.setattr(profiling, "profile", measured)
    monkeypatch.setattr(ReplayMachine, "recorded", False)
    card = desk.profile(SECOND.id)
    assert desk.show(SECOND.id).profile == card
    assert desk.ledger.profiles(SECOND.digest, desk.machine_digest)
    assert desk.ledger.audit().intact


def test_a_machine_that_runs_nothing_tells_what_was_kept(desk):
    assert desk.profile(FIRST.id) == desk.show(FIRST.id).profile
    with pytest.raises(BadInput, match="never profiled"):
        desk.profile(SECOND.id)


def test_the_command_line_shows_it(desk, path, capsys):
    assert main(["show", FIRST.id, "--ledger", str(path)]) == 0
    assert "limited by   denormals 69%" in capsys.readouterr().out
    assert main(["ledger", "show", FIRST.id, "--ledger", str(path)]) == 0
    told = capsys.readouterr().out
    assert "denormals 69%" in told
    assert "accepted" in told
    for words in (["show"], ["ledger", "show"]):
        assert main([*words, FIRST.id, "--ledger", str(path), "--json"]) == 0
        (kept,) = json.loads(capsys.readouterr().out)["profiles"]
        assert kept["digest"] == desk.ledger.profiles(FIRST.digest)[0].digest


def test_an_export_takes_it_along(tmp_path):
    whole = PROBLEM.replace(source="class Model: ...")
    files = {"kernel.cpp": "int f();\n", "forward.py": "class ModelNew(Model): ...\n"}
    candidate = FIRST.replace(problem=whole.digest, files=files)
    verdict = fake_records.accepted(candidate, 1e-3)
    kept = fake_records.profiled(candidate, verdict.machine)
    export(candidate, verdict, whole, tmp_path / "out", None, kept)
    evidence = tmp_path / "out" / "evidence.json"
    (read,) = reports.load(evidence)
    assert read == kept.profile
    edited = evidence.read_text().replace('"loop": "a loop"', '"loop": "another"')
    evidence.write_text(edited)
    for read in (lambda: recorded(str(evidence), "", None), lambda: reports.load(evidence)):
        with pytest.raises(BadInput, match=r"profiled in .* was edited"):
            read()
    for other, says in (
        (kept.replace(machine="elsewhere"), "of another machine"),
        (kept.replace(candidate=SECOND.digest), "of something else"),
        (kept.replace(problem=PROBLEM.digest), "of something else"),
    ):
        export(candidate, verdict, whole, tmp_path / "out", None, other)
        for read in (lambda: recorded(str(evidence), "", None), lambda: reports.load(evidence)):
            with pytest.raises(BadInput, match=f"the profile in .* is {says}"):
                read()


def test_an_export_takes_the_profile_of_its_verdicts_machine(desk, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr("epitaxy.exporting.built", lambda *_: None)
    monkeypatch.setattr("epitaxy.product.export", lambda *given: taken.append(given[-1]))
    another = desk.ledger.add_machine({"cpu": "another"})
    desk.ledger.add_profile(fake_records.profiled(FIRST, another))  # the latest
    desk.ledger.add_profile(fake_records.profiled(SECOND, another))
    for candidate in (FIRST, SECOND):
        desk.export(candidate.id, tmp_path / candidate.id)
    assert taken == [fake_records.profiled(FIRST, desk.machine_digest), None]


def test_an_edited_profile_is_not_read(desk, path):
    desk.ledger._db.execute("drop trigger profiles_stay")
    desk.ledger._db.execute("update profiles set body = replace(body, '0.31', '0.13')")
    with pytest.raises(LedgerError, match="edited"):
        desk.ledger.profiles(FIRST.digest)
