"""Compare: what one problem costs at best on several chips: time, energy, money, and what limits.

Everything is a floor by the roofline (`roofline.py`), never a time. Energy is that of the whole
chip at its thermal power for as long as the floor: an upper bound of what the floor costs, and the
same yardstick for all. What is not known of a chip is said, and nothing is derived from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from epitaxy.chip import Chip, Fact
from epitaxy.errors import BadInput
from epitaxy.problem import Problem
from epitaxy.report_charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Chart, grid, log_scale
from epitaxy.report_page import filled
from epitaxy.roofline import floor
from epitaxy.verdict import Floor, Verdict

UNKNOWN = "unknown"
HEADER = (
    "chip", "facts", "floor", "limited by", "at full power", "calls per joule", "USD per 1M calls",
    "our kernel",
)  # fmt: skip
STATIC = (
    "predicted_cost", "occupancy", "registers", "spill_bytes", "shared_bytes",
    "matrix_instructions",
)  # fmt: skip
"""Static metrics that are shown of a kernel that was built for an absent chip."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """One problem on one chip. `floor` is None where `unknown` says what is missing; `best` is
    the verdict on the best kernel that the ledger holds for this chip."""

    chip: Chip
    floor: Floor | None
    unknown: str = ""
    best: Verdict | None = None

    @property
    def energy_j(self) -> float | None:
        """Joules of the chip at its thermal power during the floor; None where unknown."""
        power = self.chip.facts.get("power_w")
        return float(power.value) * self.floor.time_s if power and self.floor else None

    @property
    def usd_per_million(self) -> float | None:
        """US dollars for a million calls at the floor, by the chip's hourly price."""
        price = self.chip.facts.get("price_usd_h")
        return float(price.value) / 3600 * self.floor.time_s * 1e6 if price and self.floor else None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; None is unknown."""
        best = self.best
        return {
            "chip": self.chip.id,
            "name": self.chip.name,
            "facts": "measured" if self.chip.measured else "datasheet",
            "floor_s": self.floor.time_s if self.floor else None,
            "compute_s": self.floor.compute_s if self.floor else None,
            "memory_s": self.floor.memory_s if self.floor else None,
            "limit": self.floor.limit if self.floor else None,
            "unknown": self.unknown,
            "energy_j": self.energy_j,
            "power": _said(self.chip.facts.get("power_w")),
            "usd_per_million": self.usd_per_million,
            "price": _said(self.chip.facts.get("price_usd_h")),
            "kernel": best
            and {
                "candidate": best.candidate,
                "basis": best.basis,
                "time_s": best.time_s,
                "of_limit": best.of_limit,
                "metrics": {k: best.metrics[k] for k in STATIC if k in best.metrics},
            },
        }


def standing(
    problem: Problem, chip: Chip, dtype: str = "", best: Verdict | None = None
) -> Standing:
    """`problem` on `chip`; `dtype` names the arithmetic whose peak counts (none: the problem's).

    Bytes stay the problem's own whatever the arithmetic.
    """
    work = problem.work.replace(dtype=dtype) if dtype else problem.work
    try:
        return Standing(chip, floor(work, chip, problem.working_set_bytes), best=best)
    except BadInput as missing:
        return Standing(chip, None, missing.message, best)


def rows(standings: Sequence[Standing]) -> list[tuple[str, ...]]:
    """Cells under HEADER, the lowest floor first, chips without one last."""
    ordered = sorted(standings, key=lambda s: s.floor.time_s if s.floor else float("inf"))
    return [_row(s) for s in ordered]


def _row(it: Standing) -> tuple[str, ...]:
    energy, money = it.energy_j, it.usd_per_million
    return (
        it.chip.name,
        "measured" if it.chip.measured else "datasheet",
        seconds(it.floor.time_s) if it.floor else UNKNOWN,
        it.floor.limit if it.floor else it.unknown,
        f"{energy * 1e3:.3g} mJ" if energy is not None else UNKNOWN,
        f"{1 / energy:.3g}" if energy else UNKNOWN,
        f"{money:.3g}" if money is not None else UNKNOWN,
        _kernel(it.best),
    )


def _kernel(best: Verdict | None) -> str:
    if best is None:
        return "none in the ledger"
    if best.time_s is not None:
        share = f", {best.of_limit:.0%} of the limit" if best.of_limit else ""
        return f"{best.basis}: {seconds(best.time_s)}{share}"
    known = [f"{k.replace('_', ' ')} {best.metrics[k]:.3g}" for k in STATIC if k in best.metrics]
    return f"{best.basis}: {', '.join(known) or 'no static metrics'}"


def markdown(problem: Problem, standings: Sequence[Standing]) -> str:
    """The table, with what it stands on."""
    lines = [f"# {problem.name} on {len(standings)} chips", "", remark(problem), ""]
    for cells in (HEADER, ("---",) * len(HEADER), *rows(standings)):
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join([*lines, ""])


def remark(problem: Problem) -> str:
    """What the figures are, in two sentences."""
    work = problem.work
    moved = (work.bytes_read + work.bytes_written) / 1e6
    return (
        f"{work.flops / 1e9:.3g} Gflop and {moved:.3g} MB a call. Floors are rooflines, from "
        "measured peaks or from datasheets, and no times; energy is the chip at its thermal power "
        "for as long as the floor."
    )


def chart(standings: Sequence[Standing]) -> Chart | None:
    """Calls per joule over calls per second, both at the floor; None where no energy is known."""
    known = [(s, s.energy_j, s.floor.time_s) for s in standings if s.floor and s.energy_j]
    if not known:
        return None
    made = Chart("Calls per joule over calls per second, at each chip's floor")
    bottom, right = made.height - BOTTOM, float(WIDTH - RIGHT)
    x = log_scale([1 / time_s for _, _, time_s in known], LEFT, right)
    y = log_scale([1 / joule for _, joule, _ in known if joule], bottom, TOP)
    grid(made, x, y)
    for it, joule, time_s in known:
        at = {"x": x(1 / time_s), "y": y(1 / joule)}
        made.add("dot", "ours", f"{it.chip.name}: {seconds(time_s)}", r=4, **at)
        made.text(at["x"] + 8, at["y"] + 4, it.chip.id, "label")
    made.text(
        (LEFT + right) / 2, made.height - 8, "calls per second at the floor", "name", "middle"
    )
    made.text(LEFT, TOP - 4, "calls per joule", "name")
    return made


def html(problem: Problem, standings: Sequence[Standing]) -> str:
    """One page that opens offline: inline style and SVG, no script."""
    return filled(
        "compare.html.j2",
        name=problem.name, remark=remark(problem), header=HEADER, rows=rows(standings),
        chart=chart(standings), sources=_sources(standings),
    )  # fmt: skip


def _sources(standings: Sequence[Standing]) -> Mapping[str, str]:
    """What power and prices rest on, by chip."""
    found = {}
    for it in standings:
        facts = {n: it.chip.facts.get(n) for n in ("power_w", "price_usd_h")}
        said = [f"{name} {_said(fact)}" for name, fact in facts.items() if fact]
        found[it.chip.name] = "; ".join(said) or "no power and no price known"
    return found


def _said(fact: Fact | None) -> str | None:
    return f"{fact.value} {fact.unit} [{fact.confidence}]" if fact else None


def seconds(time_s: float) -> str:
    """A time (s) as people read it."""
    return f"{time_s * 1e3:.4g} ms" if time_s >= 1e-4 else f"{time_s * 1e6:.4g} µs"
