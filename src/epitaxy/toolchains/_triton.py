"""What the Triton toolchains share: what is compiled for, static metrics, the limits of a chip."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, StandIn
from epitaxy.toolchains._absent import AbsentToolchain

MEND = "pip install 'epitaxy[triton]'"
DRIVERS = ("TRITON_LIBCUDA_PATH", "LD_LIBRARY_PATH")
"""Variables with the folders of a driver that the system does not list."""
CACHE, FUSION = "triton", "1"
"""Triton's cache in a build, and a setting that is part of its keys there."""


@dataclass(frozen=True)
class Target:
    """What is compiled for: Triton's backend and architecture, and the lanes of a warp."""

    backend: str
    arch: int | str
    lanes: int


class TritonToolchain(AbsentToolchain):
    """One vendor's chips through Triton."""

    language = "triton"
    builder = "epitaxy.toolchains._triton_build"
    prelude = Path(__file__).parent / "triton_prelude.py.txt"
    needs = "Needs PyTorch and Triton, and runs on the chip that it was grown for."
    vendor: str
    _here = False

    # -- what a vendor's file gives ------------------------------------------------------------

    def target(self, chip: Chip) -> Target:
        """What to compile for. Raises BadInput when the chip's facts do not say."""
        raise NotImplementedError

    def metrics(self, folder: Path, launch: Mapping[str, Any], chip: Chip) -> dict[str, float]:
        """What one compiled kernel says of itself."""
        raise NotImplementedError

    def after(self, target: Target) -> list[tuple[list[str], str]]:
        """Commands to look at a compiled kernel with, and the suffix of the file for what they
        say; "{}" stands for the kernel's files."""
        return []

    def missing(self) -> str:
        """What the installed Triton lacks for this vendor; "" when nothing."""
        return ""

    # -- the contract --------------------------------------------------------------------------

    def available(self) -> Availability:
        """Whether Triton is installed with this vendor's compiler."""
        if importlib.util.find_spec("triton") is None:
            return Availability(ok=False, detail="no Triton", mend=MEND)
        version = importlib.metadata.version("triton")
        missing = self.missing()
        if missing:
            return Availability(ok=False, detail=f"Triton {version} without {missing}", mend=MEND)
        return Availability(ok=True, detail=f"Triton {version}")

    def targets(self, chip: Chip) -> bool:
        """Whether it builds for `chip`."""
        return chip.kind == "gpu" and chip.vendor == self.vendor and "target" in chip.facts

    def stand_in(self) -> StandIn:
        """How a built candidate runs on this machine's CPU."""
        return StandIn(
            name="Triton's interpreter, repaired",
            packages=("triton",),
            preload=("epitaxy.toolchains._triton_interpreter",),
            environment=FrozenDict(TRITON_INTERPRET="1"),
        )

    def resident(self, chip: Chip) -> StandIn:
        """On the chip itself: Triton finds what the build compiled, and starts no program."""
        self._here = True
        target = self.target(chip)
        return StandIn(
            name="Triton",
            packages=("triton",),
            preload=("epitaxy.toolchains._triton_resident",),
            environment=FrozenDict(
                {
                    "TRITON_CACHE_DIR": "{folder}/" + CACHE,
                    "TRITON_DEFAULT_FP_FUSION": FUSION,
                    "EPITAXY_TRITON_TARGET": f"{target.backend}:{target.arch}:{target.lanes}",
                }
            ),
        )

    def versions(self) -> Mapping[str, str]:
        """Whether the compiled kernels stay beside the bundle."""
        return {"cache": "kept"} if self._here else {}

    def reads(self) -> tuple[str, ...]:
        """Where the chip's driver may lie, where it is here: what launches kernels is linked."""
        found = ":".join(os.environ.get(n, "") for n in DRIVERS if self._here)
        return tuple(p for p in found.split(":") if p.startswith("/"))

    def packages(self) -> tuple[str, ...]:
        """Triton."""
        return ("triton",)

    def job(self, chip: Chip) -> dict[str, Any]:
        """Backend and architecture, and what to look at the kernels with."""
        target = self.target(chip)
        return {
            "backend": target.backend, "arch": target.arch, "lanes": target.lanes,
            "after": self.after(target), "launched": self._here,
        }  # fmt: skip

    def environment(self, made: Path) -> Mapping[str, str]:
        """Triton's: its cache inside the build, and ptxas' words kept; where the chip is here, also
        where its driver lies."""
        own = {n: os.environ[n] for n in DRIVERS if self._here and n in os.environ}
        return {
            **own,
            "TRITON_CACHE_DIR": str(made / CACHE),
            "TRITON_DUMP_PTXAS_LOG": "1",
            "TRITON_DEFAULT_FP_FUSION": FUSION,
        }

    def moved(self, made: Path, folder: Path) -> None:
        """Triton's cache holds full paths."""
        for path in (made / CACHE).glob("*/__grp__*.json"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(f"{made}/", f"{folder}/"), encoding="utf-8")

    def look(self, made: Path, chip: Chip) -> tuple[dict[str, float], str]:
        """Registers, spills, shared memory, occupancy, instruction counts: of the worst kernel, or
        their sum; and the limit that one of them breaks, if any."""
        if not self._here:
            shutil.rmtree(made / CACHE, ignore_errors=True)
        launches = json.loads((made / "launches.json").read_text(encoding="utf-8"))
        each: list[dict[str, float]] = []
        for launch in launches:
            fault = over_limit(launch, chip)
            if fault:
                return {}, fault
            each.append(self.metrics(made, launch, chip))
        return together(each, launches), ""


def fact(chip: Chip, name: str) -> float:
    """A number of the chip's file; 0.0 where it is not known."""
    found = chip.facts.get(name)
    return float(found.value) if found else 0.0


def over_limit(launch: Mapping[str, Any], chip: Chip) -> str:
    """The limit of the chip that a kernel breaks, with its bytes; "" when none."""
    limit = fact(chip, "block_local_bytes")
    if limit and launch["shared_bytes"] > limit:
        return (
            f"error: {launch['kernel']} takes {launch['shared_bytes']} bytes of shared memory; "
            f"a block of {chip.name} has {limit:.0f} (block_local_bytes)"
        )
    lanes, most = fact(chip, "warp_lanes"), fact(chip, "block_lanes")
    if most and launch["warps"] * lanes > most:
        return (
            f"error: {launch['kernel']} has {launch['warps'] * lanes:.0f} lanes in a block; "
            f"{chip.name} allows {most:.0f} (block_lanes)"
        )
    return ""


SUMS = ("instructions", "spill_bytes", "matrix_instructions", "stall_cycles", "launches")
LEAST = ("occupancy",)


def together(each: list[dict[str, float]], launches: list[Mapping[str, Any]]) -> dict[str, float]:
    """One candidate's metrics from its kernels': sums of counts, the worst of everything else."""
    found: dict[str, float] = {"launches": float(sum(x["count"] for x in launches))}
    for name in dict.fromkeys(k for one in each for k in one):
        values = [one[name] for one in each if name in one]
        counts = name in SUMS or name.startswith("count_")
        fold: Callable[[list[float]], float] = sum if counts else min if name in LEAST else max
        found[name] = float(fold(values))
    found["programs"] = float(sum(x["programs"] * x["count"] for x in launches))
    return found
