"""Hostile candidates harm nothing and are charged only to themselves.

Every kernel here is C++ that the real toolchain built, below the static checks (which refuse such
sources before anything runs), so that the jail alone is what stands between.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from isolation_case import SOURCES, Attacker, attacker, built

from epitaxy import sandbox
from epitaxy.machine import WorkerFailure
from epitaxy.machines import _jail
from epitaxy.machines._realtime import threads
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


# -- rampages: what would take the machine or the judge down ---------------------------------------

LEAST_MEMORY_BYTES = 256 << 20
# What a rampage may get at most, and how it ends: "" when the worker survives it.
RAMPAGES = {
    "thread bomb": (600, ""),
    "fork bomb": (0, ""),
    "daemon": (0, ""),
    "memory": (300, ""),
    "shared memory": (300, ""),
    "memory not reserved": (300, ""),
    "memory of a device": (300, ""),
    "memory in pieces": (300, ""),
    "memory of pipes": (300, ""),
    "memory of files": (0, ""),
    "disk": (0, ""),
    "output": (0, ""),
    "errors": (0, ""),
    "frames": (0, "spoke out of turn"),
    "nested answer": (0, "answered nonsense"),
    "misleading answer": (0, "kind"),
    "files in flight": (0, "spoke out of turn"),
    "shut channel": (0, "exited"),
    "closed files": (0, "exited"),
    "holes in shared memory": (0, ""),
    "unmapped shared memory": (0, ""),
    "spin": (0, "no answer"),
    "sleep": (0, "no answer"),
    "stop": (0, "no answer"),
    "exit": (0, "exited with code 0"),
    "kill itself": (0, "it was killed"),
    "crash": (0, "SIGSEGV"),
}


@pytest.fixture(scope="module")
def rampages(tmp_path_factory: pytest.TempPathFactory):
    return built("rampages.cpp", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def neighbour(machine, rampages) -> Iterator[Attacker]:
    """An honest worker that lives beside all the others."""
    with attacker(machine, rampages) as made:
        yield made


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path("/proc", name, "stat").read_text()
        except OSError:
            continue
        parents[int(name)] = int(text.rpartition(")")[2].split()[1])
    found, more = {pid}, True
    while more:
        more = {p for p, parent in parents.items() if parent in found} - found
        found |= more
    return found - {pid}


def resident_bytes() -> int:
    """What this process, the broker, holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def free_bytes() -> list[int]:
    """Free space of each file system that a candidate might fill."""
    found = []
    for place in ("/tmp", "/dev/shm", "/var/tmp"):
        about = os.statvfs(place)
        found.append(about.f_bavail * about.f_frsize)
    return found


@pytest.mark.parametrize("name", RAMPAGES)
def test_a_rampage_is_charged_to_its_candidate_alone(
    machine, rampages, neighbour, victim, monkeypatch, name
):
    monkeypatch.setattr(_jail, "LEAST_MEMORY_BYTES", LEAST_MEMORY_BYTES)
    assert neighbour.ask("honest") == (0, 7)
    zygote, before, around = machine.zygote().pid, descendants(os.getpid()), state(victim)
    free, held = free_bytes(), resident_bytes()
    most, says = RAMPAGES[name]
    with attacker(machine, rampages) as bad:
        if says:
            with pytest.raises(WorkerFailure, match=says) as failure:
                bad.ask(name, victim)
            assert failure.value.kind in ("crashed", "timeout")
            assert len(failure.value.message) < 3000
        else:
            code, got = bad.ask(name, victim)
            assert code == 0
            assert 0 <= got <= most
    assert machine.zygote().pid == zygote
    assert descendants(os.getpid()) <= before
    assert state(victim) == around
    assert resident_bytes() - held < 100 << 20
    assert all(was - now < 200 << 20 for was, now in zip(free, free_bytes(), strict=True))
    assert neighbour.ask("honest") == (0, 7)


@pytest.mark.parametrize("name", ["memory of files", "disk"])
def test_the_rampage_itself_works_without_the_jail(machine, rampages, victim, name):
    with attacker(machine, rampages, without=("sandbox",)) as bad:
        assert bad.ask(name, victim)[1] > 0


def test_a_candidate_that_hangs_loses_its_priority(machine, rampages):
    if not machine.realtime:
        pytest.skip("no real-time priority here")
    with attacker(machine, rampages) as bad:
        pid, seen = bad.worker().pid, []

        def look() -> None:
            time.sleep(1.2)
            seen.extend(os.sched_getscheduler(tid) for tid in threads(pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        with pytest.raises(WorkerFailure, match="no answer"):
            bad.ask("spin on all cores")
        watcher.join()
    assert len(seen) > 8
    assert set(seen) == {os.SCHED_OTHER}


def test_when_memory_runs_out_the_candidate_is_ended_first(jailed, machine):
    jailed.ask("nothing")
    pid = jailed.worker().pid
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    assert Path(f"/proc/{machine.zygote().pid}/oom_score_adj").read_text().strip() != "1000"


def test_a_candidate_of_roots_is_nobody(jailed):
    jailed.ask("nothing")
    status = Path(f"/proc/{jailed.worker().pid}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if os.geteuid() == 0:
        assert set(facts["Uid"].split()).isdisjoint({"0"})
        assert int(facts["CapEff"], 16) in (1 << 1, 1 << 2)  # to read what it is shown
    else:
        assert int(facts["CapEff"], 16) == 0
    assert int(facts["CapInh"], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"
