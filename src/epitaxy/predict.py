"""Predict: how far from its floor a kernel would run, from static metrics alone.

A prediction, for ranking candidates where no chip is: never a time, and never shown as one. The
model, each factor at least 1:

    latency   memory needs latency x bandwidth bytes in flight (Little's law); resident warps with a
              few loads each hold so many
    tail      programs fill the chip in waves, and the last wave leaves cores idle
    spills    each spilled byte goes to memory and back
    matrix    products without matrix instructions run at the rate of the vector units
    launches  every further launch costs microseconds in which nothing runs
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from epitaxy.chip import Chip
from epitaxy.problem import Work
from epitaxy.verdict import Floor

LATENCY_S = 8e-7
"""From a load to its data, in a loaded memory system of a GPU."""
LOADS_AHEAD = 4
"""Loads that one warp has in flight before it waits."""
LAUNCH_S = 4e-6
STEP_S = 3.5e-7
"""From one step of a TPU's grid to the next (JAX documentation, "Pallas: pipelining")."""
SPILLED = 1 / 256
"""Cost of one spilled byte per lane, as a share of the kernel."""


def predicted_cost(metrics: Mapping[str, float], work: Work, chip: Chip, limit: Floor) -> float:
    """Predicted time / floor (no unit); 0.0 where the metrics say too little."""
    if limit.time_s <= 0:
        return 0.0
    if metrics.get("bytes_moved"):
        return _tiled(metrics, work, limit)
    if not metrics.get("occupancy"):
        return 0.0
    cost = _latency(metrics, chip) if limit.memory_s >= limit.compute_s else 1.0
    cost *= _tail(metrics, chip)
    cost *= 1.0 + SPILLED * metrics.get("spill_bytes", 0.0)
    if work.flops > 0 and not metrics.get("matrix_instructions"):
        cost *= max(1.0, _slower(work, chip) * limit.compute_s / limit.time_s)
    return cost + LAUNCH_S * (metrics.get("launches", 1.0) - 1.0) / limit.time_s


def _tiled(metrics: Mapping[str, float], work: Work, limit: Floor) -> float:
    """Chips whose programs move every block themselves: the bytes that they move over the least,
    what no step hides of the first and the last block, and what starting a step costs."""
    steps = max(1.0, metrics.get("grid_steps") or metrics.get("dma", 1.0))
    memory_s = limit.memory_s * metrics["bytes_moved"] / max(1.0, work.bytes)
    busy_s = max(memory_s, limit.compute_s) * (1.0 + 1.0 / steps)
    return (busy_s + STEP_S * metrics.get("grid_steps", 0.0)) / limit.time_s


def _known(chip: Chip, name: str) -> float:
    fact = chip.facts.get(name)
    return float(fact.value) if fact else 0.0


def _latency(metrics: Mapping[str, float], chip: Chip) -> float:
    """Bytes that must be in flight on one core, over those that its warps hold."""
    warps, lanes = _known(chip, "core_warps"), _known(chip, "warp_lanes")
    if not warps or not lanes or not chip.levels:
        return 1.0
    loads = metrics.get("count_global_loads", 0.0)
    wide = metrics.get("count_global_loads_of_16_bytes", 0.0)
    each = 16.0 if loads and wide >= loads / 2 else 4.0
    held = metrics["occupancy"] * warps * lanes * each * max(1.0, min(LOADS_AHEAD, loads))
    needed = LATENCY_S * chip.levels[-1].read_bytes_per_s / max(1, chip.cores)
    return max(1.0, needed / held)


def _tail(metrics: Mapping[str, float], chip: Chip) -> float:
    """Waves of programs, whole ones over what would be needed."""
    held = min((v for k, v in metrics.items() if k.startswith("blocks_by_")), default=1.0)
    room = max(1.0, held) * max(1, chip.cores)
    # Of several launches each has its own waves; their mean stands for them.
    waves = metrics.get("programs", 1.0) / max(1.0, metrics.get("launches", 1.0)) / room
    return max(1.0, math.ceil(waves) / waves) if waves < 8 else 1.0


def _slower(work: Work, chip: Chip) -> float:
    """The peak that the floor rests on, over that of the vector units."""
    peaks = chip.peak_flops_per_s
    vector = peaks.get("float32", 0.0)
    return max(1.0, peaks.get(work.dtype, vector) / vector) if vector else 1.0
