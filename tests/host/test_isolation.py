"""Hostile candidates harm nothing and are charged only to themselves.

Every kernel here is C++ that the real toolchain built, below the static checks (which refuse such
sources before anything runs), so that the jail alone is what stands between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from isolation_case import SOURCES, Attacker, attacker, built

from epitaxy import sandbox
from epitaxy.machines._worker import Limits
from epitaxy.machines.local import LocalMachine

pytestmark = pytest.mark.skipif(
    not set(sandbox.NEEDED) <= set(sandbox.available()), reason="no Landlock or seccomp here"
)

PERMITTED = ("nothing", "signal itself", "choose its own cores", "memory for itself")
_TEXT = (SOURCES / "attempts.cpp").read_text(encoding="utf-8")
ATTEMPTS = [n for n in re.findall(r'^    \{"([^"]+)",', _TEXT, re.M) if n not in PERMITTED]
# Harmless enough to try without the jail, to see that the attempt is a real one.
HARMLESS = (
    "unix socket", "abstract unix socket", "socket pair", "fork", "vfork", "clone3",
    "thread with files of its own", "thread with folders of its own", "kill the broker",
    "signal the zygote", "signal a thread of the broker", "pidfd of the broker",
    "aim a signal at the broker", "open the broker's environment", "open the broker's maps",
    "list the broker's files", "open the zygote's environment", "list the processes",
    "read a file", "write a file", "make a file", "make an unnamed file", "make a folder",
    "link a file", "link by name", "rename a file", "remove a file", "truncate a file",
    "change a file's mode", "change a file's owner", "change a file's times", "watch a file",
    "file in /tmp", "file in /dev/shm", "memory file", "shared memory segment",
    "write its own memory as a file", "disk priority", "move the broker to one core",
    "limit the broker",
)  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMachine]:
    limits = Limits(load_s=20, burst_s=1.5)
    made = LocalMachine(threads=1, home=tmp_path_factory.mktemp("home"), limits=limits)
    yield made
    made.close()


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory):
    return built("attempts.cpp", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def jailed(machine, attempts) -> Iterator[Attacker]:
    with attacker(machine, attempts) as made:
        yield made


@pytest.fixture(scope="module")
def free(machine, attempts) -> Iterator[Attacker]:
    with attacker(machine, attempts, without=("sandbox",)) as made:
        yield made


@pytest.fixture
def victim(tmp_path: Path) -> str:
    """A file of the user's, and its folder, that attempts aim at."""
    for name in ("victim", "victim.gone"):
        (tmp_path / name).write_text("a ledger")
    return str(tmp_path / "victim")


def state(path: str) -> list[tuple[str, int, int, float, bytes]]:
    """All that an attempt could change around `path`."""
    found = []
    for file in sorted(Path(path).parent.iterdir()):
        about = file.stat()
        found.append((file.name, about.st_mode, about.st_uid, about.st_mtime, file.read_bytes()))
    return found


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_confined_kernel_cannot(jailed, victim, name):
    before, affinity = state(victim), os.sched_getaffinity(0)
    code, _ = jailed.ask(name, victim)
    assert code != 0
    assert state(victim) == before
    assert os.sched_getaffinity(0) == affinity


@pytest.mark.parametrize("name", PERMITTED)
def test_a_confined_kernel_can(jailed, name):
    assert jailed.ask(name)[0] == 0


@pytest.mark.parametrize("name", HARMLESS)
def test_the_attempt_itself_works_without_the_jail(free, victim, name):
    affinity = os.sched_getaffinity(0)
    try:
        assert free.ask(name, victim)[0] == 0
    finally:
        os.sched_setaffinity(0, affinity)
