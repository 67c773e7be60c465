"""A library of several units: those that changed are compiled, side by side; the others are kept.

A unit is compiled in a folder that holds it and the headers alone: its object is of nothing else,
and is kept by the digest of these, the command, the compiler and the CPU.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from epitaxy.record import canonical, digest_text
from epitaxy.toolchains._files import write_files

OBJECT_BYTES, MOST_KEPT = 4 << 20, 1000
"""Largest object that is kept (those of four regions have up to 1 MiB), and how many are."""


class Run(Protocol):
    """Runs `command` in `folder` for at most `timeout_s`: exit status, None when late; what it
    said. Files of all `within` count together."""

    def __call__(
        self, command: list[str], folder: Path, timeout_s: float, within: Path | None = None
    ) -> tuple[int | None, str]: ...


PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
_turns = threading.BoundedSemaphore(PROCESSORS)
_guard = threading.Lock()
_making: dict[str, tuple[threading.Lock, int]] = {}
"""Objects that are being made, and how many want each."""


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    """Whoever wants the same waits, and finds it made."""
    with _guard:
        lock, users = _making.get(what, (threading.Lock(), 0))
        _making[what] = (lock, users + 1)
    try:
        with lock:
            yield
    finally:
        with _guard:
            lock, users = _making.pop(what)
            if users > 1:
                _making[what] = (lock, users - 1)


def apart(sources: Mapping[str, str]) -> bool:
    """Whether there are several units, and none is named in another file."""
    units = [name for name in sources if name.endswith(".cpp")]
    named = [u for u in units if any(u in text for name, text in sources.items() if name != u)]
    return len(units) > 1 and not named


@dataclass(frozen=True)
class _Made:
    """An object: its place, how its compilation ended, what was said, whether it is a kept one."""

    place: Path
    status: int | None
    said: str
    old: bool


@dataclass(frozen=True)
class Units:
    """Compiles `sources` with `words` (compiler and flags) in subfolders of `folder`, by `run`.

    Objects of which the compiler said nothing are kept in `store`, by `facts` (what else they
    depend on) too.
    """

    words: Sequence[str]
    sources: Mapping[str, str]
    facts: Mapping[str, str]
    folder: Path
    store: Path
    run: Run

    def library(self, name: str, limit_s: float) -> tuple[int | None, str]:
        """Make the library `name` in `folder` within `limit_s` seconds, as `run` tells it."""
        until_s = time.monotonic() + limit_s
        status, log, old = self._made(name, until_s, use_kept=True)
        if status != 0 and old:  # perhaps a kept object is spoiled: the sources decide
            status, log, _ = self._made(name, until_s, use_kept=False)
        shutil.rmtree(self.folder / "units", ignore_errors=True)
        return status, log

    def _made(self, name: str, until_s: float, use_kept: bool) -> tuple[int | None, str, bool]:
        """As `library`, and whether kept objects were used."""
        units = [unit for unit in self.sources if unit.endswith(".cpp")]
        with ThreadPoolExecutor(max_workers=PROCESSORS) as pool:
            told = list(pool.map(lambda unit: self._object(unit, until_s, use_kept), units))
        log = "\n".join(made.said for made in told if made.said)
        status = next((made.status for made in told if made.status != 0), 0)
        if status == 0:
            objects = [str(made.place) for made in told]
            left_s = max(1.0, until_s - time.monotonic())
            status, said = self.run([*self.words, *objects, "-o", name], self.folder, left_s)
            log = "\n".join(text for text in (log, said) if text)
        return status, log, any(made.old for made in told)

    def _object(self, unit: str, until_s: float, use_kept: bool) -> _Made:
        files = {n: t for n, t in self.sources.items() if n == unit or not n.endswith(".cpp")}
        what = {"unit": unit, "files": files, "words": list(self.words), "facts": self.facts}
        kept = self.store / f"{digest_text(canonical(what))}.o"
        place = Path("units", unit, Path(unit).with_suffix(".o").name)
        folder, made = self.folder / "units" / unit, self.folder / place
        write_files(folder, files)
        with _alone(str(kept)):
            if use_kept and _taken(kept, made):
                return _Made(place, 0, "", old=True)
            with _turns:
                left_s = max(0.1, until_s - time.monotonic())
                command = [*self.words, "-c", unit, "-o", made.name]
                status, said = self.run(command, folder, left_s, self.folder)
            if status == 0 and not said:
                self._keep(made, kept)
            return _Made(place, status, said, old=False)

    def _keep(self, made: Path, kept: Path) -> None:
        """Put an object into the store, whole or not at all; the oldest make room."""
        if made.stat().st_size > OBJECT_BYTES:
            return
        self.store.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.store)
        with os.fdopen(handle, "wb") as file:
            file.write(made.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, kept)
        with _guard:
            _thin_out(self.store)


def _taken(kept: Path, made: Path) -> bool:
    """Copy a kept object, which is now of those used last; False where there is none."""
    try:
        shutil.copyfile(kept, made)
        os.utime(kept)
    except OSError:
        return False
    return True


def _thin_out(store: Path) -> None:
    """Remove the half that was used longest ago where there are too many."""
    with os.scandir(store) as entries:
        found = [Path(entry.path) for entry in entries]
    if len(found) <= MOST_KEPT:
        return
    ages = {}
    for path in found:
        with contextlib.suppress(OSError):  # another process was first
            ages[path] = path.stat().st_mtime
    for path in sorted(ages, key=ages.__getitem__)[: len(ages) // 2]:
        with contextlib.suppress(OSError):
            path.unlink()
