"""The jail that a candidate runs in, made from the kernel's own parts with the standard library.

A freshly forked, single-threaded process calls `confine` and can never undo it:

    rlimits        processor time, memory, file size, descriptors, threads, no core dump
    namespaces     network, ipc, host name, and processes for programs, where the system permits
    user           started by root: an account of its own that owns no file; it may only read
    capabilities   none else, whoever the user is
    landlock       files: what is listed; no TCP; no signals to processes outside (by kernel)
    seccomp        no sockets, processes, programs, tracing, mounts, others' scheduling

Landlock and seccomp (`seccomp.py`) are indispensable, the rest deepens the defence. When memory
runs out the kernel ends confined processes first. Sources: the kernel's
Documentation/userspace-api/landlock.rst, capabilities(7), user_namespaces(7), getrlimit(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence

from epitaxy import seccomp
from epitaxy.errors import NoSandbox

NEEDED = ("landlock", "seccomp")
NOT_LAUNCHED = 97
"""Exit code of the launcher when the program could not be started: no fault of the program."""
MEND = "use Linux 5.13 or newer with Landlock on x86-64 or arm64, or pass --trust for your own code"

TRIAL_S = 120.0
"""For what takes a twentieth of a second: a busy machine must not pass for an open one."""

_EXECUTE, _WRITE, _READ, _READ_DIR, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_CONTROL = 1 << 15
"""Of a device: ioctl."""
_DEFAULT_LIMITS = {
    "cpu_s": 3600,
    "memory_bytes": 0,
    "file_bytes": 1 << 20,
    "files": 256,
    "threads": 512,
}
_LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker", "launch.py")
_NETWORK_IPC_NAME = 0x40000000 | 0x08000000 | 0x04000000
_NEW_USER, _NEW_PROCESSES = 0x10000000, 0x20000000
_RLIMIT_RTTIME = 15
_REALTIME_US = 3_000_000
"""How long a thread may run at real-time priority without a pause: else it would starve others."""
_PASS_ANY, _READ_ANY = 1 << 1, 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_NOBODY = 1_900_000_000
"""Above the numbers that accounts, services and containers are given."""


def available() -> tuple[str, ...]:
    """The layers that work here, found by confining a process and trying to break out.

    Raises NoSandbox where that takes longer than TRIAL_S.
    """
    return _probe(sys.executable)


def require() -> None:
    """Raises NoSandbox when a layer that is needed is missing, or that was not found out."""
    missing = [layer for layer in NEEDED if layer not in available()]
    if missing:
        raise NoSandbox(
            f"nothing here can confine a candidate: no {' and no '.join(missing)}", MEND
        )


def confine(
    read_only: Sequence[str] = (),
    writable: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
    programs: bool = False,
    devices: Sequence[str] = (),
) -> tuple[str, ...]:
    """Confine this process, which must have one thread, for good; the layers in force.

    `programs` lets it start programs from `read_only` places, as a compiler must; they are
    confined like it.

    `read_only` and `writable` are folders or files, `devices` device files that may be controlled
    too, as a GPU's must; ones that do not exist are left out. Whoever controls devices may also
    write to its own threads' files in /proc, as NVIDIA's driver does to name them (nolabs-ai/nono,
    issue 924), and make files in memory (`seccomp.program`). `limits`:
    cpu_s, memory_bytes (on top of what is mapped now; 0: none), file_bytes, files, threads.
    Raises NoSandbox when a layer that is needed cannot be had.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise NoSandbox(
            "a process with threads cannot be confined", "confine it before it starts any"
        )
    bounds = {**_DEFAULT_LIMITS, **(limits or {})}
    layers = ["rlimits", *_apart(programs)]
    if devices:  # a changed account does not own its files in /proc otherwise
        _libc().prctl(4, 1, 0, 0, 0)
    _limit(bounds, "namespaces" in layers or "user" in layers)
    libc = _libc()
    _checked(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    try:
        _landlock(read_only, writable, devices, programs)
        layers.append("landlock")
        if "user" not in layers:
            _keep_capabilities(0)
        layers.append("capabilities")
        libc.prctl(1, int(signal.SIGKILL), 0, 0, 0)  # changed credentials may have reset it
        _filter(programs, bool(devices))
        layers.append("seccomp")
    except OSError as error:
        raise NoSandbox(f"the jail cannot be closed: {error}", MEND) from None
    return tuple(layers)


def confined(
    command: Sequence[str],
    read_only: Sequence[str],
    writable: Sequence[str],
    limits: Mapping[str, int],
) -> list[str]:
    """The command line that runs `command` (a full path first) confined; see `confine`."""
    jail = {"read_only": list(read_only), "writable": list(writable), "limits": dict(limits)}
    return [sys.executable, "-I", "-S", _LAUNCHER, json.dumps(jail), *command]


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _limit(bounds: Mapping[str, int], alone: bool) -> None:
    """`alone`: nobody else's threads count against this process's limit on threads."""
    pairs = {
        resource.RLIMIT_CPU: bounds["cpu_s"],
        resource.RLIMIT_FSIZE: bounds["file_bytes"],
        resource.RLIMIT_NOFILE: bounds["files"],
        resource.RLIMIT_NPROC: bounds["threads"] + (0 if alone else _own_threads()),
        resource.RLIMIT_CORE: 0,
        _RLIMIT_RTTIME: _REALTIME_US,
    }
    if bounds["memory_bytes"]:
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        pairs[resource.RLIMIT_AS] = mapped + bounds["memory_bytes"]
    for which, value in pairs.items():
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))


