"""NKI for AWS's Trainium: run by AWS's simulator where it is installed, else by our own model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip, find_chip
from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, StandIn
from epitaxy.toolchains._absent import AbsentToolchain

LIMITS = (
    "partitions", "sbuf_partition_bytes", "psum_partition_bytes", "psum_bank_bytes",
    "stationary_columns", "moving_columns",
)  # fmt: skip
"""Facts of a chip that kernels must keep; the model enforces those that its file knows."""
NEEDED = LIMITS[:2]


class NkiTrainium(AbsentToolchain):
    """The toolchain plugin."""

    name = "nki_trainium"
    language = "nki"
    builder = "epitaxy.toolchains._nki_build"
    prelude = Path(__file__).parent / "nki_prelude.py.txt"
    needs = "Needs PyTorch and AWS's nki, and runs on the Trainium that it was grown for."

    def available(self) -> Availability:
        """Always: our model needs NumPy alone. `detail` says who simulates."""
        return Availability(ok=True, detail=f"not compiled; simulated by {_simulator()}")

    def targets(self, chip: Chip) -> bool:
        """Whether `chip` is a Trainium whose limits are known."""
        return chip.vendor == "AWS" and all(n in chip.facts for n in NEEDED)

    def stand_in(self) -> StandIn:
        """AWS's simulator, or our model."""
        if _aws():
            return StandIn(name=_simulator(), packages=("nki",), preload=("nki",), compiled=False)
        limits = self._limits(self.default_chip() if self._chip is None else self._chip)
        return StandIn(
            name=_simulator(),
            packages=(),
            preload=("epitaxy.toolchains._nki_model",),
            environment=FrozenDict(EPITAXY_NKI_MODEL="1", EPITAXY_NKI_LIMITS=json.dumps(limits)),
            compiled=False,
        )

    def default_chip(self) -> Chip:
        """A Trainium2."""
        return find_chip("trainium2")

    def packages(self) -> tuple[str, ...]:
        """What the builder reads beside NumPy."""
        return ("nki",) if _aws() else ()

    def job(self, chip: Chip) -> dict[str, Any]:
        """The limits that kernels must keep. Raises BadInput where the needed ones are unknown."""
        for name in NEEDED:
            if name not in chip.facts:
                raise BadInput(
                    f"the file of {chip.name} does not know {name}",
                    "add it to its TOML, with a source",
                )
        return {"limits": self._limits(chip)}

    def environment(self, made: Path) -> Mapping[str, str]:
        """Limits for the model."""
        limits = self._limits(self._chip or self.default_chip())
        return {"EPITAXY_NKI_MODEL": "1", "EPITAXY_NKI_LIMITS": json.dumps(limits)}

    @staticmethod
    def _limits(chip: Chip) -> dict[str, int]:
        return {n: int(chip.facts[n].value) for n in LIMITS if n in chip.facts}


def _aws() -> bool:
    """Whether AWS's own `nki` is here; the package of that name on PyPI is empty."""
    spec = importlib.util.find_spec("nki")
    places = (spec and spec.submodule_search_locations) or ()
    return any(Path(p, "simulator").exists() or Path(p, "simulate.py").exists() for p in places)


def _simulator() -> str:
    return "AWS's nki.simulate" if _aws() else "our NumPy model of NKI"


def plugin() -> NkiTrainium:
    """The `nki_trainium` toolchain."""
    return NkiTrainium()
