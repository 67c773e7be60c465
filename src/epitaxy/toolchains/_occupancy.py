"""How many blocks of a kernel a core holds at once, from the chip's own limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from epitaxy.chip import Chip


def occupancy(launch: Mapping[str, Any], registers: float, chip: Chip) -> dict[str, float]:
    """`occupancy` (resident warps / the most that a core holds), and how many blocks a core would
    hold by each limit alone: the least of `blocks_by_...` is what limits.

    Registers are given out to warps in units, warps to the parts of a core (`simds`), local memory
    to blocks: NVIDIA, cuda_occupancy.h; AMD, GPU architecture documentation. Limits that the
    chip's file does not have are left out.
    """

    def known(name: str) -> float:
        fact = chip.facts.get(name)
        return float(fact.value) if fact else 0.0

    warps, most = float(launch["warps"]), known("core_warps")
    shared = float(launch["shared_bytes"])
    found = {"shared_bytes": shared, "block_warps": warps}
    blocks = {"warps": math.floor(most / warps)} if most else {}
    if known("core_blocks"):
        blocks["blocks"] = int(known("core_blocks"))
    if known("core_registers") and registers:
        unit = known("lane_register_unit") or 1.0
        each = math.ceil(registers / unit) * unit * known("warp_lanes")
        simds = known("simds") or 1.0
        held = math.floor(known("core_registers") / simds / each) * simds
        blocks["registers"] = math.floor(held / warps)
    if known("core_local_bytes"):
        unit = known("local_unit_bytes") or 1.0
        taken = math.ceil((shared + known("local_reserved_bytes")) / unit) * unit
        if taken:
            blocks["local_memory"] = math.floor(known("core_local_bytes") / taken)
    if most and blocks:
        found["occupancy"] = min(blocks.values()) * warps / most
    return found | {f"blocks_by_{name}": float(count) for name, count in blocks.items()}


def limiter(metrics: Mapping[str, float]) -> str:
    """What keeps more blocks from a core, by name; "" where nothing is known."""
    held = {k.removeprefix("blocks_by_"): v for k, v in metrics.items() if "blocks_by_" in k}
    return min(held, key=lambda k: (held[k], k)).replace("_", " ") if held else ""
