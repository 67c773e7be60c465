"""Hostile candidates harm nothing and are charged only to themselves.

Every kernel here is C++ that the real toolchain built, below the static checks (which refuse such
sources before anything runs), so that the jail alone is what stands between.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import as_nobody
import pytest
from isolation_case import PROBLEM, SOURCES, Attacker, attacker, built, forward_of

import epitaxy
from epitaxy import sandbox
from epitaxy.candidate import Candidate
from epitaxy.chip import Chip, Level
from epitaxy.errors import NoSandbox
from epitaxy.judge import Judge
from epitaxy.machine import Job, WorkerFailure
from epitaxy.machines import _jail
from epitaxy.machines._realtime import threads
from epitaxy.machines._worker import Limits
from epitaxy.machines.local import LocalMachine
from epitaxy.plugin import plugins
from epitaxy.problem import load

pytestmark = pytest.mark.skipif(
    not set(sandbox.NEEDED) <= set(sandbox.available()), reason="no Landlock or seccomp here"
)

PATIENT, IMPATIENT = Limits(load_s=30, burst_s=20), Limits(load_s=30, burst_s=1.5)
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
    made = LocalMachine(threads=1, home=tmp_path_factory.mktemp("home"), limits=PATIENT)
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
    "half an exit": (0, "no answer"),
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
    if name == "thread bomb" and os.geteuid() == 0 and "user" not in neighbour.worker().layers:
        pytest.skip("nothing here bounds the threads of root")
    most, says = RAMPAGES[name]
    if says == "no answer":
        monkeypatch.setattr(machine, "limits", IMPATIENT)
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


def test_a_candidate_that_hangs_loses_its_priority(machine, rampages, monkeypatch):
    if not machine.realtime:
        pytest.skip("no real-time priority here")
    monkeypatch.setattr(machine, "limits", IMPATIENT)
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
    if "user" in jailed.worker().layers:
        assert set(facts["Uid"].split()).isdisjoint({"0"})
        assert int(facts["CapEff"], 16) in (1 << 1, 1 << 2)  # to read what it is shown
    else:
        assert int(facts["CapEff"], 16) == 0
    assert int(facts["CapInh"], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"


# Candidates in Python: what a call does, and how it ends ("" when the worker survives it).
PYTHON = {
    "forks": ("os.fork()", ""),
    "kills": ("os.kill(os.getppid(), 9); os.killpg(0, 9)", ""),
    "starts threads": ("[threading.Thread(target=time.sleep, args=(99,)).start()"
                       " for _ in range(9999)]", ""),
    "fills memory": ("keep.extend(bytearray(1 << 26) for _ in range(999))", ""),
    "fills the disk": ("open('/tmp/rampage', 'w')", ""),
    "exits": ("os._exit(0)", "exited with code 0"),
    "recurses in C": ("pickle.dumps(nested())", ""),
    "speaks for the loop": ("loop().channel.send(b'garbage')", "out of turn"),
    "hangs up": ("loop().channel.close()", "exited"),
    # that there is no file to cut is a no too
    "cuts the memory": ("[os.ftruncate(fd, 0) for fd in range(3, 99) if is_file(fd)]"
                        " or os.close(-1)", ""),
}  # fmt: skip
MODULE = """
import os, pickle, stat, sys, threading, time, torch
threading.stack_size(65536)
keep = []
def nested():
    value = []
    for _ in range(10**6):
        value = [value]
    return value
def loop():
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "channel"):
        frame = frame.f_back
    return frame.f_locals["self"]
def is_file(fd):
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False
class ModelNew(torch.nn.Module):
    def forward(self, x):
        try:
            HARM
        except (OSError, RuntimeError, MemoryError, RecursionError, ValueError, BufferError,
                SystemError):
            keep.clear()
            return torch.tensor([0, 1])
        return torch.tensor([0, 2])
