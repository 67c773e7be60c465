"""Chips as tables: one chip's card, and several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.chip import Chip

UNKNOWN = "unknown"


def card(chip: Chip) -> list[tuple[str, str]]:
    """Rows (what, value with unit, confidence and sources) of one chip, unknowns included."""
    rows = [("id", chip.id), ("vendor", f"{chip.vendor}, {chip.kind}, {chip.year}, {chip.status}")]
    for name, fact in chip.facts.items():
        rows.append((name, f"{fact.value} {fact.unit} [{fact.confidence}]".replace("  ", " ")))
    rows += [("ridge " + d, f"{r:.0f} flop/byte") for d, r in ridges(chip).items()]
    rows += [("note", n) for n in chip.notes]
    rows += [("conflict", c) for c in chip.conflicts]
    rows += [("unknown", u) for u in chip.unknown]
    return rows + [(f"source {k}", v) for k, v in chip.sources.items()]


def ridges(chip: Chip) -> dict[str, float]:
    """Ridge point by dtype: peak / memory bandwidth, in operations per byte."""
    if not chip.levels or not chip.levels[-1].read_bytes_per_s:
        return {}
    rate = chip.levels[-1].read_bytes_per_s
    return {d: p / rate for d, p in chip.peak_flops_per_s.items() if "sparse" not in d}


def compare(chips: Sequence[Chip]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of a side-by-side table; what is not known is said, never guessed."""
    header = ("", *(c.id for c in chips))
    dtypes = list(dict.fromkeys(d for c in chips for d in c.peak_flops_per_s))
    rows = [("name", *(c.name for c in chips))]
    for dtype in dtypes:
        rows.append((f"peak {dtype}, T/s dense", *(_peak(c, dtype) for c in chips)))
    rows.append(("memory, GB", *(_fact(c, "mem_gb") for c in chips)))
    rows.append(("bandwidth, GB/s", *(_fact(c, "mem_bw_gbs") for c in chips)))
    for dtype in dtypes:
        rows.append((f"ridge {dtype}, op/byte", *(_number(ridges(c).get(dtype)) for c in chips)))
        inverse = [1e3 / r if (r := ridges(c).get(dtype)) else None for c in chips]
        rows.append((f"bytes per k-op {dtype}", *(_number(v) for v in inverse)))
        rows.append((f"pJ per op {dtype} at TDP", *(_number(_energy(c, dtype)) for c in chips)))
    for dtype in ("bf16", "fp8"):
        delivered = [_delivered(c, dtype) for c in chips]
        if any(delivered):
            cells = (f"{v:.0%}" if v else UNKNOWN for v in delivered)
            rows.append((f"delivered/peak {dtype}", *cells))
    rows.append(("TDP, W", *(_fact(c, "power_w") for c in chips)))
    return header, rows


def _peak(chip: Chip, dtype: str) -> str:
    value = chip.peak_flops_per_s.get(dtype)
    return f"{value / 1e12:g}" if value else UNKNOWN


def _fact(chip: Chip, name: str) -> str:
    fact = chip.facts.get(name)
    return f"{fact.value:g} [{fact.confidence}]" if fact else UNKNOWN


def _number(value: float | None) -> str:
    return f"{value:.3g}" if value else UNKNOWN


def _energy(chip: Chip, dtype: str) -> float | None:
    """pJ per operation if the whole thermal power bought only peak operations."""
    power, peak = chip.facts.get("power_w"), chip.peak_flops_per_s.get(dtype)
    return float(power.value) / peak * 1e12 if power and peak else None


def _delivered(chip: Chip, dtype: str) -> float | None:
    """Measured achievable matmul rate / datasheet peak."""
    best, peak = chip.facts.get(f"mamf_{dtype}"), chip.facts.get(f"peak_{dtype}")
    return float(best.value) / float(peak.value) if best and peak else None
