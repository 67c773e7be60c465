"""Before the clock of a command's run: its baselines, prepared where it will look for them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from epitaxy.errors import MachineFault

PREPARED_S = 900.0
END_S = 10.0


@contextlib.contextmanager
def judging(words: Sequence[str], home: Path, stays: bool) -> Iterator[None]:
    """A judge whose baselines are ready; it `stays` within, or is over by then, and only what it
    built is there. Raises MachineFault."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("harness_judge.py")), *words],
        env={**os.environ, "EPITAXY_HOME": str(home)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _await(process)
        if not stays:
            _end(process)
        yield
    finally:
        _end(process)


def _await(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PREPARED_S)
    if not ready or process.stdout.readline() != b"ready\n":
        raise MachineFault("the judge of this run did not start", "see what it said above")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            if process.poll() is None:
                os.kill(process.pid, number)
                process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()
