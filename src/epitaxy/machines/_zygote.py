"""The broker's handle on a zygote: the process that has imported torch and forks workers."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.errors import MachineFault

START_LIMIT_S, ANSWER_LIMIT_S = 180.0, 30.0
_MEND = "run again; if it persists, run: epitaxy doctor"

TUNABLES = (
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:"
    "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=67108864"
)
"""Freed memory stays with the process, in huge pages: without it large outputs page-fault at
every call, and a kernel that writes into its own buffer would seem ten times as fast."""

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "CXX", "CC", "LD_LIBRARY_PATH", "TRITON_LIBCUDA_PATH")


def clean_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """All that a worker may see: no key, no token, no setting of ours."""
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "GLIBC_TUNABLES": TUNABLES,
        "HOME": str(home),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's own pool; threads do not survive a fork
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(_import_path()),
        "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor"),
        "TRITON_CACHE_DIR": str(home / "inductor" / "triton"),
        **extra,
    }


def _import_path() -> list[str]:
    """Where this package lies, and torch when Python would not find it by itself.

    HOME is not the user's in a worker, so packages of the user's own folder need naming.
    """
    found = [str(Path(__file__).parents[2])]
    spec = importlib.util.find_spec("torch")
    for folder in (spec and spec.submodule_search_locations) or ():
        parent = Path(folder).parent
        if not parent.is_relative_to(sys.prefix):
            found.append(str(parent))
    return found


class Zygote:
    """One zygote process. Thread-safe; `alive` turns false for good when it ends."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._log = open(os.memfd_create("epitaxy-log"), "w+b")  # noqa: SIM115 (closed by close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "epitaxy.worker", str(theirs.fileno())],
                    cwd="/",
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise MachineFault(f"cannot start a worker process: {error}", _MEND) from None
        self._control = ours
        self.torch, self.own_threads, self.torch_threads, self.trouble = self._answer(START_LIMIT_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def fork(self, spec: dict[str, Any], descriptors: list[int]) -> int:
        """A worker's pid. `descriptors`: channel, errors file, shared memory."""
        file = os.memfd_create("epitaxy-spec", os.MFD_CLOEXEC)
        try:
            with open(file, "w", encoding="utf-8", closefd=False) as out:
                json.dump(spec, out)
            return int(self._ask(["fork", 0], [file, *descriptors]))
        finally:
            os.close(file)

    def reap(self, pid: int, grace_s: float = 0.0) -> int:
        """Kill the worker, `grace_s` from now, and wait for it: its wait status.

        -1 when it is no child (any more).
        """
        return int(self._ask(["reap", [pid, grace_s]], []))

    def close(self) -> None:
        """End it and all its workers."""
        self._control.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._log.close()

    def _ask(self, request: list[Any], descriptors: list[int]) -> Any:
        with self._lock:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            except OSError as error:
                raise self._fault(str(error)) from None
            return self._answer(ANSWER_LIMIT_S)[0]

    def _answer(self, limit_s: float) -> list[Any]:
        self._control.settimeout(limit_s)
        try:
            answer = self._control.recv(4096)
        except TimeoutError:
            self._process.kill()
            raise self._fault(f"no answer in {limit_s:.0f} s") from None
        except OSError as error:
            raise self._fault(str(error)) from None
        if not answer:
            raise self._fault("it ended")
        return list(json.loads(answer))

    def _fault(self, what: str) -> MachineFault:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        return MachineFault(f"the process that starts workers failed: {what}{last}", _MEND)
