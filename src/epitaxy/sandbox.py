"""The jail that a candidate runs in, made from the kernel's own parts with the standard library.

A freshly forked, single-threaded process calls `confine` and can never undo it:

    rlimits        processor time, memory, file size, descriptors, no core dump
    namespaces     user, network, ipc, host name: an empty network, where the system permits
    capabilities   none, whoever the user is
    landlock       files: what is listed; no TCP; no signals to processes outside (by kernel)
    seccomp        no sockets, processes, programs, tracing, mounts, modules, other's scheduling

Landlock and seccomp are indispensable, the rest deepens the defence. Sources: the kernel's
Documentation/userspace-api/{landlock,seccomp_filter}.rst and the syscall tables of x86-64 and
arm64.
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

from epitaxy.errors import NoSandbox

NEEDED = ("landlock", "seccomp")
NOT_LAUNCHED = 97
"""Exit code of the launcher when the program could not be started: no fault of the program."""
MEND = "use Linux 5.13 or newer with Landlock on x86-64 or arm64, or pass --trust for your own code"

_EXECUTE, _WRITE, _READ, _READ_DIR, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_DEFAULT_LIMITS = {
    "cpu_s": 3600,
    "memory_bytes": 0,
    "file_bytes": 1 << 20,
    "files": 256,
    "threads": 512,
}
_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000  # user, net, ipc, uts
_EPERM, _ENOSYS = 1, 38
_PROGRAMS = ("execve", "fork", "vfork")
_NEW_NAMESPACE = 0x7E020080  # any CLONE_NEW flag of clone(2)
_LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker", "launch.py")

# name: (x86-64, arm64); -1 where an architecture has none.
_DENIED = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, -1), "vfork": (58, -1),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180), "clock_settime": (227, 112), "settimeofday": (164, 170),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161),
    "setdomainname": (171, 162), "acct": (163, 89), "quotactl": (179, 60),
    "personality": (135, 92), "modify_ldt": (154, -1), "iopl": (172, -1), "ioperm": (173, -1),
    "syslog": (103, 116),
}  # fmt: skip


def available() -> tuple[str, ...]:
    """The layers that work here, found by confining a process and trying to break out."""
    return _probe(sys.executable)


def require() -> None:
    """Raises NoSandbox when a layer that is needed is missing."""
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
) -> tuple[str, ...]:
    """Confine this process, which must have one thread, for good; the layers in force.

    `programs` lets it start programs from `read_only` places, as a compiler must; they are
    confined like it.

    `read_only` and `writable` are folders or files; ones that do not exist are left out. `limits`:
    cpu_s, memory_bytes (on top of what is mapped now; 0: none), file_bytes, files, threads.
    Raises NoSandbox when a layer that is needed cannot be had.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise NoSandbox(
            "a process with threads cannot be confined", "confine it before it starts any"
        )
    bounds = {**_DEFAULT_LIMITS, **(limits or {})}
    layers = ["rlimits"]
    _limit(bounds)
    with contextlib.suppress(OSError):
        _namespaces()
        resource.setrlimit(resource.RLIMIT_NPROC, (bounds["threads"],) * 2)
        layers.append("namespaces")
    libc = _libc()
    _checked(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    try:
        _landlock(read_only, writable, programs)
        layers.append("landlock")
        _drop_capabilities()
        layers.append("capabilities")
        libc.prctl(1, int(signal.SIGKILL), 0, 0, 0)  # changed credentials may have reset it
        _seccomp(programs)
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


def _limit(bounds: Mapping[str, int]) -> None:
    pairs = {
        resource.RLIMIT_CPU: bounds["cpu_s"],
        resource.RLIMIT_FSIZE: bounds["file_bytes"],
        resource.RLIMIT_NOFILE: bounds["files"],
        resource.RLIMIT_CORE: 0,
    }
    if bounds["memory_bytes"]:
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        pairs[resource.RLIMIT_AS] = mapped + bounds["memory_bytes"]
    for which, value in pairs.items():
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))


