"""Toolchain: a language and its compiler or simulator. It never times and never judges."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from epitaxy.candidate import Candidate
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, Record, record


@record
class Availability(Record):
    """Whether a toolchain works here: `detail` says what was found, `mend` how to get it."""

    ok: bool
    detail: str
    mend: str = ""


@record
class Build(Record):
    """A built candidate: a folder that a worker can load, or the compiler's refusal in `log`.

    `folder` holds `model_new.py` (defines ModelNew) and what it needs. `fingerprint` names
    compiler, version and flags.
    """

    ok: bool
    folder: str
    log: str = ""
    fingerprint: FrozenDict[str] = FrozenDict()
    seconds: float = 0.0


class Toolchain(Protocol):
    """What a backend must offer; `testing.ToolchainConformance` checks it.

    One that can build the same sources so that they trap on bounds and spoil what was never set
    offers `Harsh` too; the judge says of the others that its guard `bounds` did not run.
    """

    name: str
    runs: str
    """Where a built candidate runs: "torch" (a torch worker), "null" (nowhere)."""

    def available(self) -> Availability:
        """Whether it works here, cheaply, without raising."""

    def build(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """Build into `cache` (by digest; a second call is free). A refusal is data."""

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Static metrics of a built candidate (may be empty)."""


@runtime_checkable
class Harsh(Protocol):
    """What a toolchain may offer beside."""

    def build_harsh(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """Build so that an index out of its array traps and variables never set are spoiled."""
