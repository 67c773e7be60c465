"""The chain over the ledger's rows: every silent edit shows, and `ledger verify` says where."""

from __future__ import annotations

import json
import signal
import sqlite3
import time

import fake_records
import pytest
from test_ledger import PROBLEM, fill, raw, writer

from epitaxy import chain
from epitaxy.cli import main
from epitaxy.errors import BadInput
from epitaxy.ledger import CHAINED, Ledger
from epitaxy.record import canonical


@pytest.fixture
def path(tmp_path):
    """A ledger with rows in every table."""
    made = tmp_path / "ledger.sqlite"
    with Ledger(made) as ledger:
        ledger.add_problem(PROBLEM)
        machine = ledger.add_machine({"cpu": "x"})
        for candidate in fill(ledger, 3):
            ledger.add_verdict(fake_records.refused(candidate))
        ledger.add_profile(fake_records.profiled(candidate, machine))
        for number in (1.0, 2.0):
            ledger.add_event(PROBLEM.digest, "stopped", number, reason="done")
    return made


def audit(path, head=""):
    with Ledger(path) as ledger:
        return ledger.audit(head)


def test_what_is_written_is_linked_and_intact(path):
    found = audit(path)
    assert found.intact
    assert found.links == found.rows == 1 + 1 + 3 * 2 + 1 + 3 + 2 + 1
    assert found.adopted == 0
    with Ledger(path) as ledger:
        fill(ledger, 3)  # nothing new: no link
        assert ledger.audit() == found


SWAP = """update events set number = -1 where number = 1;
update events set number = 1 where number = 2; update events set number = 2 where number = -1"""


@pytest.mark.parametrize(
    ("sql", "table", "what"),
    [
        ("update verdicts set body = replace(body, 'bounds', 'bound')", "verdicts", "altered"),
        ("update verdicts set status = 'accepted' where number = 2", "verdicts", "altered"),
        ("update events set unix_s = 3", "events", "altered"),
        ("update profiles set body = replace(body, '0.31', '0.4')", "profiles", "altered"),
        ("update profiles set machine = 'other'", "profiles", "altered"),
        ("delete from profiles", "profiles", "gone"),
        ("update problems set name = 'other'", "problems", "altered"),
        ("update sources set content = cast('x' as blob)", "sources", "altered"),
        ("update machines set body = '{}'", "machines", "altered"),
        ("update candidates set body = 'x' where number = 2", "candidates", "altered"),
        ("delete from events where number = 1", "events", "gone"),
        ("delete from verdicts where number = 3", "verdicts", "gone"),
        ("delete from chain where number = 5", "chain", "links 5 to 5 are gone"),
        ("delete from chain where number > 9", "chain", "tail was cut off"),
        ("update chain set content = digest where number = 4", "sources", "altered"),
        ("update chain set kind = 'events', key = '9' where number = 4", "events", "moved"),
        ("update verdicts set number = 9 where number = 1", "verdicts", "altered"),
        (SWAP, "events", "altered"),
        ("insert into events values (9, 'x', 'y', 0, '{}')", "events", "slipped in"),
        ("drop table chain", "chain", "gone"),
    ],
)
def test_every_silent_edit_shows(path, sql, table, what):
    raw(path, *sql.split(";"))
    faults = audit(path).faults
    assert any(f.table == table and what in f.what for f in faults), faults


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"problem": "f" * 64}, "its problem is not that of its candidate"),
        ({"machine": "f" * 64}, "its machine is not known"),
    ],
)
def test_a_profile_of_elsewhere_is_refused_and_shows(path, change, what, monkeypatch):
    with Ledger(path) as ledger:
        (kept,) = [p for c in ledger.candidates(PROBLEM.digest) for p in ledger.profiles(c.digest)]
        other = kept.replace(**change)
        with pytest.raises(BadInput, match=r"candidate .* for that problem|unknown machine"):
            ledger.add_profile(other)
        # Written past that, with its link, as an older version would have done.
        row = {"digest": other.digest, "candidate": other.candidate, "machine": other.machine}
        ledger._write([("profiles", row | {"body": canonical(other)})])
        assert [(f.table, f.what) for f in ledger.audit().faults] == [("profiles", what)]


def test_the_first_broken_link_is_named_first(path):
    raw(path, "update verdicts set status = 'timeout' where number > 1")
    faults = audit(path).faults
    with Ledger(path) as ledger:
        second = ledger.candidates(PROBLEM.digest)[1]
        assert faults[0].key == ledger.verdicts(PROBLEM.digest)[1].digest
    assert fake_records.refused(second).digest == faults[0].key
    assert [f.number for f in faults] == sorted(f.number for f in faults)