"""


@pytest.mark.parametrize("name", PYTHON)
def test_a_candidate_in_python_harms_itself_alone(
    machine, rampages, neighbour, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(_jail, "LEAST_MEMORY_BYTES", LEAST_MEMORY_BYTES)
    harm, says = PYTHON[name]
    candidate = Candidate(
        problem=PROBLEM.digest, toolchain="torch", entry="model_new.py", proposer="test",
        files={"model_new.py": MODULE.replace("HARM", harm)},
    )  # fmt: skip
    build = plugins("toolchains").get("torch").build(candidate, PROBLEM, tmp_path)
    assert build.ok, build.log
    assert neighbour.ask("honest") == (0, 7)
    before = descendants(os.getpid())
    with attacker(machine, build) as bad:
        if says:
            with pytest.raises(WorkerFailure, match=says):
                bad.ask(name)
        else:
            assert bad.ask(name) == (0, 1)  # it was told no
    assert descendants(os.getpid()) <= before
    assert neighbour.ask("honest") == (0, 7)


# -- what lies around: the cache, the package, the ledger ------------------------------------------

TOUCHES = (
    "write a file", "truncate a file", "make a file", "make a folder", "make an unnamed file",
    "link a file", "rename a file", "change a file's mode", "change a file's times",
    "change a file's attributes", "watch a file", "lease a file",
)  # fmt: skip


def test_no_build_and_no_source_of_the_package_can_be_touched(jailed, attempts):
    own = Path(attempts.folder)
    library = next(own.glob("kernel-*.so"))
    for path in (library, own / "model_new.py", Path(_jail.__file__)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        names = sorted(os.listdir(path.parent))
        for name in TOUCHES:
            assert jailed.ask(name, str(path))[0] != 0, (name, path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert sorted(os.listdir(path.parent)) == names


def test_neither_the_ledger_nor_another_build_can_be_read(machine, jailed, attempts, rampages):
    ledger = machine.home / "ledger.sqlite"
    ledger.write_text("verdicts")
    others = next(Path(rampages.folder).glob("kernel-*.so"))
    assert jailed.ask("read a file", str(ledger))[0] != 0
    for name in ("read a file", "load a library"):
        assert jailed.ask(name, str(others))[0] != 0
    own = str(next(Path(attempts.folder).glob("kernel-*.so")))
    assert jailed.ask("read a file", own)[0] == 0  # so it is no matter of spelling
    assert jailed.ask("load a library", own)[0] == 0


# -- the whole path --------------------------------------------------------------------------------

JUDGED = {
    "thread bomb": ("for (;;) { pthread_t t; if (pthread_create(&t, 0, nap, 0)) break; }", "", ""),
    "busy threads": (
        "{ pthread_t t; pthread_create(&t, 0, spin, 0); }", "refused incorrect crashed", "",
    ),
    "endless": ("for (;;) asm volatile(\"\");", "timeout", "no answer"),
    "forged answer": (
        "for (int fd = 3; fd < 64; ++fd) (void)!write(fd, \"\\x11\\0\\0\\0\\0\", 5);",
        "crashed", "out of turn",
    ),
    "deaf": ("for (int fd = 0; fd < 256; ++fd) close(fd);", "crashed", "exited"),
    "killer": ("if (!kill(getppid(), SIGKILL)) return; kill(-1, SIGKILL); raise(SIGSEGV);",
               "crashed", "SIGSEGV"),
    "honest": ("", "accepted", ""),
}  # fmt: skip
RELU = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.randn(16, 1024)]
def get_init_inputs():
    return []
"""
KERNEL = """
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
static void* nap(void*) { pause(); return nullptr; }
static void* spin(void*) { for (;;) asm volatile(""); }
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
  (void)nap; (void)spin;
  HARM
  for (long i = 0; i < 16 * 1024; ++i) y[i] = x[i] != x[i] ? x[i] : x[i] > 0 ? x[i] : 0;
}
"""


def test_the_judge_charges_each_candidate_for_itself(machine, tmp_path, monkeypatch):
    (tmp_path / "p.py").write_text(RELU)
    monkeypatch.setattr(machine, "limits", Limits(load_s=20, burst_s=3))
    level = Level(name="DRAM", bytes=0, read_bytes_per_s=1e12, write_bytes_per_s=1e12)
    chip = Chip(id="c", name="c", vendor="v", kind="cpu", measured=True, levels=(level,))
    monkeypatch.setattr(machine, "chip", lambda: chip)
    off = [*plugins("checks").names(), "symbols"]  # what is looked for in sources and libraries
    problem = load(tmp_path / "p.py")
    forward = forward_of(problem)
    with contextlib.closing(Judge(problem, machine, baselines=["eager"], without=off)) as judge:
        for name, (harm, statuses, says) in JUDGED.items():
            candidate = Candidate(
                problem=problem.digest,
                toolchain="cpp",
                files={"kernel.cpp": KERNEL.replace("HARM", harm), "forward.py": forward},
                entry="forward.py",
                proposer="test",
            )
            verdict = judge.judge(candidate, "screen")
            assert verdict.status in statuses.split() or not statuses, (name, verdict.reason)
            assert says in verdict.reason, name


# -- other users, poorer systems -------------------------------------------------------------------


@pytest.fixture
def nobody() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs a command of this Python as a plain user, who has a folder to write in."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    home = Path(tempfile.mkdtemp(prefix="epitaxy-"))
    source = Path(epitaxy.__file__).parents[1]
    needed = [sys.prefix, sys.base_prefix, source, Path(__file__).parent]
    kept = {name: os.environ[name] for name in ("PATH", "CXX") if name in os.environ}
    (home / "stage").mkdir()
    (home / "tmp").mkdir()
    for folder in (home, home / "tmp"):
        os.chown(folder, as_nobody.USER, as_nobody.USER)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, as_nobody.__file__, home / "stage", *needed, "--"]
        done = subprocess.run(
            [*map(str, command), sys.executable, "-B", *arguments],
            cwd="/", capture_output=True, text=True, timeout=300, check=False,
            env={**kept, "HOME": str(home), "TMPDIR": f"{home}/tmp", "PYTHONPATH": str(source),
                 "EPITAXY_HOME": f"{home}/state"},
        )  # fmt: skip
        if "OSError" in done.stderr and "open_up" in done.stderr:
            pytest.skip("this system lets nobody mount")
        return done

    yield run
    shutil.rmtree(home)


