"""A chip that is not here: this machine lends its CPU to the toolchain's stand-in.

`chip()` is the shipped one. There is no clock and there are no baselines: nothing that runs here
says how fast the chip would be.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip
from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.machine import Job
from epitaxy.machines._jail import folders_of
from epitaxy.machines._worker import Limits, LocalWorker
from epitaxy.machines.local import LocalMachine
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, Crossing, StandIn

LIMITS = Limits(load_s=120.0, burst_s=120.0)
"""Interpreters are slow; one that takes longer than this is taken to hang, and killed."""


def plugin() -> AbsentMachine:
    """The machine named `absent`, without a chip: `of(chip)` gives one."""
    return AbsentMachine()


class AbsentMachine(LocalMachine):
    """Workers under a toolchain's stand-in. `toolchains` are those that build for the chip."""

    name = "absent"
    clock = False
    probed = False

    def __init__(
        self, chip: Chip | None = None, toolchain: Any = None, *, home: Path | None = None
    ) -> None:
        super().__init__(home=home, limits=LIMITS)
        self.realtime = False
        self._chip = chip or Chip(id="absent", name="no chip", vendor="", kind="absent")
        self.toolchains: tuple[str, ...] = ()
        self._stand_in = StandIn(name="nothing")
        if toolchain is not None:
            toolchain.aim(self._chip)
            self.toolchains = (toolchain.name,)
            self._stand_in = toolchain.stand_in()
        self.preload = self._stand_in.preload
        self.environment = self._stand_in.environment

    def of(self, chip: Chip, toolchain: str = "") -> AbsentMachine:
        """The machine for `chip`, by the toolchain of that name, or by the first that builds for it
        here and that a proposer writes for.

        Raises BadInput when none does, BadEnvironment when those that do are not installed.
        """
        kinds = plugins("toolchains")
        found = [kinds.get(name) for name in ([toolchain] if toolchain else kinds.names())]
        fitting = [t for t in found if isinstance(t, Crossing) and t.targets(chip)]
        if not fitting:
            who = f"{toolchain} does not build" if toolchain else "no toolchain builds"
            raise BadInput(
                f"{who} for {chip.name}, and no machine here has it",
                "use --chip local, or another chip of: epitaxy chips",
            )
        if not toolchain:
            written = plugins("proposers").names()
            fitting = [t for t in fitting if t.language in written] or fitting
        missing: list[Availability] = []
        for one in fitting:
            state: Availability = one.available()  # type: ignore[attr-defined]
            if state.ok:
                return AbsentMachine(chip, one, home=self.home)
            missing.append(state)
        raise BadEnvironment(f"{fitting[0].name}: {missing[0].detail}", missing[0].mend)

    @property
    def compiles(self) -> bool:
        """Whether the chip's own compiler builds what is run here."""
        return self._stand_in.compiled

    @property
    def spare_cores(self) -> int:
        """All of them: nothing is timed."""
        return len(os.sched_getaffinity(0))

    def chip(self) -> Chip:
        """The chip that is not here, as its file has it."""
        return self._chip

    def fingerprint(self) -> FrozenDict[str]:
        """The chip, what stands in for it, and the versions of what builds and runs."""
        own = {"machine": self.name, "chip": self._chip.id, "stand-in": self._stand_in.name}
        own |= {"chip's facts": self._chip.digest[:12], "toolchains": " ".join(self.toolchains)}
        for package in ("torch", "numpy", *self._stand_in.packages):
            own[package] = importlib.metadata.version(package)
        return FrozenDict[str](own)

    def baselines(self) -> list[str]:
        """None: they would not run on the chip."""
        return []

    def unavailable(self) -> dict[str, Availability]:
        """Nothing to say of baselines."""
        return {}

    def open(self, job: Job) -> LocalWorker:
        """A worker for a candidate. Raises BadInput for a baseline."""
        if job.baseline and not job.folder:
            raise BadInput(f"{self._chip.name} is not here", "baselines run on --chip local")
        return super().open(job)

    def _jail_of(self, folder: str, problem: Problem) -> dict[str, Any]:
        made = super()._jail_of(folder, problem)
        made["read_only"] += folders_of(self._stand_in.packages)
        return made
