"""Candidates that need no compiler: their files are written down as they are."""

from __future__ import annotations

from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, canonical, digest_text
from epitaxy.toolchain import Availability, Build
from epitaxy.toolchains._files import written


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
        written(candidate, folder)
        return Build(ok=True, folder=str(folder), fingerprint=facts)

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Nothing: there is no code to look at."""
        return FrozenDict()
