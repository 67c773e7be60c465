"""A client takes back what it asked for: processes end, and the ledger holds no verdict."""

from __future__ import annotations

import threading

import anyio
import fake_records
import pytest
from mcp import Client
from test_study import FakeJudge

from epitaxy.desk import Desk
from epitaxy.errors import Cancelled
from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.serve.jobs import Jobs
from epitaxy.serve.server import make
from epitaxy.serve.tools import Tools

PROBLEM = fake_records.problem(name="softmax", source="y = torch.softmax(x, 1)")
FIRST = fake_records.candidate(PROBLEM, 1)
JUDGE = {"problem": "softmax", "candidate": FIRST.id}


class Machine(ReplayMachine):
    """Says when it is told to stop; what runs until then is the judge."""

    def __init__(self):
        super().__init__(fake_records.CHIP)
        self.stopped, self.resumed, self.running = (threading.Event() for _ in range(3))

    def stop(self):
        self.stopped.set()

    def resume(self):
        self.resumed.set()


class Endless(FakeJudge):
    """Judges until the machine is stopped; the candidate has crashed then, as it would have."""

    def judge(self, candidate, plan="screen", best=0.0):
        machine = self.answers["machine"]
        machine.running.set()
        assert machine.stopped.wait(20)
        return fake_records.refused(candidate).replace(status="crashed")


@pytest.fixture
def place(tmp_path, monkeypatch):
    machine = Machine()
    monkeypatch.setattr(
        Desk, "open_judge", lambda desk: Endless(desk.machine_digest, {"machine": machine})
    )
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.add_problem(PROBLEM)
        ledger.add_candidate(FIRST)
    return Tools([], tmp_path, machine, path), machine


def play(tools, work, patience_s=20.0):
    """What `work(client, jobs)` gives, with a server of its own."""

    async def run():
        server, jobs = make(tools, patience_s)
        try:
            async with Client(server) as client:
                return await work(client, jobs)
        finally:
            jobs.close()
            tools.close()

    return anyio.run(run)


def kept(tools):
    """(events, verdicts) of the problem."""
    with tools.open_ledger() as ledger:
        events = [(kind, body) for kind, _, body in ledger.events(PROBLEM.digest)]
        return events, ledger.verdicts(PROBLEM.digest)


def told_once(tools):
    events, verdicts = kept(tools)
    assert [kind for kind, _ in events] == ["cancelled"]
    assert events[0][1]["candidate"] == FIRST.digest
    assert events[0][1]["tool"] == "judge"
    assert verdicts == []


def test_by_the_protocols_own_cancellation(place):
    tools, machine = place

    async def work(client, jobs):
        with anyio.move_on_after(20) as scope:

            async def leave():
                await anyio.to_thread.run_sync(machine.running.wait, 20)
                scope.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(leave)
                await client.call_tool("judge", JUDGE)
        assert scope.cancelled_caught
        assert await anyio.to_thread.run_sync(jobs.wait, 20)

    play(tools, work)
    assert machine.stopped.is_set()
    assert machine.resumed.is_set()
    told_once(tools)


def test_by_the_tool_for_what_runs_and_what_waits(place):
    tools, machine = place

    async def work(client, jobs):
        running = (await client.call_tool("judge", JUDGE)).structured_content["job_id"]
        waiting = (await client.call_tool("judge", JUDGE)).structured_content["job_id"]
        states = []
        for id in (waiting, running):
            got = await client.call_tool("job_cancel", {"job_id": id})
            states.append(got.structured_content["state"])
        ended = await client.call_tool("job_result", {"job_id": running})
        again = await client.call_tool("job_cancel", {"job_id": running})
        return states, ended, again.structured_content

    states, ended, again = play(tools, work, patience_s=0.3)
    assert states == ["cancelled", "cancelled"]
    assert ended.is_error
    assert "it was cancelled (call the tool again" in ended.content[0].text
    assert again["state"] == "cancelled"
    assert machine.resumed.is_set()
    told_once(tools)


def test_each_cancellation_is_an_error_of_its_own():
    jobs = Jobs()
    gate = threading.Event()
    blocking = jobs.start("judge", lambda say: gate.wait(20), True)
    two = [jobs.start("judge", lambda say: None, True) for _ in range(2)]
    raised = []
    for job in two:
        jobs.cancel(job.id)
        with pytest.raises(Cancelled, match="no verdict was recorded") as caught:
            job.result()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    gate.set()
    blocking.future.result(20)
    jobs.close()


def test_what_is_over_stays_as_it_was(place):
    tools, machine = place
    machine.stopped.set()  # its judge ends at once

    async def work(client, jobs):
        got = await client.call_tool("judge", JUDGE)
        answer = got.structured_content
        card = await client.call_tool("job_cancel", {"job_id": answer["job_id"]})
        return answer["result"]["status"], card.structured_content["state"]

    assert play(tools, work) == ("crashed", "done")
    events, verdicts = kept(tools)
    assert events == []
    assert [v.status for v in verdicts] == ["crashed"]
