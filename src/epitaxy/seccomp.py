"""The system calls that a confined process may make, as a program for the kernel.

A classic BPF program over (number, architecture, address, six arguments) refuses what a kernel has
no use for: sockets, processes, programs, tracing, mounts, others' scheduling, and what Landlock
leaves open: modes, owners, times and attributes of files, watching them. Calls newer than those
known here do not exist for the process. Sources: the kernel's
Documentation/userspace-api/seccomp_filter.rst and the system call tables of x86-64 and arm64.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_EPERM, _ENOSYS = 1, 38
_NEWEST = 462
"""mseal, of Linux 6.10; the numbers are the same everywhere from 424 on."""

_THREAD = 0x10F00
"""CLONE_VM, FS, FILES, SIGHAND and THREAD: a thread that shares all. One with a table of
descriptors of its own could hold many times the permitted files."""
_NEW_NAMESPACE = 0x7E020000
"""Any CLONE_NEW flag of clone(2)."""

# name: (x86-64, arm64); -1 where an architecture has none.
_DENIED = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
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
    "io_setup": (206, 0), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106),
    "fanotify_init": (300, 262), "inotify_init": (253, -1), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27), "flock": (73, 32),
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "creat": (85, -1), "sync": (162, 81), "syncfs": (306, 267),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "clock_settime": (227, 112),
    "settimeofday": (164, 170), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161),
    "setdomainname": (171, 162), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "vhangup": (153, 58), "personality": (135, 92),
    "modify_ldt": (154, -1), "iopl": (172, -1), "ioperm": (173, -1), "syslog": (103, 116),
}  # fmt: skip

_FOR_PROGRAMS = frozenset(
    ["execve", "fork", "vfork", "chmod", "fchmod", "fchmodat", "fchmodat2", "creat"]
)
"""What a compiler needs besides: it runs its parts, and marks what it links as executable."""

_O_TRUNC = 0x200
_NOEXEC_SEAL = 8
"""MFD_NOEXEC_SEAL of memfd_create(2)."""
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def program(machine: str, pid: int, programs: bool = False, devices: bool = False) -> bytes:
    """The filter for an architecture; process `pid` may signal and limit itself, nobody else.

    `programs` permits starting processes and programs, `devices` files in memory that nobody can
    execute, without which NVIDIA's driver 570 does not start CUDA (error 304; NVIDIA/OpenShell,
    issue 1696 and pull request 1702). Raises OSError (ENOSYS) for an
    architecture without a table.
    """
    if machine not in ("x86_64", "aarch64"):
        raise OSError(_ENOSYS, f"no system call table for {machine}")
    arm = machine == "aarch64"
    clone, kill, tgkill = (220, 129, 131) if arm else (56, 62, 234)
    fcntl, ioctl, prctl = (25, 29, 167) if arm else (72, 16, 157)
    prlimit, affinity = (261, 122) if arm else (302, 203)
    openat, open_ = (56, 0) if arm else (257, 2)
    steps = [_op(_LOAD, 4), _op(_EQUAL, 0xC00000B7 if arm else 0xC000003E, 1), _op(_RETURN, _KILL)]
    steps.append(_op(_LOAD, 0))
    # On x86-64 this also shuts the x32 numbers, a second door to the same calls.
    steps += [_op(_AT_LEAST, _NEWEST + 1, 0, 1), _op(_RETURN, _ERROR | _ENOSYS)]
    if devices:
        look = [_argument(1), _op(_AND, _NOEXEC_SEAL), _op(_EQUAL, _NOEXEC_SEAL, 1)]
        deny = [_op(_RETURN, _ERROR | _EPERM), _op(_RETURN, _ALLOW)]
        steps += _unless(_DENIED["memfd_create"][arm], [*look, *deny])
    for name, numbers in _DENIED.items():
        if numbers[arm] >= 0 and not (programs and name in _FOR_PROGRAMS):
            steps += _unless(numbers[arm], [_op(_RETURN, _ERROR | _EPERM)])
    # clone3 and openat2 hide their flags in memory; glibc falls back to clone and openat.
    for hidden in (435, 437):
        steps += _unless(hidden, [_op(_RETURN, _ERROR | _ENOSYS)])
    # Opening to read may truncate, and the first two Landlocks do not see it.
    for number, argument in ((openat, 2), (open_, 1)):
        if number and not programs:
            look = [_argument(argument), _op(_AND, _O_TRUNC), _op(_EQUAL, 0, 1)]
            steps += _unless(number, [*look, _op(_RETURN, _ERROR | _EPERM), _op(_RETURN, _ALLOW)])
    mask, wanted = (_NEW_NAMESPACE, 0) if programs else (_NEW_NAMESPACE | _THREAD, _THREAD)
    wish = [_argument(0), _op(_AND, mask), _op(_EQUAL, wanted, 1)]
    steps += _unless(clone, [*wish, _op(_RETURN, _ERROR | _EPERM), _op(_RETURN, _ALLOW)])
    steps += _unless(kill, _only(0, [pid])) + _unless(tgkill, _only(0, [pid]))
    steps += _unless(prlimit, _only(0, [0, pid])) + _unless(affinity, _only(0, [0]))
    # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
    steps += _unless(fcntl, _never(1, [8, 10, 15, 1024, 1026]))
    steps += _unless(ioctl, _never(1, [0x8901, 0x8902, 0x5412]))  # owners of sockets, TIOCSTI
    steps += _unless(prctl, _never(0, [1]))  # PR_SET_PDEATHSIG
    return b"".join([*steps, _op(_RETURN, _ALLOW)])


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
