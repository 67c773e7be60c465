"""Programs of the system's, such as compilers, run on a candidate's files: confined and bounded."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from epitaxy import sandbox
from epitaxy.errors import MachineFault

SYSTEM = (
    "/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/proc/self",
    "/proc/cpuinfo", "/sys/devices/system/cpu", "/dev/urandom",
)  # fmt: skip
"""What such a program reads besides the candidate's folder."""
POLL_S, DYING_S = 0.05, 2.0


@dataclass(frozen=True)
class Bounds:
    """Seconds that a run may last, and bytes that its folder, or `within`, may hold meanwhile."""

    seconds: float
    folder_bytes: int
    reads: tuple[str, ...] = ()
    """Files that it reads besides the system's."""
    environment: Mapping[str, str] = field(default_factory=dict)
    within: Path | None = None
    """A folder around its own, where others work at the same time."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, or that it was `late`, or its folder too `big`."""

    status: int
    late: bool = False
    big: bool = False


def run(
    command: list[str], folder: Path, output: IO[bytes], limits: Mapping[str, int], bounds: Bounds
) -> Ended:
    """Run `command` in `folder`, the one place where it may write, with all it says in `output`.

    `limits` are those of `sandbox.confine`, for each of its processes. `output` is a file, not a
    pipe: the limit on files also bounds a flood of messages. Raises MachineFault when the program
    cannot be started.
    """
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
    with subprocess.Popen(
        _limited(command, folder, limits, bounds.reads),
        cwd=folder,
        env={**environment, "TMPDIR": str(folder), "HOME": str(folder), **bounds.environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            ended = _watched(process, folder, bounds)
        finally:
            _end(process)
    if ended.status == sandbox.NOT_LAUNCHED:
        output.seek(0)
        said = output.read(1000).decode(errors="replace").strip()
        raise MachineFault(f"{command[0]} was not started: {said}", "run: epitaxy doctor")
    return ended


def _watched(process: subprocess.Popen[bytes], folder: Path, bounds: Bounds) -> Ended:
    until = time.monotonic() + bounds.seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return Ended(process.wait(timeout=min(POLL_S, bounds.seconds)))
        if time.monotonic() > until:
            return Ended(-1, late=True)
        if _bytes_in(bounds.within or folder) > bounds.folder_bytes:
            return Ended(-1, big=True)


def _bytes_in(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it was removed meanwhile
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and all that it started, and wait until they are gone."""
    if process.poll() is not None:
        return
    process.terminate()  # it takes its process namespace along, where it has one
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(DYING_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _limited(
    command: list[str], folder: Path, limits: Mapping[str, int], reads: tuple[str, ...]
) -> list[str]:
    """The command in a jail: the system's files to read, its folder to write, nothing else.

    Where no jail can be had the program is only limited: the judge builds nothing there that is
    not trusted.
    """
    program = shutil.which(command[0]) or command[0]
    if set(sandbox.NEEDED) <= set(sandbox.available()):
        own = _prefix(Path(program).resolve())
        return sandbox.confined(
            [program, *command[1:]], [*SYSTEM, own, *reads], [str(folder), "/dev/null"], limits
        )
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        return command
    return [
        prlimit,
        f"--as={limits['memory_bytes']}",
        f"--cpu={limits['cpu_s']}",
        f"--fsize={limits['file_bytes']}",
        "--core=0",
        *command,
    ]


def _prefix(program: Path) -> str:
    """The folder that a program was installed in; never one that holds a home folder."""
    prefix = program.parents[1]
    return str(program.parent if Path.home().is_relative_to(prefix) else prefix)
