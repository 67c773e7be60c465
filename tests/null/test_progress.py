"""What a person sees while a search runs: remarks stay, and no clock runs before the search."""

from __future__ import annotations

import io

import fake_records

from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.progress import Display, describe
from epitaxy.report import Run, html, verdict_json
from epitaxy.study import Budget, Progress, Study
from epitaxy.verdict import Finding

NOTE = Finding(check="eager", severity="note", message="baseline eager does not run: no <memory>")


def test_a_remark_is_printed_once_and_stays():
    stream = io.StringIO()
    with Display("p", stream) as display:
        display(Progress(phase="preparing baseline a"))
        display(Progress(phase="preparing baseline b", notes=(NOTE.message,)))
        display(Progress(phase="measuring", notes=(NOTE.message, "another")))
    lines = stream.getvalue().splitlines()
    assert lines.count(f"note: {NOTE.message}") == 1
    assert lines.count("note: another") == 1


class RemarkingJudge:
    """Its only baseline fails, which it says as the real judge does: as a note and a report."""

    notes: tuple[Finding, ...] = ()

    def __init__(self, report):
        self.report = report

    def baselines(self):
        self.report("preparing baseline eager")
        self.notes = (NOTE,)
        self.report(NOTE.message)
        return {}


class Idle:
    """Proposes nothing."""

    def propose(self, view, count):
        return []

    def stop_reason(self):
        return "nothing to try"


def test_a_remark_is_no_phase_and_no_clock_runs_before_the_search(tmp_path):
    seen: list[Progress] = []
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        study = Study(fake_records.problem(), ReplayMachine(), Idle(), ledger, Budget(seconds=9.0))
        study._judge = RemarkingJudge(study.say)
        study.optimize(callbacks=[seen.append])
        study.say("measuring")
    *preparing, searching = seen
    assert [p.phase for p in preparing] == [
        "capturing", "preparing baselines", "preparing baseline eager", "preparing baseline eager",
    ]  # fmt: skip
    assert preparing[-1].notes == (NOTE.message,)
    assert all(p.left_s is None for p in preparing)
    assert not any(describe(p).endswith(" left") for p in preparing)
    assert searching.left_s is not None
    assert describe(searching).endswith(" left")
    assert study.notes == (NOTE,)


def test_the_report_lists_remarks_even_when_nothing_was_accepted():
    run = Run(problem=fake_records.problem(), notes=(NOTE,))
    page = html(run)
    assert "baseline eager does not run: no &lt;memory&gt;" in page
    assert verdict_json(run)["notes"] == [NOTE.message]


def test_a_remark_that_the_best_verdict_repeats_is_listed_once():
    run = fake_records.run()
    finding = run.best[1].findings[0]
    again = Run(problem=run.problem, judged=run.judged, best=run.best, notes=(finding,))
    assert html(again).count(finding.message) == 1