def _namespaces() -> None:
    """New user, network, ipc and host-name namespaces; the user stays the same one, alone."""
    user, group = os.geteuid(), os.getegid()
    _checked(_libc().unshare(_NAMESPACES), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    nothing = ctypes.create_string_buffer(24)
    _checked(_libc().capset(header, nothing), "capset")


def _landlock(read_only: Sequence[str], writable: Sequence[str], programs: bool) -> None:
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
    for paths, access in ((read_only, readable), (writable, files & ~1)):
        for path in filter(os.path.exists, paths):
            _allow(ruleset, path, access & files)
    _checked(call(446, ruleset, ctypes.c_uint(0)), "landlock restrict")
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        access &= _EXECUTE | _READ | _WRITE | _TRUNCATE
    rule = ctypes.create_string_buffer(struct.pack("=Qi", access, descriptor), 12)
    result = _libc().syscall(445, ruleset, ctypes.c_uint(1), rule, ctypes.c_uint(0))
    os.close(descriptor)
    _checked(result, f"landlock rule {path}")


def _seccomp(programs: bool) -> None:
    program = _program(platform.machine(), os.getpid(), programs)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filled = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _checked(_libc().prctl(22, 2, ctypes.byref(filled), 0, 0), "seccomp")


# --- the filter, a classic BPF program over (number, architecture, address, six arguments) ---
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _unless(number: int, block: Sequence[bytes]) -> list[bytes]:
    """`block`, which must return, for one system call; skipped for all others."""
    return [_op(_EQUAL, number, 0, len(block)), *block]


def _only(argument: int, values: Sequence[int]) -> list[bytes]:
    """Allow when the argument is one of `values`, refuse otherwise."""
    tests = [_op(_EQUAL, v, len(values) - i) for i, v in enumerate(values)]
    return [_argument(argument), *tests, _op(_RETURN, _ERROR | _EPERM), _op(_RETURN, _ALLOW)]


def _never(argument: int, values: Sequence[int]) -> list[bytes]:
    """Refuse when the argument is one of `values`, allow otherwise."""
    tests = [_op(_EQUAL, v, len(values) - i) for i, v in enumerate(values)]
    return [_argument(argument), *tests, _op(_RETURN, _ALLOW), _op(_RETURN, _ERROR | _EPERM)]


def _argument(index: int) -> bytes:
    return _op(_LOAD, 16 + 8 * index)  # the low word: both architectures are little-endian


def _program(machine: str, pid: int, programs: bool = False) -> bytes:
    """The filter for one architecture; `pid` may signal and limit itself, nobody else."""
    if machine not in ("x86_64", "aarch64"):
        raise OSError(_ENOSYS, f"no system call table for {machine}")
    arm = machine == "aarch64"
    clone, kill, tgkill = (220, 129, 131) if arm else (56, 62, 234)
    fcntl, ioctl, prctl = (25, 29, 167) if arm else (72, 16, 157)
    prlimit, affinity = (261, 122) if arm else (302, 203)
    steps = [_op(_LOAD, 4), _op(_EQUAL, 0xC00000B7 if arm else 0xC000003E, 1), _op(_RETURN, _KILL)]
    steps.append(_op(_LOAD, 0))
    if not arm:  # the x32 numbers are a second door to the same calls
        steps += [_op(_AT_LEAST, 0x40000000, 0, 1), _op(_RETURN, _ERROR | _EPERM)]
    for name, numbers in _DENIED.items():
        if numbers[arm] >= 0 and not (programs and name in _PROGRAMS):
            steps += _unless(numbers[arm], [_op(_RETURN, _ERROR | _EPERM)])
    # clone3 hides its flags in memory; glibc falls back to clone, where threads only may pass.
    steps += _unless(435, [_op(_RETURN, _ERROR | _ENOSYS)])
    allowed = _op(_ANY_BIT, 0x10000, 1)
    if programs:
        allowed = _op(_ANY_BIT, _NEW_NAMESPACE, 0, 1)
    thread = [_argument(0), allowed, _op(_RETURN, _ERROR | _EPERM)]
    steps += _unless(clone, [*thread, _op(_RETURN, _ALLOW)])
    steps += _unless(kill, _only(0, [pid])) + _unless(tgkill, _only(0, [pid]))
    steps += _unless(prlimit, _only(0, [0, pid])) + _unless(affinity, _only(0, [0]))
    steps += _unless(fcntl, _never(1, [8, 10, 15]))  # F_SETOWN, F_SETSIG, F_SETOWN_EX
    steps += _unless(ioctl, _never(1, [0x8901, 0x8902, 0x5412]))  # owners of sockets, TIOCSTI
    steps += _unless(prctl, _never(0, [1]))  # PR_SET_PDEATHSIG
    return b"".join([*steps, _op(_RETURN, _ALLOW)])


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
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(done.stdout.split()) if done.returncode == 0 else ()
