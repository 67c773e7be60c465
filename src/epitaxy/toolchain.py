"""Toolchain: a language and its compiler or simulator. It never times and never judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
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


@record
class StandIn(Record):
    """How a candidate for a chip that is not here runs on this machine's CPU, for correctness.

    `name` says what runs it; `packages` are what it reads, `preload` modules that a worker's parent
    imports first, and `environment` variables that it has then.
    """

    name: str
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    environment: FrozenDict[str] = FrozenDict()
    compiled: bool = True
    """Whether the chip's own compiler built what it runs; else that is simulated alone."""


class Toolchain(Protocol):
    """What a backend must offer; `testing.ToolchainConformance` checks it.

    One that can build the same sources so that they trap on bounds and spoil what was never set
    offers `Harsh` too; the judge says of the others that its guard `bounds` did not run. It may
    have `sources`, patterns of the files that it starts from ("*.cpp"), by which a folder's
    toolchain is known, `headers` that its language has beside those of C++, and
    `artefacts(build)`, paths of what an export needs beside the module's text.
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


@dataclass(frozen=True)
class Variant:
    """Another build of the same sources, to learn from and never to judge.

    `flags` of the compiler come after the candidate's own; `edit` rewrites the compiler's assembly,
    and raises BadCandidate where it finds nothing to change. Builds are kept by `name`, which
    therefore says what differs.
    """

    name: str
    flags: tuple[str, ...] = ()
    edit: Callable[[str], str] | None = None


@runtime_checkable
class Workbench(Protocol):
    """What a toolchain offers beside whose builds can be taken apart: `epitaxy profile`."""

    def build_variant(
        self, candidate: Candidate, problem: Problem, cache: Path, variant: Variant
    ) -> Build:
        """As `build`, of the variant; the same sandbox, and a refusal is data."""

    def listing(self, build: Build) -> str:
        """Its machine code as `objdump -d -l` prints it; "" where that cannot be had."""


@runtime_checkable
class Resident(Protocol):
    """What a crossing toolchain offers beside whose builds run on the chip where it is."""

    def resident(self, chip: Chip) -> StandIn:
        """How what it builds runs on `chip` itself, which is here: as a stand-in, but real.

        `{folder}` in a variable is the build's folder; `packages` are what a confined worker reads.
        From now on builds leave there what a worker needs that may start no program.
        """


@runtime_checkable
class Crossing(Protocol):
    """What a toolchain offers beside that builds for chips that need not be here."""

    name: str
    language: str
    """What candidates are written in: proposers choose their writer by it."""

    def targets(self, chip: Chip) -> bool:
        """Whether it builds for `chip`."""

    def aim(self, chip: Chip) -> None:
        """Build for `chip` from now on. Raises BadInput when its facts do not suffice."""

    def stand_in(self) -> StandIn:
        """How what it builds runs where the chip is not."""

    def reduced(self, candidate: Candidate, problem: Problem, cache: Path) -> Build | None:
        """The same kernels for `problem`, a smaller one, made ready for the stand-in alone; None
        when the candidate has none. Raises BadCandidate where they differ in more than numbers.
        """


def aimed(name: str, chip: Chip) -> Any:
    """The toolchain of that name, which builds for `chip` from now on where it does so at all.

    Whoever builds asks for it each time: another machine of this process may have aimed it at
    another chip. Raises UnknownName, and BadInput as `aim` does.
    """
    from epitaxy.plugin import plugins

    found = plugins("toolchains").get(name)
    if isinstance(found, Crossing) and found.targets(chip):
        found.aim(chip)
    return found