def test_a_row_and_its_link_forged_together_break_the_next_link(path):
    """Whoever computes the content anew must do so for every later link too."""
    raw(path, "update events set unix_s = 9 where number = 1")
    db = sqlite3.connect(path)
    content = chain._row_digest(chain._row(db, "events", "1"))
    db.close()
    raw(path, f"update chain set content = '{content}' where kind = 'events' and key = '1'")
    assert ["altered or moved" in f.what for f in audit(path).faults] == [True]


def test_a_tail_dropped_with_its_links_shows_only_against_a_kept_head(path):
    before = audit(path)
    raw(
        path,
        "delete from events where number = 2",
        f"delete from chain where number = {before.links}",
        f"update sqlite_sequence set seq = {before.links - 1} where name = 'chain'",
    )
    assert audit(path).intact
    against = audit(path, before.head)
    assert ["not in this chain" in f.what for f in against.faults] == [True]


def test_an_old_head_stays_in_a_ledger_that_grew(path):
    head = audit(path).head
    with Ledger(path) as ledger:
        ledger.add_event(PROBLEM.digest, "more", 5.0)
        assert ledger.audit(head).intact
        assert ledger.audit(head[:12]).intact
        assert ledger.audit().head != head


def test_a_ledger_from_before_profiles_keeps_its_chain(tmp_path):
    """Only what is new is made: no row is chained twice, and an edit of before still shows."""
    path = tmp_path / "older.sqlite"
    with Ledger(path) as ledger:
        ledger.add_problem(PROBLEM)
        fill(ledger, 2)
        ledger.add_event(PROBLEM.digest, "stopped", 1.0)
        before = ledger.audit()
    raw(path, "drop table profiles", "pragma user_version = 2")
    with Ledger(path) as ledger:
        assert ledger.adopted == 0
        assert ledger.audit() == before
        candidate = ledger.candidates(PROBLEM.digest)[0]
        machine = ledger.add_machine({"cpu": "x"})
        ledger.add_profile(fake_records.profiled(candidate, machine))
        assert ledger.audit(before.head).intact
    raw(path, "delete from events where number = 1", "pragma user_version = 2")
    assert not audit(path).intact


def test_a_ledger_of_an_older_version_is_chained_from_now_on(path, capsys):
    raw(path, "drop table chain", f"pragma user_version = {CHAINED - 1}")
    assert main(["ledger", "verify", "--ledger", str(path)]) == 0
    said = capsys.readouterr()
    assert "15 rows of an older version are chained from now on" in said.err
    assert "15 rows are older than the chain" in said.out
    with Ledger(path) as ledger:
        assert ledger.adopted == 0
        ledger.add_event(PROBLEM.digest, "more", 5.0)
        assert (ledger.audit().adopted, ledger.audit().links) == (15, 17)
    raw(path, "delete from events where number = 1")
    assert not audit(path).intact


def test_two_writers_and_a_killed_one_leave_an_intact_chain(tmp_path):
    path = tmp_path / "shared.sqlite"
    both = [writer(path, 1, 100_000), writer(path, 200_001, 30)]
    for _ in range(10):
        both[0].stdout.readline()
    assert both[1].communicate(timeout=30)
    time.sleep(0.03)
    both[0].send_signal(signal.SIGKILL)
    both[0].communicate(timeout=30)
    found = audit(path)
    assert found.intact
    assert found.rows == found.links >= 2 * 2 * 40


class TestCommand:
    def test_intact(self, path, capsys):
        assert main(["ledger", "verify", "--ledger", str(path)]) == 0
        out = capsys.readouterr().out
        assert "intact; 15 rows, 15 links" in out
        assert f"head {audit(path).head}" in out

    def test_broken(self, path, capsys):
        raw(path, "update verdicts set status = 'timeout' where number = 1")
        assert main(["ledger", "verify", "--ledger", str(path), "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["intact"] is False
        assert document["faults"][0]["table"] == "verdicts"
        assert main(["ledger", "verify", "--ledger", str(path)]) == 1
        assert "BROKEN, 2 faults" in capsys.readouterr().out

    def test_a_kept_head(self, path, capsys):
        head = audit(path).head
        verify = ["ledger", "verify", "--ledger", str(path), "--head"]
        assert main([*verify, head]) == 0
        assert main([*verify, "0" * 64]) == 1
        assert "not in this chain" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [["--head", "nonsense"], ["--ledger", "/no/such/file"]])
    def test_bad_input(self, path, capsys, arguments):
        where = [] if "--ledger" in arguments else ["--ledger", str(path)]
        assert main(["ledger", "verify", *where, *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
