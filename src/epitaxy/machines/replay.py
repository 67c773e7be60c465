"""The machine that runs nothing: recorded verdicts are answered by `epitaxy.replay.ReplayJudge`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip
from epitaxy.errors import MachineFault
from epitaxy.machine import Job
from epitaxy.record import FrozenDict


def plugin() -> ReplayMachine:
    """The machine named `replay`."""
    return ReplayMachine()


class ReplayMachine:
    """Stands where a machine is asked for; `chip` and `fingerprint` may be a recorded machine's."""

    name = "replay"
    recorded = True
    """It runs nothing: what there is to know was recorded."""

    def __init__(
        self, chip: Chip | None = None, fingerprint: Mapping[str, str] | None = None
    ) -> None:
        self.home = Path(os.environ.get("EPITAXY_HOME") or "~/.cache/epitaxy").expanduser()
        self._chip = chip or Chip(id="replay", name="recorded verdicts", vendor="", kind="replay")
        self._fingerprint = FrozenDict[str](fingerprint or {"machine": self.name})

    def chip(self) -> Chip:
        """The given chip, or one without a single known number."""
        return self._chip

    def fingerprint(self) -> FrozenDict[str]:
        """The given fingerprint, or only the name."""
        return self._fingerprint

    def baselines(self) -> list[str]:
        """None: nothing runs here."""
        return []

    def start(self, job: Job) -> AbstractContextManager[Any]:
        """Raises MachineFault: nothing can be started."""
        what = job.baseline or "a candidate"
        raise MachineFault(
            f"the replay machine only replays recorded verdicts; it cannot run {what}",
            "use the machine 'local' to measure",
        )
