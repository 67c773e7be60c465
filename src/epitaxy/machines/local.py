"""The machine that Epitaxy runs on: fresh, confined torch processes timed from outside."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from epitaxy import sandbox
from epitaxy.chip import Chip
from epitaxy.errors import BadEnvironment, BadInput, Cancelled, UnknownName
from epitaxy.machine import Job
from epitaxy.machines import _activity, _fingerprint, _mkl, _realtime
from epitaxy.machines._cold import Evictor
from epitaxy.machines._jail import jail
from epitaxy.machines._worker import Limits, LocalWorker
from epitaxy.machines._zygote import Zygote, clean_environment
from epitaxy.plugin import plugins
from epitaxy.precision import precision
from epitaxy.problem import Problem
from epitaxy.quiet import Activity
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability
from epitaxy.worker.zygote import PRELOAD


def plugin() -> LocalMachine:
    """The machine named `local`."""
    return LocalMachine()


def state_folder() -> Path:
    """`$EPITAXY_HOME`, or ~/.cache/epitaxy. Raises BadEnvironment where its path has spaces."""
    folder = Path(os.environ.get("EPITAXY_HOME") or "~/.cache/epitaxy").expanduser().absolute()
    if set(str(folder)) & set(" \t\n:;"):
        # LD_PRELOAD and Inductor's commands are lists of words: the strongest baselines would fail.
        raise BadEnvironment(
            f"baselines cannot be built in {str(folder)!r}, whose path has a space or colon",
            "set EPITAXY_HOME to a folder without",
        )
    return folder


class LocalMachine:
    """Workers on this machine.

    `trust` runs candidates unconfined. `threads` 0 means PyTorch's own choice: one per core.
    `condition` says what calls find in the caches: "warm" or "cold" (`verdict.CONDITIONS`).
    """

    name = "local"
    device = "cpu"
    """Where calls are made: "cpu", or PyTorch's name of a GPU."""
    probed = True
    """Whether a probe measures its chip."""
    preload: tuple[str, ...] = ()
    """Modules that the parent of candidates imports first."""
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables that workers have besides."""

    def __init__(
        self,
        *,
        trust: bool = False,
        threads: int = 0,
        home: Path | None = None,
        limits: Limits | None = None,
        condition: str = "warm",
    ) -> None:
        self.trust = trust
        self.threads = threads
        self.home = home or state_folder()
        self.limits = limits or Limits()
        self.condition = condition
        self.realtime = _realtime.permitted()
        self._zygotes: dict[str, Zygote] = {}
        self._lock = threading.RLock()
        self._baselines: dict[str, Availability] = {}
        self._last: LocalWorker | None = None
        self._live: set[int] = set()
        self._candidates: dict[int, LocalWorker] = {}
        self._stopping = threading.Lock()
        self._stopped = False
        self._ended_s = 0.0
        self._evictor: Evictor | None = None
        atexit.register(self.close)

    @property
    def spare_cores(self) -> int:
        """Cores that no kernel uses: builds may run on them while others are measured."""
        cores = len(os.sched_getaffinity(0))
        return max(0, cores - self.threads) if self.threads else 0

    def chip(self) -> Chip:
        """This machine's chip, measured when a probe has run here."""
        from epitaxy.probe import measured_chip

        return measured_chip()

    def fingerprint(self) -> FrozenDict[str]:
        """CPU, kernel, glibc, Python, torch, compiler, allocator settings, scheduling.

        Also the number of threads and the condition of the caches where they are not the default:
        times under others do not compare.
        """
        own = {"threads": str(self.threads)} if self.threads else {}
        own |= {"condition": self.condition} if self.condition != "warm" else {}
        return FrozenDict[str]({**_fingerprint.fingerprint(self.realtime), **own})

    def activity(self) -> Activity | None:
        """What the processors have done so far, and how much of it for us."""
        with self._lock:
            pids = [*self._live, *(z.pid for z in self._zygotes.values() if z.alive)]
            return _activity.activity(pids, self._ended_s)

    def condition_caches(self) -> None:
        """Just before the clock starts: empty the caches, where calls shall find them cold."""
        if self.condition == "cold":
            self._evictor = self._evictor or Evictor()
            self._evictor.evict()

    def baselines(self) -> list[str]:
        """Names of the baselines that run here; `unavailable` says why the others do not."""
        return [name for name, found in self._known_baselines().items() if found.ok]

    def unavailable(self) -> dict[str, Availability]:
        """The baselines that do not run here, or would only repeat another, and why."""
        return {name: found for name, found in self._known_baselines().items() if not found.ok}

    def _known_baselines(self) -> dict[str, Availability]:
        with self._lock:
            if not self._baselines:
                self._baselines = self._find_baselines()
            return self._baselines

    def _find_baselines(self) -> dict[str, Availability]:
        found = self._baselines_here()
        if _mkl.applies():
            fast = _mkl.effect(self)
            for name in list(found):
                if plugins("baselines").get(name).torch and found[name].ok:
                    found[f"{name}+mkl"] = fast
        return found

    def _baselines_here(self) -> dict[str, Availability]:
        """Those that are for this device: most say nothing, and are for the CPU."""
        kinds = {n: plugins("baselines").get(n) for n in plugins("baselines").names()}
        return {
            name: kind.available()
            for name, kind in kinds.items()
            if self.device in getattr(kind, "devices", ("cpu",))
        }

    @contextlib.contextmanager
    def start(self, job: Job) -> Iterator[LocalWorker]:
        """A worker for `job`, ended when the block ends.

        Raises MachineFault when no process can be started, NoSandbox when a candidate cannot be
        confined here and is not trusted.
        """
        worker = self.open(job)
        try:
            yield worker
        finally:
            worker.close()

    def open(self, job: Job) -> LocalWorker:
        """As `start`, for callers that close the worker themselves."""
        if bool(job.folder) == bool(job.baseline):
            raise BadInput("a job names a folder or a baseline", "set exactly one of the two")
        name, _, flavour = job.baseline.partition("+")
        if name:
            plugins("baselines").get(name)  # an unknown name is the caller's mistake
        zygote = self.zygote(flavour, self._preload(name))
        spec = {
            "source": job.problem.source,
            "entry": job.problem.entry,
            "folder": job.folder and str(Path(job.folder).absolute()),
            "baseline": name,
            "threads": job.threads or self.threads or zygote.torch_threads,
            "environment": dict(job.environment),
            "jail": None if self._open(job) else self._jail(job),
            "without": list(job.without),
            "fenced": job.fenced,
            "traced": job.traced,
            "device": self.device,
            "room_bytes": self.room_bytes(job),
            "rounded": precision(job.problem.policy.precision).narrow,
        }
        worker = LocalWorker(self, zygote, job, spec)
        with self._lock:
            self._live.add(worker.pid)
        if job.folder:
            self._candidates[worker.pid] = worker
            if self._stopped:
                worker.close()
                raise Cancelled("it was cancelled", "begin it again")
        return worker

    def stop(self) -> None:
        """End the processes of all candidates now, and keep none of theirs until `resume`:
        somebody cancels what is being measured. Baselines stay. From any thread."""
        with self._stopping:
            self._stopped = True
            for worker in list(self._candidates.values()):
                worker.kill()

    def resume(self) -> None:
        """Candidates may run again."""
        self._stopped = False

    def require(self) -> None:
        """Raises NoSandbox when candidates cannot be confined here and are not trusted."""
        if not self.trust:
            sandbox.require()

    def room_bytes(self, job: Job) -> int:
        """How much of a device's own memory is for `job`; 0 for no bound."""
        return 0

    def _open(self, job: Job) -> bool:
        return bool(job.baseline) or self.trust or "sandbox" in job.without

    def _jail(self, job: Job) -> dict[str, Any]:
        sandbox.require()
        return self._jail_of(str(Path(job.folder).absolute()), job.problem)

    def _jail_of(self, folder: str, problem: Problem) -> dict[str, Any]:
        return jail(folder, problem)

    def _preload(self, baseline: str) -> tuple[str, ...]:
        """Modules that a baseline's zygote imports: those of all baselines, so that one serves."""
        if not baseline:
            return self.preload
        kinds = plugins("baselines")
        if not getattr(kinds.get(baseline), "preload", ()):
            return ()
        found = (getattr(kinds.get(name), "preload", ()) for name in kinds.names())
        return tuple(dict.fromkeys(module for names in found for module in names))

    def zygote(self, flavour: str = "", preload: tuple[str, ...] = ()) -> Zygote:
        """The running zygote of a flavour, "" or "mkl", with modules; a dead one is replaced."""
        with self._lock:
            key = f"{flavour} {','.join(preload)}"
            known = self._zygotes.get(key)
            if known is not None and known.alive:
                return known
            if known is not None:
                known.close()
            if flavour not in ("", "mkl"):
                raise UnknownName.of("flavour of a baseline", flavour, ["mkl"])
            extra = {"LD_PRELOAD": str(_mkl.build(self.home))} if flavour else {}
            # A pool of compiler processes, begun by an import, would outlive its use.
            extra |= {PRELOAD: ",".join(preload), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            extra |= self.environment
            self._zygotes[key] = Zygote(clean_environment(self.home, extra))
            return self._zygotes[key]

    @contextlib.contextmanager
    def turn(self, worker: LocalWorker) -> Iterator[None]:
        """One burst at a time, and only when the previous worker's threads sleep."""
        with self._lock:
            previous = self._last
            if previous is not None and previous is not worker:
                previous.rest()
            self._last = worker
            yield

    def forget(self, worker: LocalWorker) -> None:
        """A worker ends: nobody has to wait for it."""
        with self._stopping:
            self._candidates.pop(worker.pid, None)
        with self._lock:
            if worker.pid in self._live:
                self._live.discard(worker.pid)
                self._ended_s += _realtime.processor_s(worker.pid)
            if self._last is worker:
                self._last = None

    def close(self) -> None:
        """End every process that was started."""
        with self._lock:
            for zygote in self._zygotes.values():
                zygote.close()
            self._zygotes.clear()
