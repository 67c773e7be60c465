"""Run somebody else's command for so long: what it said, bounded and without keys, and no process
of it afterwards."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from epitaxy.timing import now_s

KEPT_BYTES = 1 << 20
"""Of what a command says, so much of its beginning and as much of its end is kept."""
CHUNK_BYTES = 1 << 16
KILL_S = 5.0
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl(2)
SECRET = r"\w*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\w*"
_SECRET = re.compile(SECRET, re.IGNORECASE)
_ASSIGNED = re.compile(rf"\b{SECRET}=(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE)
SHORTEST_SECRET = 6
"""Shorter values are words of everyday ("true"), which would be cut out of every text."""


def secrets(command: str, environment: Mapping[str, str]) -> set[str]:
    """Values that must not be kept: of variables called KEY, TOKEN and the like, in the
    environment or set by the command itself."""
    held = {value.strip() for name, value in environment.items() if _SECRET.fullmatch(name)}
    held |= {match[1].strip("\"'") for match in _ASSIGNED.finditer(command)}
    return {value for value in held if len(value) >= SHORTEST_SECRET}


def clean(text: str, held: set[str]) -> str:
    """`text` without any of the values `held`; the longest go first."""
    for value in sorted(held, key=len, reverse=True):
        text = text.replace(value, "[key]")
    return text


def work(
    command: str, place: Path, environment: Mapping[str, str], text: str, limit_s: float
) -> tuple[str, str]:
    """(how it ended, what it said): `command` in a shell in `place`, `text` on its stdin."""
    with _nothing_left():
        process = subprocess.Popen(
            command, shell=True, cwd=place, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        heard = Heard(process.stdout)
        threads = [
            threading.Thread(target=_tell, args=(process.stdin, text.encode()), daemon=True),
            threading.Thread(target=heard.listen, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            ended = f"exit code {process.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            ended = "the time was over"
        finally:
            _end(process)
    for thread in threads:  # no process holds the other end any more
        thread.join(KILL_S)
    return ended, clean(heard.text, secrets(command, environment))


class Heard:
    """What comes from a pipe: its beginning and its end, and how much was left out between."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._head = b""
        self._tail: collections.deque[bytes] = collections.deque()
        self._held = self._dropped = 0

    def listen(self) -> None:
        """Until the other end is closed."""
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self._pipe.fileno(), CHUNK_BYTES):
                self._take(data)

    def _take(self, data: bytes) -> None:
        room = KEPT_BYTES - len(self._head)
        self._head += data[:room]
        if data := data[room:]:
            self._tail.append(data)
            self._held += len(data)
        while self._held > KEPT_BYTES + CHUNK_BYTES:
            old = self._tail.popleft()
            self._held -= len(old)
            self._dropped += len(old)

    @property
    def text(self) -> str:
        """What is kept of it."""
        left = f"\n[{self._dropped} bytes left out]\n" if self._dropped else ""
        parts = (self._head, left.encode(), b"".join(self._tail))
        return b"".join(parts).decode("utf-8", "replace")


def _tell(pipe: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(text)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(KILL_S)
        except (ProcessLookupError, PermissionError):
            return
        except subprocess.TimeoutExpired:
            continue


@contextlib.contextmanager
def _nothing_left() -> Iterator[None]:
    """End every process begun within, also one that left its group and lost its parents: it is
    handed to this process, as nobody else's."""
    before = _descendants(os.getpid())
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        start_s = now_s()
        while (left := _descendants(os.getpid()) - before) and now_s() - start_s < KILL_S:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.01)
        prctl(SUBREAPER, 0, 0, 0, 0)


def _descendants(root: int) -> set[int]:
    """Processes below `root`, by Linux's /proc."""
    children: dict[int, list[int]] = collections.defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                children[int(fields[1])].append(int(entry.name))
    found: set[int] = set()
    todo = [root]
    while todo:
        new = [pid for pid in children[todo.pop()] if pid not in found]
        found.update(new)
        todo += new
    return found
