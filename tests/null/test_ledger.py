"""The ledger: append-only, checked on reading, shared by processes, safe against kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import fake_records
import pytest

from epitaxy.errors import BadInput, LedgerError, UnknownName
from epitaxy.ledger import Ledger
from epitaxy.replay import ReplayJudge

PROBLEM = fake_records.problem()
WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
import fake_records
from epitaxy.ledger import Ledger
first, count = int(sys.argv[3]), int(sys.argv[4])
problem = fake_records.problem()
with Ledger(sys.argv[2]) as ledger:
    ledger.add_problem(problem)
    for step in range(first, first + count):
        candidate = fake_records.candidate(problem, step)
        ledger.add_candidate(candidate)
        ledger.add_verdict(fake_records.refused(candidate))
        print(step, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path):
    with Ledger(path) as opened:
        opened.add_problem(PROBLEM)
        yield opened


def fill(ledger: Ledger, count: int = 3):
    candidates = [fake_records.candidate(PROBLEM, step) for step in range(1, count + 1)]
    for candidate in candidates:
        ledger.add_candidate(candidate)
    return candidates


def writer(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(path)]
    return subprocess.Popen([*command, str(first), str(count)], stdout=subprocess.PIPE, text=True)


def raw(path: Path, *statements: str) -> None:
    """Run SQL past the ledger, its triggers dropped."""
    db = sqlite3.connect(path)
    for (name,) in db.execute("select name from sqlite_master where type = 'trigger'").fetchall():
        db.execute(f"drop trigger {name}")
    for sql in statements:
        db.execute(sql)
    db.commit()
    db.close()


def test_everything_comes_back(ledger, path):
    first, second, _ = fill(ledger)
    verdict = fake_records.accepted(first, 1e-3)
    ledger.add_verdict(verdict)
    ledger.add_verdict(fake_records.refused(second))
    machine = ledger.add_machine({"cpu": "x"})
    ledger.add_event(PROBLEM.digest, "stopped", 12.5, reason="done")
    ledger.close()
    with Ledger(path) as again:
        assert again.problems() == [PROBLEM]
        assert again.problem(PROBLEM.name) == again.problem(PROBLEM.id) == PROBLEM
        assert again.candidate(first.id) == first
        assert len(again.candidates(PROBLEM.digest)) == 3
        assert again.verdict(first.id) == again.verdict(verdict.id) == verdict
        assert [c for c, _ in again.judged(PROBLEM.digest)] == [first, second]
        assert again.machine(machine) == {"cpu": "x"}
        assert again.events(PROBLEM.digest) == [("stopped", 12.5, {"reason": "done"})]


def test_adding_twice_adds_once(ledger):
    candidate = fill(ledger, 1)[0]
    ledger.add_candidate(candidate)
    ledger.add_problem(PROBLEM)
    verdict = fake_records.refused(candidate)
    ledger.add_verdict(verdict)
    ledger.add_verdict(verdict)
    assert ledger.candidates(PROBLEM.digest) == [candidate]
    assert ledger.verdicts(PROBLEM.digest) == [verdict]


@pytest.mark.parametrize(
    "table", ["problems", "sources", "candidates", "machines", "verdicts", "events"]
)
def test_rows_cannot_be_changed_or_removed(ledger, path, table):
    ledger.add_verdict(fake_records.refused(fill(ledger, 1)[0]))
    ledger.add_machine({"cpu": "x"})
    ledger.add_event(PROBLEM.digest, "stopped", 1.0)
    column = "kind" if table == "events" else "digest"
    db = sqlite3.connect(path)
    for sql in (f"update {table} set {column} = 'x'", f"delete from {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(sql)
    db.close()


def test_an_orphan_is_refused(ledger):
    stranger = fake_records.candidate(fake_records.problem(name="other"), 1)
    with pytest.raises(LedgerError):
        ledger.add_candidate(stranger)
    with pytest.raises(LedgerError):
        ledger.add_verdict(fake_records.refused(stranger))


@pytest.mark.parametrize("id", ["ffffffffffff", "", "%", "_", "no such", "'; drop table x"])
def test_an_unknown_id_is_said(ledger, id):
    fill(ledger)
    with pytest.raises(UnknownName, match="unknown candidate"):
        ledger.candidate(id)


def test_an_ambiguous_id_is_said(ledger):
    candidates = fill(ledger, 17)  # two of them begin with the same digit
    firsts = [c.digest[0] for c in candidates]
    twice = next(d for d in firsts if firsts.count(d) > 1)
    with pytest.raises(BadInput, match="ambiguous"):
        ledger.candidate(twice)


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("update candidates set body = replace(body, 'unroll 1', 'unroll 9')", "candidate"),
        ("update sources set content = cast('int evil;' as blob)", "candidate"),
        ("delete from sources", "candidate"),
        ("update verdicts set body = replace(body, 'bounds', 'bound')", "verdict"),
        ("update problems set body = replace(body, '2048', '2047')", "problems"),
    ],
)
def test_an_edited_row_is_detected(ledger, path, sql, read):
    candidate = fill(ledger, 1)[0]
    ledger.add_verdict(fake_records.refused(candidate))
    ledger.close()
    raw(path, sql)
    with Ledger(path) as again, pytest.raises(LedgerError, match="edited"):
        again.problems() if read == "problems" else getattr(again, read)(candidate.id)


def test_a_file_that_is_no_ledger(path):
    path.parent.mkdir()
    path.write_text("not SQLite at all, but long enough to be looked at\n" * 100)
    with pytest.raises(LedgerError, match="is not a ledger"):
        Ledger(path)


def test_a_ledger_of_a_newer_version(ledger, path):
    ledger.close()
    raw(path, "pragma user_version = 99")
    with pytest.raises(LedgerError, match="newer version"):
        Ledger(path)


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "ledger.sqlite", Path("/proc/none/ledger.sqlite"), tmp_path):
        with pytest.raises(LedgerError, match="cannot write") as caught:
            Ledger(path)
        assert "--ledger" in caught.value.mend


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LedgerError, match="cannot write"):
        Ledger(tmp_path / "ledger.sqlite")


def test_the_default_path(monkeypatch, tmp_path):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    with Ledger() as ledger:
        assert ledger.path == tmp_path / "home" / "ledger.sqlite"
        assert ledger.path.is_file()


def test_two_processes_write_at_once(path):
    both = [writer(path, first, 40) for first in (1, 1001)]
    for process in both:
        process.communicate(timeout=30)
        assert process.returncode == 0
    with Ledger(path) as ledger:
        assert len(ledger.judged(PROBLEM.digest)) == 80


def test_first_openers_do_not_collide(tmp_path):
    """Several processes may make the file at once; a bare open fails in a third of the cases."""
    code = "import sys; from epitaxy.ledger import Ledger; sys.stdin.read(1)\n"
    code += "for i in range(10): Ledger(f'{sys.argv[1]}/{i}.sqlite').add_machine({'cpu': 'x'})"
    command = [sys.executable, "-c", code, str(tmp_path)]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    time.sleep(0.5)  # all have imported; they go on together when their input ends
    for process in openers:
        process.stdin.close()
    assert [process.wait(timeout=60) for process in openers] == [0, 0, 0]


def test_a_killed_writer_loses_at_most_one(path):
    process = writer(path, 1, 100_000)
    told = [process.stdout.readline() for _ in range(15)]
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    told += process.stdout.readlines()
    process.stdout.close()
    assert process.wait(timeout=30) == -signal.SIGKILL
    last = int(told[-1])
    with Ledger(path) as ledger:
        kept = ledger.judged(PROBLEM.digest)
        assert last <= len(kept) <= last + 1
        ledger.add_candidate(fake_records.candidate(PROBLEM, 0))


def test_the_best_come_first(ledger):
    slow, fast, full = fill(ledger)
    for candidate, speedup, plan in (
        (slow, 1.2, "screen"),
        (fast, 3.0, "screen"),
        (full, 2.0, "full"),
    ):
        verdict = fake_records.accepted(candidate, 1e-3, {"eager": speedup})
        ledger.add_verdict(verdict.replace(plan=plan))
    assert [c for c, _ in ledger.best(PROBLEM.digest, 3)] == [full, fast, slow]
    assert [c for c, _ in ledger.best(PROBLEM.digest, 3, plan="screen")] == [fast, slow]
    assert ledger.best(PROBLEM.digest)[0][0] == full
    assert ledger.best(PROBLEM.digest, 3, machine="elsewhere") == []


def test_a_full_verdict_outranks_a_later_screening(ledger):
    candidate = fill(ledger, 1)[0]
    full = fake_records.accepted(candidate, 1e-3)
    later = full.replace(plan="screen", judged_unix_s=9.0)
    fault = fake_records.refused(candidate).replace(status="machine_fault", reason="it broke")
    for verdict in (full, later, fault):
        ledger.add_verdict(verdict)
    assert ledger.judged(PROBLEM.digest) == [(candidate, full)]
    assert ledger.verdicts(PROBLEM.digest) == [full, later, fault]


class TestReplay:
    def test_recorded_verdicts_are_answered(self, ledger):
        screened, full, unknown = fill(ledger)
        first = fake_records.accepted(screened, 1e-3).replace(plan="screen")
        second = fake_records.accepted(full, 2e-3)
        for verdict in (first, second):
            ledger.add_verdict(verdict)
        judge = ReplayJudge(ledger, PROBLEM)
        assert judge.judge(screened) == judge.judge(screened, "screen") == first
        assert judge.judge(full, "full") == judge.judge(full, "screen") == second
        for candidate, plan in ((unknown, "screen"), (screened, "full")):
            verdict = judge.judge(candidate, plan)
            assert verdict.status == "machine_fault"
            assert candidate.id in verdict.reason
            assert plan in verdict.reason
        assert judge.baselines().keys() == {"eager", "compile max-autotune"}
        assert judge.build(full).log == "kernel.cpp: built"
        assert not judge.build(unknown).ok
        assert len(ledger.verdicts(PROBLEM.digest)) == 2
        judge.close()

    def test_an_unknown_plan_is_an_error(self, ledger):
        with pytest.raises(BadInput, match="plan"):
            ReplayJudge(ledger, PROBLEM).judge(fill(ledger, 1)[0], "splendid")

    def test_machines_can_be_told_apart(self, ledger):
        candidate = fill(ledger, 1)[0]
        ledger.add_verdict(fake_records.refused(candidate))
        assert ReplayJudge(ledger, PROBLEM, "local-1").judge(candidate, "full").status == "refused"
        assert ReplayJudge(ledger, PROBLEM, "b").judge(candidate, "full").status == "machine_fault"
