"""`python as_nobody.py STAGE PATH... -- PROGRAM ARGUMENT...`: as root, run it as a plain user.

In a mount namespace of its own, so that folders which only root may enter (a Python below /root,
say) can be opened for that user: whatever lies there besides the listed paths is gone there.
STAGE is an empty folder to do this in.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys

USER = 65534
NEW_MOUNTS, PRIVATE, BIND, RECURSIVE = 0x20000, 1 << 18, 1 << 12, 1 << 14
_LIBC = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    words = [word.encode() for word in (source, target, kind)]
    if _LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def blocked(path: str) -> str:
    """The first folder above `path` that a plain user cannot enter; "" when there is none."""
    parts = os.path.realpath(path).split("/")[1:-1]
    for i in range(1, len(parts) + 1):
        folder = "/" + "/".join(parts[:i])
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return ""


def open_up(stage: str, paths: list[str]) -> None:
    """Let everybody reach `paths`, for this process and its children."""
    if _LIBC.unshare(NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", "", PRIVATE | RECURSIVE)
    kept: dict[str, list[tuple[str, str]]] = {}
    for number, path in enumerate(sorted({os.path.realpath(p) for p in paths})):
        if folder := blocked(path):
            place = f"{stage}/{number}"
            os.mkdir(place)
            mount(path, place, "", BIND | RECURSIVE)
            kept.setdefault(folder, []).append((place, path))
    for folder, places in kept.items():
        mount("none", folder, "tmpfs", 0, "mode=755")
        for place, path in places:
            os.makedirs(path, exist_ok=True)
            mount(place, path, "", BIND | RECURSIVE)


if __name__ == "__main__":
    split = sys.argv.index("--")
    open_up(sys.argv[1], sys.argv[2:split])
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    os.execv(sys.argv[split + 1], sys.argv[split + 1 :])
