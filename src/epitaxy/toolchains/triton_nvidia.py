"""Triton for NVIDIA: PTX and cubin by the real ptxas, for a chip that need not be here."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip, find_chip
from epitaxy.errors import BadInput
from epitaxy.toolchains._occupancy import occupancy
from epitaxy.toolchains._triton import Target, TritonToolchain

TOOLS = ("ptxas", "cuobjdump", "nvdisasm")
_OPERATION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)")
_WORD = re.compile(r"/\* 0x([0-9a-f]{16}) \*/")
COUNTED = {
    "LDG": "global_loads", "STG": "global_stores", "LDGSTS": "async_copies", "UTMALDG": "tma_loads",
    "LDS": "local_loads", "STS": "local_stores", "LDSM": "matrix_loads", "BAR": "barriers",
    "MUFU": "special_functions", "FFMA": "fused_multiply_adds",
}  # fmt: skip


class TritonNvidia(TritonToolchain):
    """The toolchain plugin."""

    name = "triton_nvidia"
    vendor = "NVIDIA"

    def target(self, chip: Chip) -> Target:
        """The compute capability that the chip's file names."""
        return read_target(chip, "cuda", int)

    def default_chip(self) -> Chip:
        """An H100."""
        return find_chip("h100_sxm")

    def missing(self) -> str:
        """Which of the vendor's programs the installed Triton lacks."""
        return ", ".join(t for t in TOOLS if not (_folder() / t).is_file())

    def after(self, target: Target) -> list[tuple[list[str], str]]:
        """SASS with its control words."""
        return [([str(_folder() / "nvdisasm"), "-c", "-hex", "{}.cubin"], "sass")]

    def metrics(self, folder: Path, launch: Mapping[str, Any], chip: Chip) -> dict[str, float]:
        """Registers, spills, shared memory, occupancy, the mix of instructions and their stalls.

        Registers and spills are those that ptxas tells: cuobjdump says nothing of spills.
        """
        stem = launch["file"]
        said = (folder / f"{stem}.log").read_text(encoding="utf-8", errors="replace")
        sass = (folder / f"{stem}.sass").read_text(encoding="utf-8", errors="replace")
        used = re.search(r"Used (\d+) registers", said)
        spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
        found = {
            "registers": float(used[1]) if used else 0.0,
            "spill_bytes": float(sum(map(int, spills))),
            **listed(sass),
        }
        return found | occupancy(launch, found["registers"], chip)


def listed(sass: str) -> dict[str, float]:
    """What a listing of nvdisasm -hex holds: counts of instructions, and their stall cycles.

    From Volta on each instruction of 128 bits carries how long the next must wait at least, in
    bits 41 to 44 of its second half (Jia et al., "Dissecting the NVIDIA Volta GPU", 2018).
    """
    operations = [o.split(".")[0] for o in _OPERATION.findall(sass)]
    words = [int(w, 16) for w in _WORD.findall(sass)]
    counts = Counter(operations)
    matrix = sum(n for o, n in counts.items() if "MMA" in o)
    found = {
        "instructions": float(len(operations)),
        "matrix_instructions": float(matrix),
        "stall_cycles": float(sum(max(1, w >> 41 & 15) for w in words[1::2])),
    }
    found |= {f"count_{n}": float(counts[o]) for o, n in COUNTED.items() if counts[o]}
    found |= {f"count_{o.lower()}": float(n) for o, n in counts.items() if "MMA" in o}
    wide = len(re.findall(r"\bLDG\.E\S*\.128", sass))
    return found | {"count_global_loads_of_16_bytes": float(wide)}


def read_target(chip: Chip, backend: str, kind: type) -> Target:
    """The fact `target` ("cuda:90") as a Target. Raises BadInput."""
    fact = chip.facts.get("target")
    named, _, arch = str(fact.value if fact else "").partition(":")
    lanes = chip.facts.get("warp_lanes")
    if named != backend or not arch or lanes is None:
        raise BadInput(
            f"{chip.name} has no {backend} architecture in its file",
            "add the facts `target` and `warp_lanes` to its TOML",
        )
    return Target(backend, kind(arch), int(lanes.value))


def _folder() -> Path:
    spec = importlib.util.find_spec("triton")
    places = (spec and spec.submodule_search_locations) or [""]
    return Path(places[0]) / "backends" / "nvidia" / "bin"


def plugin() -> TritonNvidia:
    """The `triton_nvidia` toolchain."""
    return TritonNvidia()