def _own_threads() -> int:
    """How many threads this user runs now."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _apart(programs: bool) -> list[str]:
    """Leave the others' namespaces and account, as far as the system permits: the layers."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    layers = []
    root = os.geteuid() == 0 and not programs
    with contextlib.suppress(OSError):
        _namespaces(new_user=not root, processes=programs)
        layers.append("namespaces")
    # A compiler keeps the account: it must write its folder, and runs no code of a candidate's.
    with contextlib.suppress(OSError):
        if root and _step_down():
            layers.append("user")
    return layers


def _namespaces(new_user: bool, processes: bool) -> None:
    """New network, ipc and host-name namespaces; in a new user namespace the user stays the same.

    With `processes` the caller goes on in a new process namespace: all that it starts ends with it.
    """
    user, group = os.geteuid(), os.getegid()
    wanted = _NETWORK_IPC_NAME | (_NEW_USER if new_user else 0)
    _checked(_libc().unshare(wanted), "unshare")
    if new_user:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    if processes:
        _checked(_libc().unshare(_NEW_PROCESSES), "unshare processes")
        _stay_behind(os.fork())
        _stay_behind(os.fork())  # the first process is deaf to signals, so it only waits


def _stay_behind(child: int) -> None:
    """In the parent of `child`: wait for it, and end as it does; SIGTERM ends the child first."""
    if child:
        _libc().prctl(1, int(signal.SIGKILL), 0, 0, 0)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
        status = os.waitpid(child, 0)[1]
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _step_down() -> bool:
    """From root to a user that nobody else is; False where that cannot be.

    The kernel limits no number of threads for root, and root owns files whose modes it could
    change. What only root may read stays readable, as far as Landlock lists it.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        held = int(next(line for line in lines if line.startswith("CapPrm")).split()[1], 16)
    reading = next((c for c in (_READ_ANY, _PASS_ANY) if held & c), 0)
    if not reading:
        return False
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        inside, _, count = max(tuple(map(int, line.split())) for line in lines)
    user = min(_NOBODY, inside + count - (1 << 15)) + os.getpid() % (1 << 14)
    if user <= 1000:
        return False
    _checked(_libc().prctl(8, 1, 0, 0, 0), "keep capabilities")
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _keep_capabilities(reading)
    return True


def _keep_capabilities(kept: int) -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    sets = ctypes.create_string_buffer(struct.pack("=6I", kept, kept, 0, 0, 0, 0), 24)
    _checked(_libc().capset(header, sets), "capset")


def _landlock(
    read_only: Sequence[str], writable: Sequence[str], devices: Sequence[str], programs: bool
) -> None:
    """Allow the listed files and nothing else: no file, no TCP, no signal to the outside."""
    call = _libc().syscall
    version = _checked(call(444, None, ctypes.c_size_t(0), ctypes.c_uint(1)), "landlock")
    files = (1 << 13) - 1
    for bit, since in ((13, 2), (14, 3), (15, 5)):
        files |= 1 << bit if version >= since else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("=QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    buffer = ctypes.create_string_buffer(attributes[:size], size)
    ruleset = _checked(
        call(444, buffer, ctypes.c_size_t(size), ctypes.c_uint(0)), "landlock ruleset"
    )
    readable = _READ | _READ_DIR | (_EXECUTE if programs else 0)
    control = _READ | _WRITE | _CONTROL
    changed = files & ~_EXECUTE & ~_CONTROL
    named = ["/proc/self/task"] if devices else []
    allowed = ((read_only, readable), (writable, changed), (devices, control))
    for paths, access in (*allowed, (named, _READ | _READ_DIR | _WRITE)):
        for path in filter(os.path.exists, paths):
            _allow(ruleset, path, access & files)
    _checked(call(446, ruleset, ctypes.c_uint(0)), "landlock restrict")
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        access &= _EXECUTE | _READ | _WRITE | _TRUNCATE | _CONTROL
    rule = ctypes.create_string_buffer(struct.pack("=Qi", access, descriptor), 12)
    result = _libc().syscall(445, ruleset, ctypes.c_uint(1), rule, ctypes.c_uint(0))
    os.close(descriptor)
    _checked(result, f"landlock rule {path}")


def _filter(programs: bool, devices: bool) -> None:
    program = seccomp.program(platform.machine(), os.getpid(), programs, devices)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filled = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _checked(_libc().prctl(22, 2, ctypes.byref(filled), 0, 0), "seccomp")


_TRIAL = """
import sys; sys.path.insert(0, sys.argv[1])
import socket
from epitaxy import sandbox
layers = list(sandbox.confine())
for layer, escape in (("landlock", lambda: open("/etc/passwd")), ("seccomp", socket.socket)):
    try:
        escape()
        layers.remove(layer)
    except OSError:
        pass
print(*layers)
"""


@functools.cache
def _probe(python: str) -> tuple[str, ...]:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [python, "-I", "-S", "-c", _TRIAL, package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired as error:  # a starved machine lacks no layer
        raise NoSandbox(
            f"whether candidates can be confined here was not found out within {error.timeout:g} s",
            "try again when the machine is less busy",
        ) from None
    except OSError:
        return ()
    return tuple(done.stdout.split()) if done.returncode == 0 else ()
