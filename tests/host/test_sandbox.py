"""The jail: what a candidate tries and cannot do. Each attempt works for a trusted one."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from epitaxy import sandbox, seccomp
from epitaxy.errors import NoSandbox
from epitaxy.machine import Job
from epitaxy.machines.local import LocalMachine
from epitaxy.problem import Problem, TensorSpec

SPEC = TensorSpec(shape=(2,), dtype="int64")
KEYS = ("EPITAXY_HOME", "ANTHROPIC_API_KEY", "MY_SECRET_TOKEN")

pytestmark = pytest.mark.skipif(
    not set(sandbox.NEEDED) <= set(sandbox.available()), reason="no Landlock or seccomp here"
)

# Each returns normally when the attempt succeeded and raises when it was stopped. PARENT is the
# zygote, BROKER this test's process, SECRET a file in a user's home, ROOM a writable folder.
ATTEMPTS = {
    "internet socket": "import socket; socket.socket()",
    "unix socket": "import socket; socket.socketpair()",
    "read a user's file": "open(SECRET).read()",
    "read the home": "os.listdir(os.path.dirname(SECRET))",
    "read /etc": "open('/etc/passwd').read()",
    "write a file": "open(os.path.join(ROOM, 'x'), 'w').write('x')",
    "write beside itself": "open(__file__ + '.x', 'w').write('x')",
    "write to /tmp": "open(f'/tmp/epitaxy-{os.getpid()}', 'w').close()"
    "; os.unlink(f'/tmp/epitaxy-{os.getpid()}')",
    "signal the broker": "os.kill(BROKER, 0)",
    "signal its parent": "os.kill(PARENT, 0)",
    "signal its group": "os.killpg(0, 0)",
    "raise its own clock rights": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "move the broker to one core": "os.sched_setaffinity(BROKER, os.sched_getaffinity(0))",
    "limit the broker": "resource.prlimit(BROKER, resource.RLIMIT_CORE)",
    "read the broker's memory": "open(f'/proc/{BROKER}/mem', 'rb')",
    "read the broker's command": "open(f'/proc/{BROKER}/cmdline', 'rb')",
    "read the broker's memory by call": "read_memory(BROKER)",
    "start a program": "subprocess.run(['/bin/true'], check=True)",
    "fork": "(os.fork() or os._exit(0)) and os.wait()",
    "aim signals at the broker": "import fcntl; fcntl.fcntl(2, fcntl.F_SETOWN, BROKER)",
    "trace its parent": "system_call(101 if X86 else 117, 16, PARENT, 0, 0)"
    "; system_call(101 if X86 else 117, 17, PARENT, 0, 0)",
}

PRELUDE = """
import ctypes, os, platform, resource, subprocess, torch
X86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)

def system_call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def read_memory(pid):
    space = ctypes.create_string_buffer(8)
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    here = Vector(ctypes.addressof(space), 8)
    there = Vector(ADDRESS, 8)
    number = 310 if X86 else 270
    system_call(number, pid, ctypes.byref(here), ctypes.c_ulong(1), ctypes.byref(there),
                ctypes.c_ulong(1), ctypes.c_ulong(0))

def attempt():
    try:
        exec(ATTEMPT, globals())
    except (OSError, PermissionError):
        return 0
    return 1

class ModelNew(torch.nn.Module):
    def forward(self, x):
        return torch.tensor([attempt(), len(os.environ)])
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMachine]:
    patch = pytest.MonkeyPatch()
    for key in KEYS:
        patch.setenv(key, "secret")
    made = LocalMachine(threads=1, home=tmp_path_factory.mktemp("home"))
    made.zygote()
    yield made
    made.close()
    patch.undo()


def run(machine: LocalMachine, folder: Path, attempt: str) -> int:
    """1 when the attempt succeeded, 0 when it was stopped."""
    address = torch.zeros(1, dtype=torch.int64)
    secret = folder.parent / "home" / "ledger.sqlite"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("hidden")
    names = {
        "PARENT": machine.zygote().pid,
        "BROKER": os.getpid(),
        "SECRET": str(secret),
        "ROOM": str(secret.parent),
        "ADDRESS": address.data_ptr(),
        "ATTEMPT": attempt,
    }
    folder.mkdir(exist_ok=True)
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    (folder / "model_new.py").write_text(head + PRELUDE)
    problem = Problem(
        name="escape",
        reference="torch_module",
        source="",
        entry="Model",
        inputs=(SPEC,),
        outputs=(SPEC,),
    )
    with machine.start(Job(problem=problem, folder=str(folder))) as worker:
        worker.prepare([], {})
        worker.write(0, [torch.zeros(2, dtype=torch.int64)])
        worker.burst([0])
        return int(worker.outputs()[0][0])


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_confined_candidate_cannot(machine, tmp_path, name):
    assert run(machine, tmp_path / "candidate", ATTEMPTS[name]) == 0


