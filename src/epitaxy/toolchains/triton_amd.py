"""Triton for AMD: AMDGCN and hsaco by the real LLVM, for a chip that need not be here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip, find_chip
from epitaxy.toolchains._occupancy import occupancy
from epitaxy.toolchains._triton import Target, TritonToolchain
from epitaxy.toolchains.triton_nvidia import read_target

NOTES = {
    "vector_registers": ".vgpr_count", "scalar_registers": ".sgpr_count",
    "accumulator_registers": ".agpr_count", "vector_spills": ".vgpr_spill_count",
    "scalar_spills": ".sgpr_spill_count", "scratch_bytes": ".private_segment_fixed_size",
}  # fmt: skip
COUNTED = {
    "global_loads": r"\s(?:global|buffer)_load_", "global_stores": r"\s(?:global|buffer)_store_",
    "local_accesses": r"\sds_", "barriers": r"\ss_barrier", "waits": r"\ss_waitcnt",
    "special_functions": r"\sv_(?:exp|log|rcp|rsq|sqrt|sin|cos)_",
}  # fmt: skip
SPILLED_BYTES = 4


class TritonAmd(TritonToolchain):
    """The toolchain plugin."""

    name = "triton_amd"
    vendor = "AMD"

    def target(self, chip: Chip) -> Target:
        """The gfx name that the chip's file gives."""
        return read_target(chip, "hip", str)

    def default_chip(self) -> Chip:
        """An MI300X."""
        return find_chip("mi300x")

    def metrics(self, folder: Path, launch: Mapping[str, Any], chip: Chip) -> dict[str, float]:
        """Registers, spills, occupancy and the mix of instructions, from the assembly.

        Local memory is what Triton says: `.group_segment_fixed_size` is 0, since the launch gives
        it.
        """
        text = (folder / f"{launch['file']}.amdgcn").read_text(encoding="utf-8", errors="replace")
        found = listed(text, chip)
        return found | occupancy(launch, found["registers"], chip)


def listed(text: str, chip: Chip) -> dict[str, float]:
    """What the assembly of one kernel holds, with the notes that LLVM leaves on it: registers,
    bytes spilled, counts of instructions."""
    found = {name: note(text, key) for name, key in NOTES.items()}
    lanes = float(chip.facts["warp_lanes"].value)
    spills = found.pop("vector_spills") * lanes + found.pop("scalar_spills")
    code = re.search(r"; codeLenInByte = (\d+)", text)
    body = [x for x in text.splitlines() if re.match(r"\s+[a-z]+_[a-z0-9_]+\s", x + " ")]
    found |= {
        "registers": found["vector_registers"],
        "spill_bytes": spills * SPILLED_BYTES,
        "instructions": float(len(body)),
        "code_bytes": float(code[1]) if code else 0.0,
        "matrix_instructions": float(len(re.findall(r"\sv_(?:s?mfma|smfmac|wmma)", text))),
    }
    for name, pattern in COUNTED.items():
        found[f"count_{name}"] = float(len(re.findall(pattern, text)))
    wide = len(re.findall(r"\s(?:global|buffer)_load_dwordx4", text))
    return found | {"count_global_loads_of_16_bytes": float(wide)}


def note(text: str, key: str) -> float:
    """A number of the metadata, by its key; 0.0 where it is not."""
    found = re.search(rf"{re.escape(key)}:\s+(\d+)", text)
    return float(found[1]) if found else 0.0


def plugin() -> TritonAmd:
    """The `triton_amd` toolchain."""
    return TritonAmd()
