"""The zygote: imports torch once, then forks a worker whenever it is asked. It holds no secret.

Requests are JSON datagrams on a socket that only the broker has:
    ["fork", 0] with four descriptors   -> [pid]           (spec file, channel, errors, memory)
    ["reap", [pid, grace_s]]            -> [wait status]   (killed after the grace)
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any

REQUEST_LIMIT = 4096
"""Bytes of one request."""

PRELOAD = "EPITAXY_PRELOAD"
"""Variable with the modules, after torch, that are imported before the first fork."""
TROUBLE_LIMIT = 500
"""Characters of what the modules' TROUBLE say."""
_PDEATHSIG = 1


def serve(control: socket.socket) -> None:
    """Answer the broker until it hangs up."""
    children: set[int] = set()
    import torch

    torch.get_num_threads()
    troubles = []
    for name in filter(None, os.environ.get(PRELOAD, "").split(",")):
        with contextlib.suppress(ImportError):  # whoever needs it will say so
            troubles.append(getattr(importlib.import_module(name), "TROUBLE", ""))
    gc.collect()
    gc.freeze()
    threads = len(os.listdir("/proc/self/task"))
    trouble = "; ".join(filter(None, troubles))[:TROUBLE_LIMIT]
    told = [torch.__version__, threads, torch.get_num_threads(), trouble]
    control.send(json.dumps(told).encode())
    while True:
        request, passed, _, _ = socket.recv_fds(control, REQUEST_LIMIT, 4)
        if not request:
            break
        what, argument = json.loads(request)
        if what == "fork":
            pid = _fork(passed)
            children.add(pid)
            answer = pid
        else:
            child, grace_s = argument
            answer = _reap(child, grace_s) if child in children else -1
            children.discard(child)
        control.send(json.dumps([answer]).encode())


def _fork(passed: list[int]) -> int:
    pid = os.fork()
    if pid:
        for descriptor in passed:
            os.close(descriptor)
        return pid
    code = 1
    try:
        die_with_parent()
        _become(passed)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _become(passed: list[int]) -> None:
    """The child's life: read its spec from the first descriptor, then serve."""
    from epitaxy.worker import child

    with os.fdopen(passed[0], "r", encoding="utf-8") as file:
        file.seek(0)
        spec: dict[str, Any] = json.load(file)
    child.main(passed[1:], child.Spec.of(spec))


def _reap(pid: int, grace_s: float) -> int:
    """The child's wait status: its own when it ends within the grace, else it is killed."""
    until = time.monotonic() + grace_s
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends.

    For workers only: the signal comes when the parent's *thread* ends, and a zygote's parent
    may be any thread of the broker. The zygote ends when its socket closes.
    """
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