def test_an_ordinary_user_is_as_safe(nobody):
    """The tests of this file again, as a user who may do nothing in particular."""
    chosen = "confined_kernel or bomb or memory or source_of_the_package or is_nobody"
    done = nobody(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout.splitlines()[-1]


POORER = """
import ctypes, os, sys, threading
sys.path.insert(0, sys.argv[1])
from epitaxy import sandbox
def missing(*_, **__): raise OSError(1, "not here")
for name in sys.argv[2].split():
    setattr(sandbox, name, missing)
layers = sandbox.confine(limits={"threads": 40})
threading.stack_size(65536)
count = 0
try:
    for count in range(400):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
except RuntimeError:
    pass
print(count, *layers, flush=True)
os._exit(0)
"""


def poorer(lacking: str) -> list[str]:
    """A command that confines itself where parts of the sandbox are missing, then bombs."""
    return ["-I", "-S", "-c", POORER, str(Path(epitaxy.__file__).parents[1]), lacking]


def bounded(done: subprocess.CompletedProcess[str], lacking: str) -> None:
    count, *layers = done.stdout.split()
    assert 20 < int(count) < 60, done.stdout + done.stderr
    assert set(sandbox.NEEDED) <= set(layers)
    assert ("namespaces" in layers) <= ("_namespaces" not in lacking)


@pytest.mark.parametrize("lacking", ["", "_namespaces"])
def test_threads_are_bounded_whatever_layer_is_missing(lacking):
    command = [sys.executable, "-B", *poorer(lacking)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    bounded(done, lacking)


@pytest.mark.parametrize("lacking", ["", "_namespaces"])
def test_threads_of_an_ordinary_user_are_bounded_too(nobody, lacking):
    bounded(nobody(*poorer(lacking)), lacking)


OLDER = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
from epitaxy import sandbox
checked = sandbox._checked
sandbox._checked = lambda result, what: 1 if what == "landlock" else checked(result, what)
folder, parent = sys.argv[2], os.getppid()
path = os.path.join(folder, "victim")
sandbox.confine(read_only=[folder])
for attempt in (
    lambda: os.truncate(path, 0), lambda: open(path, "r+"), lambda: os.open(path, os.O_TRUNC),
    lambda: os.kill(parent, 0), lambda: os.link(path, path + "2"), lambda: os.chmod(path, 0o777),
    lambda: os.rename(path, path + "2"), lambda: open("/etc/passwd"), lambda: os.unlink(path),
    lambda: os.socketpair() if hasattr(os, "socketpair") else open("/etc/shadow"),
    lambda: os.utime(path), lambda: os.memfd_create("x"),
):
    try:
        attempt()
    except OSError:
        continue
    print("escaped", attempt.__code__.co_consts, attempt.__code__.co_names)
print(open(path).read())
"""


def test_the_first_landlock_is_enough(victim):
    """Linux 5.13 restricts neither truncation nor signals nor TCP by it; seccomp does."""
    source = str(Path(epitaxy.__file__).parents[1])
    before = state(victim)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", OLDER, source, str(Path(victim).parent)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "a ledger\n", done.stdout + done.stderr
    assert state(victim) == before


def test_a_worker_ends_with_the_process_that_started_it(tmp_path, attempts):
    with contextlib.closing(LocalMachine(threads=1, home=tmp_path)) as own:
        worker = own.open(Job(problem=PROBLEM, folder=attempts.folder))
        os.kill(own.zygote().pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while running(worker.pid) and time.monotonic() < until:
            time.sleep(0.01)
        assert not running(worker.pid)
        worker.close()


def running(pid: int) -> bool:
    """Whether a process lives: one that is dead may be a zombie for a while."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("lacking", ["_landlock", "_filter"])
def test_a_jail_without_what_is_needed_is_none(lacking):
    command = [sys.executable, "-B", *poorer(lacking)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "the jail cannot be closed" in done.stderr
    assert "--trust" in done.stderr
    assert not done.stdout


def test_nothing_untrusted_runs_where_there_is_no_jail(machine, attempts, monkeypatch):
    monkeypatch.setattr(sandbox, "available", lambda: ("rlimits", "seccomp"))
    with pytest.raises(NoSandbox, match="no landlock") as error:
        machine.open(Job(problem=PROBLEM, folder=attempts.folder))
    assert "--trust" in error.value.mend
    with pytest.raises(NoSandbox):
        machine.require()
