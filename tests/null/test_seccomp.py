"""What the filter of system calls says, for both architectures, by a reading of its program."""

from __future__ import annotations

import struct

import pytest

from epitaxy import seccomp

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
PID = 4321
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers of the kernel's tables: (x86-64, arm64).
CALLS = {
    "read": (0, 63), "mmap": (9, 222), "futex": (202, 98), "exit_group": (231, 94),
    "socket": (41, 198), "execve": (59, 221), "ptrace": (101, 117), "clone": (56, 220),
    "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261), "prctl": (157, 167),
    "sched_setaffinity": (203, 122), "fcntl": (72, 25), "ioctl": (16, 29), "fchmodat": (268, 53),
    "memfd_create": (319, 279), "utimensat": (280, 88), "setxattr": (188, 5), "clone3": (435, 435),
    "io_uring_setup": (425, 425), "setxattrat": (463, 463), "landlock": (444, 444),
    "inotify_add_watch": (254, 27), "openat": (257, 56), "rt_sigaction": (13, 134),
    "openat2": (437, 437),
}  # fmt: skip
THREAD = 0x3D0F00  # what glibc passes for a thread


def verdict(
    machine: str, call: str | int, *arguments: int, programs: bool = False, arch: int = 0,
    devices: bool = False,
):  # fmt: skip
    """The action of the filter: a small machine for classic BPF."""
    number = call if isinstance(call, int) else CALLS[call][machine == "aarch64"]
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, arch or ARCHITECTURES[machine], 0, *words)
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine, PID, programs, devices)))
    at = value = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("<I", data, operand)[0]
        elif code == 0x54:
            value &= operand
        elif code == 0x15:
            at += if_true if value == operand else if_false
        elif code == 0x35:
            at += if_true if value >= operand else if_false
        elif code == 0x06:
            return operand
        else:
            pytest.fail(f"an unknown instruction {code:#x}")


BOTH = pytest.mark.parametrize("machine", ARCHITECTURES)


@BOTH
@pytest.mark.parametrize("call", ["read", "mmap", "futex", "exit_group", "openat", "rt_sigaction"])
def test_what_a_kernel_needs_is_allowed(machine, call):
    assert verdict(machine, call) == ALLOW


@BOTH
@pytest.mark.parametrize(
    "call",
    ["socket", "execve", "ptrace", "memfd_create", "fchmodat", "utimensat", "setxattr",
     "io_uring_setup", "inotify_add_watch"],
)  # fmt: skip
def test_what_no_kernel_needs_is_refused(machine, call):
    assert verdict(machine, call) == EPERM


@BOTH
def test_threads_pass_and_processes_do_not(machine):
    assert verdict(machine, "clone", THREAD) == ALLOW
    for flags in (17, 0x4111, THREAD & ~0x400, THREAD & ~0x200, THREAD & ~0x10000,
                  THREAD | 0x10000000, THREAD | 0x20000000, THREAD | 0x40000000):  # fmt: skip
        assert verdict(machine, "clone", flags) == EPERM
    assert verdict(machine, "clone3") == ENOSYS


@BOTH
def test_a_compiler_may_start_its_parts_but_no_namespace(machine):
    assert verdict(machine, "execve", programs=True) == ALLOW
    assert verdict(machine, "fchmodat", programs=True) == ALLOW
    assert verdict(machine, "clone", 17, programs=True) == ALLOW
    assert verdict(machine, "clone", 17 | 0x10000000, programs=True) == EPERM
    assert verdict(machine, "socket", programs=True) == EPERM


@BOTH
def test_only_who_controls_devices_may_make_files_in_memory_that_nobody_executes(machine):
    assert verdict(machine, "memfd_create", 0, 9, devices=True) == ALLOW
    assert verdict(machine, "memfd_create", 0, 1, devices=True) == EPERM
    assert verdict(machine, "memfd_create", 0, 9) == EPERM
    assert verdict(machine, "execve", devices=True) == EPERM
    assert verdict(machine, "read", devices=True) == ALLOW


@BOTH
def test_a_process_reaches_itself_alone(machine):
    for call in ("kill", "tgkill", "prlimit64"):
        assert verdict(machine, call, PID) == ALLOW
        assert verdict(machine, call, PID + 1) == EPERM
        assert verdict(machine, call, 2**32 - 1) == EPERM
    assert verdict(machine, "prlimit64", 0) == ALLOW
    assert verdict(machine, "kill", 0) == EPERM
    assert verdict(machine, "sched_setaffinity", 0) == ALLOW
    assert verdict(machine, "sched_setaffinity", PID + 1) == EPERM
    assert verdict(machine, "prctl", 15) == ALLOW  # a name for a thread
    assert verdict(machine, "prctl", 1) == EPERM
    assert verdict(machine, "fcntl", 3, 3) == ALLOW
    assert verdict(machine, "fcntl", 3, 8) == EPERM
    assert verdict(machine, "ioctl", 3, 0x5412) == EPERM


@BOTH
def test_opening_may_not_truncate(machine):
    assert verdict(machine, "openat", 3, 0, 0x80000) == ALLOW
    assert verdict(machine, "openat", 3, 0, 0x200) == EPERM
    assert verdict(machine, "openat", 3, 0, 0x241, programs=True) == ALLOW
    assert verdict(machine, "openat2") == ENOSYS
    if machine == "x86_64":
        assert verdict(machine, 2, 0, 0x200) == EPERM
        assert verdict(machine, 85) == EPERM  # creat


@BOTH
def test_calls_that_were_not_known_do_not_exist(machine):
    assert verdict(machine, "setxattrat") == ENOSYS
    assert verdict(machine, 100_000) == ENOSYS
    assert verdict(machine, 0x40000000 | 41) == ENOSYS  # the x32 door


@BOTH
def test_another_architecture_is_no_way_round(machine):
    assert verdict(machine, "read", arch=0x40000003) == KILL  # i386


def test_an_architecture_without_a_table_is_said():
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program("riscv64", PID)
