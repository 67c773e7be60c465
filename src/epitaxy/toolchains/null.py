"""Candidates that need no compiler: their files are written down as they are."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.errors import BadEnvironment
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, canonical, digest_text
from epitaxy.toolchain import Availability, Build


def plugin() -> Null:
    """The `null` toolchain."""
    return Null()


class Null:
    """Writes a candidate's files into a folder named by digest, and compiles nothing."""

    name = "null"
    runs = "null"

    def available(self) -> Availability:
        """It always works."""
        return Availability(ok=True, detail="writes files, compiles nothing")

    def build(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """The files in `cache/<digest>`; a failed Build when the entry is missing or empty.

        Raises BadEnvironment when the cache cannot be written.
        """
        facts = FrozenDict[str](toolchain=self.name)
        if not candidate.files.get(candidate.entry, "").strip():
            log = f"error: {candidate.entry} is missing or empty"
            return Build(ok=False, folder="", log=log, fingerprint=facts)
        text = canonical(
            {"toolchain": self.name, "problem": problem.digest, "of": candidate.digest}
        )
        folder = Path(cache, digest_text(text))
        try:
            if not folder.is_dir():
                _write(candidate, folder)
        except OSError as error:
            raise BadEnvironment(
                f"cannot write the build cache {cache}: {error.strerror or error}",
                "free space there or set EPITAXY_HOME to a writable folder",
            ) from None
        return Build(ok=True, folder=str(folder), fingerprint=facts)

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Nothing: there is no code to look at."""
        return FrozenDict()


def _write(candidate: Candidate, folder: Path) -> None:
    """Write beside `folder`, then rename, so that half a candidate is never seen."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name[:12]}-", dir=folder.parent))
    try:
        for name, text in candidate.files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        made.chmod(0o755)
        _settle(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _settle(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same files
            raise
