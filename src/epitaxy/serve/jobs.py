"""What takes long: started, waited for a while, then asked after by its id.

Clients give up on a call after about a minute. One job measures at a time, because two on one
machine would disturb each other; jobs that only read run beside it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from epitaxy.errors import Cancelled, EpitaxyError, MachineFault, UnknownName
from epitaxy.record import Record, record
from epitaxy.timing import now_s

KEPT = 200
"""Finished jobs that are remembered."""
STEPS = 12
"""The last steps that a job tells."""
READERS = 4
Say = Callable[[str], None]


@record
class JobCard(Record):
    """A job: `state` is queued, running, done, failed or cancelled; `steps` are the last things
    it did.

    `elapsed_s` counts from its start; `error` says why it failed, with the mend.
    """

    job_id: str
    tool: str
    state: str
    steps: tuple[str, ...]
    elapsed_s: float
    error: str = ""


@dataclass
class Job:
    """One call of a tool that runs in a thread of its own."""

    id: str
    tool: str
    steps: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=STEPS))
    said: int = 0
    start_s: float = 0.0
    end_s: float = 0.0
    future: Future[Record] | None = None
    cancelled: bool = False

    def say(self, text: str) -> None:
        """One more step."""
        self.steps.append(text)
        self.said += 1

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.future is not None and self.future.done()

    def failure(self) -> BaseException | None:
        """What it raised, None while it runs or when it went well."""
        if self.future is None or not self.future.done():
            return None
        return _cancelled() if self.future.cancelled() else self.future.exception()

    def result(self) -> Record:
        """What it answered; raises what it raised."""
        assert self.future is not None
        if self.future.cancelled():
            raise _cancelled()
        return self.future.result()

    def card(self) -> JobCard:
        """Where it stands."""
        failure = self.failure()
        state = "queued" if not self.start_s else "running"
        if self.done:
            state = "failed" if failure else "done"
            state = "cancelled" if isinstance(failure, Cancelled) else state
        said = str(failure) if isinstance(failure, EpitaxyError) else "it failed unexpectedly"
        elapsed_s = (self.end_s or now_s()) - self.start_s if self.start_s else 0.0
        return JobCard(
            job_id=self.id,
            tool=self.tool,
            state=state,
            steps=tuple(self.steps),
            elapsed_s=round(elapsed_s, 3),
            error=said if failure else "",
        )


class Jobs:
    """Every job of this server. `machine` is told to stop what a cancelled job has running."""

    def __init__(self, machine: Any = None) -> None:
        self._machine = machine
        self._current: Job | None = None
        """The job that measures."""
        self._measuring = ThreadPoolExecutor(1, thread_name_prefix="epitaxy-measure")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="epitaxy-read")
        self._jobs: dict[str, Job] = {}
        self._ended = False
        self._lock = threading.Lock()

    def start(self, tool: str, work: Callable[[Say], Record], measures: bool) -> Job:
        """Begin `work`, which is told how to say its steps."""
        job = Job(secrets.token_hex(6), tool)

        def say(text: str) -> None:
            job.say(text)
            if self._ended:
                raise MachineFault("the server is ending", "start it again: verdicts are kept")
            if job.cancelled:
                raise _cancelled()

        def run() -> Record:
            job.start_s = now_s()
            with self._lock:
                self._current = job if measures else self._current
            try:
                if job.cancelled:
                    raise _cancelled()
                return work(say)
            finally:
                job.end_s = now_s()
                if measures:
                    self._over(job)

        with self._lock:
            for old in [j.id for j in self._jobs.values() if j.done][:-KEPT]:
                del self._jobs[old]
            self._jobs[job.id] = job
            job.future = (self._measuring if measures else self._reading).submit(run)
        return job

    def cancel(self, id: str) -> Job:
        """End a job, at once where it waits or runs candidates, else at its next step; one that is
        over stays as it is. Raises UnknownName."""
        job = self.get(id)
        if job.done or (job.future is not None and job.future.cancel()):
            return job
        with self._lock:
            job.cancelled = True
            if self._current is job and hasattr(self._machine, "stop"):
                self._machine.stop()
        return job

    def _over(self, job: Job) -> None:
        with self._lock:
            self._current = None
            if job.cancelled and hasattr(self._machine, "resume"):
                self._machine.resume()

    def get(self, id: str) -> Job:
        """The job of that id. Raises UnknownName."""
        with self._lock:
            if id not in self._jobs:
                raise UnknownName.of("job", id, self._jobs)
            return self._jobs[id]

    def close(self) -> None:
        """Begin nothing more; what runs is told to end at its next step."""
        self._ended = True
        for pool in (self._reading, self._measuring):
            pool.shutdown(wait=False, cancel_futures=True)

    def wait(self, limit_s: float) -> bool:
        """Whether all that ran has ended within so many seconds."""
        with self._lock:
            running = [j.future for j in self._jobs.values() if j.future is not None]
        return not concurrent.futures.wait(running, timeout=limit_s).not_done


def _cancelled() -> Cancelled:
    """One for each: a traceback is written into the instance that is raised."""
    return Cancelled("it was cancelled", "call the tool again: no verdict was recorded")
