"""A library of several units: those that changed are compiled, side by side; the others are kept.

Units are preprocessed where all files of the candidate are, as its export is compiled. What comes
out is compiled in a folder of its own: the object is of that text alone, and is kept by its digest
with those of the command, the compiler and the CPU.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from epitaxy.record import canonical, digest_text

OBJECT_BYTES, MOST_KEPT = 4 << 20, 1000
"""Largest object that is kept (those of four regions have up to 1 MiB), and how many are."""


class Run(Protocol):
    """Runs `command` in `folder` for at most `timeout_s`: exit status, None when late; what it
    said. Files of all `within` count together."""

    def __call__(
        self, command: list[str], folder: Path, timeout_s: float, within: Path | None = None
    ) -> tuple[int | None, str]: ...


EACH_BYTES = 2 << 30
"""Memory for each compiler that runs at once: most of what one takes for a large unit."""


def _at_once() -> int:
    """Compilers that this machine has processors and memory for."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return processors
    return max(1, min(processors, memory // EACH_BYTES))


AT_ONCE = _at_once()
_turns = threading.BoundedSemaphore(AT_ONCE)
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


@dataclass(frozen=True)
class _Made:
    """An object: its place, how its compilation ended, what was said, whether it is a kept one."""

    place: Path
    status: int | None
    said: str
    old: bool = False


@dataclass
class Units:
    """Compiles `units` of the candidate whose files lie in `folder`, by `run`, within `left_s`
    seconds of all compilers together: waiting for others, and what is kept, count nothing.

    `words`: compiler and flags. Objects of which nothing was said are kept in `store`, by `facts`
    (what else they depend on) too.
    """

    words: Sequence[str]
    units: Sequence[str]
    facts: Mapping[str, str]
    folder: Path
    store: Path
    run: Run
    left_s: float
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def library(self, name: str) -> tuple[int | None, str]:
        """Make the library `name` in `folder`, as `run` tells it."""
        # A name that no candidate's file can have.
        own = Path(tempfile.mkdtemp(prefix="units-", dir=self.folder))
        try:
            status, log, old = self._linked(name, own, use_kept=True)
            if status != 0 and old:  # perhaps a kept object is spoiled: the sources decide
                status, log, _ = self._linked(name, own, use_kept=False)
        finally:
            shutil.rmtree(own, ignore_errors=True)
        return status, log

    def _linked(self, name: str, own: Path, use_kept: bool) -> tuple[int | None, str, bool]:
        """As `library`, and whether kept objects were linked."""
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            numbers = range(len(self.units))
            told = list(pool.map(lambda n: self._object(n, own, use_kept), numbers))
        log = "\n".join(made.said for made in told if made.said)
        ended = [made.status for made in told if made.status != 0]
        if ended:
            return next((status for status in ended if status is not None), None), log, False
        objects = [str(made.place.relative_to(self.folder)) for made in told]
        made = self._timed([*self.words, *objects, "-o", name], self.folder)
        log = "\n".join(text for text in (log, made.said) if text)
        return made.status, log, any(made.old for made in told)

    def _object(self, number: int, own: Path, use_kept: bool) -> _Made:
        """The object of a unit."""
        alone = own / str(number)
        alone.mkdir(exist_ok=True)
        text, place = alone / "unit.ii", alone / "unit.o"
        words = [word for word in self.words if word != "-shared"]
        asked = [*words, "-E", self.units[number], "-o", str(text.relative_to(self.folder))]
        read = self._timed(asked, self.folder)
        if read.status != 0:
            return read
        what = {
            "text": text.read_bytes().decode("latin-1"), "words": words, "facts": dict(self.facts),
        }  # fmt: skip
        kept = self.store / f"{digest_text(canonical(what))}.o"
        with _alone(str(kept)):
            if use_kept and _taken(kept, place):
                text.unlink()
                return _Made(place, 0, "", old=True)
            made = self._timed([*words, "-pipe", "-c", text.name, "-o", place.name], alone, own)
            text.unlink()
            if made.status == 0 and not (made.said or read.said):
                _keep(place, kept)
        said = "\n".join(text for text in (read.said, made.said) if text)
        return _Made(place, made.status, said)

    def _timed(self, command: list[str], folder: Path, within: Path | None = None) -> _Made:
        """Run a command when it is its turn; late at once when the time is spent."""
        with _turns:
            with self._lock:
                left_s = self.left_s
            if left_s <= 0:
                return _Made(folder, None, "")
            start_s = time.monotonic()
            status, said = self.run(command, folder, left_s, within)
            with self._lock:
                self.left_s -= time.monotonic() - start_s
        return _Made(folder, status, said)


def _taken(kept: Path, place: Path) -> bool:
    """Copy a kept object, which is now of those used last; False where there is none."""
    try:
        shutil.copyfile(kept, place)
        os.utime(kept)
    except OSError:
        return False
    return True


def _keep(place: Path, kept: Path) -> None:
    """Put an object into its store, whole or not at all; the oldest make room."""
    if place.stat().st_size > OBJECT_BYTES:
        return
    name = ""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(place.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, kept)
        with _guard:
            _thin_out(kept.parent)
    except OSError:  # it only saves time
        with contextlib.suppress(OSError):
            os.unlink(name)


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