# Tracing a parent or a process outside one's tree may be forbidden to everyone by the system.
@pytest.mark.parametrize("name", sorted(set(ATTEMPTS) - {"trace its parent", "signal its group"}))
def test_the_attempt_itself_works_without_the_jail(machine, tmp_path, name):
    machine.trust = True
    try:
        got = run(machine, tmp_path / "candidate", ATTEMPTS[name])
    finally:
        machine.trust = False
    if "memory" in name and got == 0:
        pytest.skip("the system itself forbids tracing")
    assert got == 1


@pytest.mark.parametrize("trust", [False, True])
def test_no_secret_is_in_the_environment(machine, tmp_path, trust):
    machine.trust = trust
    try:
        seen = f"if not set({KEYS!r}) & set(os.environ): raise OSError"
        assert run(machine, tmp_path / "candidate", seen) == 0
    finally:
        machine.trust = False


def test_threads_and_signals_to_itself_still_work(machine, tmp_path):
    body = (
        "import threading; t = threading.Thread(target=int); t.start(); t.join()"
        "; os.kill(os.getpid(), 0); torch.mm(torch.ones(300, 300), torch.ones(300, 300))"
    )
    assert run(machine, tmp_path / "candidate", body) == 1


def test_every_layer_is_named(machine, tmp_path):
    assert set(sandbox.NEEDED) <= set(sandbox.available())
    assert "rlimits" in sandbox.available()


def test_a_starved_machine_is_not_said_to_lack_a_sandbox(monkeypatch):
    monkeypatch.setattr(sandbox, "TRIAL_S", 1e-6)
    sandbox._probe.cache_clear()
    try:
        with pytest.raises(NoSandbox, match="not found out") as caught:
            sandbox.require()
        assert "less busy" in caught.value.mend
    finally:
        sandbox._probe.cache_clear()


def test_a_process_with_threads_is_not_confined_halfway():
    assert len(os.listdir("/proc/self/task")) > 1 or torch.set_num_threads(2) is None
    torch.mm(torch.ones(500, 500), torch.ones(500, 500))
    with pytest.raises(NoSandbox, match="threads"):
        sandbox.confine()


def test_without_a_sandbox_a_candidate_is_refused_unless_trusted(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "available", lambda: ("rlimits",))
    with pytest.raises(NoSandbox, match="--trust"):
        run(machine, tmp_path / "candidate", "pass")
    machine.trust = True
    try:
        assert run(machine, tmp_path / "candidate", "pass") == 1
    finally:
        machine.trust = False


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_filter_is_well_formed(architecture):
    program = seccomp.program(architecture, 1234)
    steps = list(struct.iter_unpack("=HBBI", program))
    assert len(steps) < 4096
    for i, (code, if_true, if_false, _) in enumerate(steps):
        if code & 7 == 5:
            assert i + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1][0] == 0x06


CONTROL = """
import fcntl, sys
sys.path.insert(0, sys.argv[1])
from epitaxy import sandbox
sandbox.confine(read_only=["/dev/null", *sys.path], devices=sys.argv[2:])
try:
    fcntl.ioctl(open("/dev/null", "r+" if sys.argv[2:] else "r"), 0x5401)
except OSError as error:
    print(error.errno)
"""


DRIVER = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from epitaxy import sandbox
sandbox.confine(read_only=["/proc/self", *sys.path], devices=sys.argv[2:])

def named():
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "r+b", buffering=0) as file:
            file.write(b"cuda")
        print("named")
    except OSError as error:
        print(error.errno)

other = threading.Thread(target=named)
other.start()
other.join()
try:
    open("/proc/self/oom_score_adj", "r+b")
except OSError as error:
    print(error.errno)
"""


def test_whoever_controls_a_device_may_name_its_own_threads():
    """As libcuda does when it starts; nobody else may write below /proc, nor it elsewhere."""
    import errno
    import subprocess
    import sys

    root = str(Path(sandbox.__file__).parents[1])
    said = [
        subprocess.run(
            [sys.executable, "-c", DRIVER, root, *devices], capture_output=True, text=True
        ).stdout.split()
        for devices in ((), ("/dev/null",))
    ]
    refused = str(errno.EACCES)
    assert said == [[refused, refused], ["named", refused]]


def test_only_listed_devices_may_be_controlled():
    """Since Linux 6.10 Landlock asks for that: a GPU is nothing but control."""
    import errno
    import subprocess
    import sys

    kernel = tuple(map(int, os.uname().release.split(".")[:2]))
    root = str(Path(sandbox.__file__).parents[1])
    said = [
        subprocess.run(
            [sys.executable, "-c", CONTROL, root, *devices], capture_output=True, text=True
        ).stdout.strip()
        for devices in ((), ("/dev/null",))
    ]
    if kernel >= (6, 10):
        assert said[0] == str(errno.EACCES), said
    assert said[1] == str(errno.ENOTTY), said
