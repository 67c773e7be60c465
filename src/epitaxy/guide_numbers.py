"""Numbers of one chip as a guide shows them; those that nobody knows are said to be unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epitaxy.chip import Chip, Level
from epitaxy.chip_report import UNKNOWN, ridges

if TYPE_CHECKING:
    from epitaxy.probe.explored import Explored

_SHORT = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}


TELLING = ("confirmed", "refuted")
"""Verdicts of experiments that say something."""
EXPLORE = "explore"
"""The key of the source that is experiments on this machine."""


class Numbers:
    """What a guide's template may call; `unknown` collects what was asked for in vain."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.unknown: list[str] = []

    def helpers(self) -> dict[str, Callable[..., str]]:
        """The template's functions by name."""
        return {
            "fact": self.fact,
            "peak": self.peak,
            "core": self.core,
            "ridge": self.ridge,
            "delivered": self.delivered,
            "levels": self.levels,
            "streaming": self.streaming,
            "overheads": self.overheads,
            "vector": self.vector,
        }

    def basis(self) -> str:
        """Where the numbers come from, in a few words."""
        if self.chip.measured:
            return f"measured here on {self.chip.measured_on[:10] or 'an unknown day'}"
        return f"datasheet numbers of `{self.chip.id}`, not measured here"

    def source(self) -> str:
        """The chip as a source."""
        if self.chip.measured:
            compiler = f", {self.chip.compiler}" if self.chip.compiler else ""
            return f"`epitaxy probe` on this machine, {self.chip.measured_on[:10]}{compiler}"
        return f"`epitaxy chips {self.chip.id}`, each fact with its own source"

    def fact(self, name: str, scale: float = 1.0, unit: str | None = None) -> str:
        """A fact of the chip's file with its unit, or "unknown"."""
        found = self.chip.facts.get(name)
        if found is None:
            return self._lost(name)
        value = found.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = f"{value * scale:g}"
        return f"{value} {found.unit if unit is None else unit}".strip()

    def peak(self, dtype: str) -> str:
        """Peak operations of all cores for a dtype."""
        rate = self.chip.peak_flops_per_s.get(_SHORT.get(dtype, dtype))
        return _rate(rate) if rate else self._lost(f"peak {dtype}")

    def core(self, dtype: str) -> str:
        """Peak operations of one core for a dtype."""
        rate = self.chip.peak_flops_per_s_core.get(_SHORT.get(dtype, dtype))
        return _rate(rate) if rate else self._lost(f"peak {dtype} of one core")

    def ridge(self, dtype: str) -> str:
        """Operations per byte of the largest memory at which compute and memory balance."""
        found = ridges(self.chip).get(_SHORT.get(dtype, dtype))
        return f"{found:.0f} op/byte" if found else self._lost(f"ridge {dtype}")

    def delivered(self, dtype: str) -> str:
        """Measured best matmul rate and its share of the datasheet's peak."""
        best, peak = self.chip.facts.get(f"mamf_{dtype}"), self.chip.facts.get(f"peak_{dtype}")
        if best is None or peak is None:
            return self._lost(f"delivered {dtype}")
        return f"{best.value:g} {best.unit} ({best.value / peak.value:.0%} of peak)"

    def levels(self) -> str:
        """The memory levels in one line, the smallest first."""
        return "; ".join(_level(level) for level in self.chip.levels) or self._lost("memory levels")

    def streaming(self) -> str:
        """Writing past the caches against through them, at the least and largest set measured."""
        plain, past = self.chip.curves.get("write"), self.chip.curves.get("stream")
        if not plain or not past:
            return self._lost("streaming stores against plain ones")
        ratios = [(size, a / b) for (size, a), (_, b) in zip(past, plain, strict=False) if b]
        ends = (ratios[0], ratios[-1])
        return ", ".join(f"{ratio:.1f}x at {_size(size)}" for size, ratio in ends)

    def overheads(self) -> str:
        """What starting threads and touching pages costs."""
        found = {
            "parallel region": self.chip.barrier_s,
            "barrier": self.chip.sync_s,
            "region after a pause": self.chip.wake_s,
            "first touch of a page": self.chip.page_fault_s,
        }
        text = [f"{name} {seconds * 1e6:.3g} µs" for name, seconds in found.items() if seconds]
        return ", ".join(text) if text else self._lost("overheads of threads and pages")

    def vector(self) -> str:
        """Vector width and number of registers."""
        if not self.chip.vector_bytes:
            return self._lost("vector width")
        registers = self.chip.vector_registers
        width = f"{self.chip.vector_bytes * 8}-bit vectors"
        return f"{width}, {registers} registers" if registers else width

    def explored(self, room: int) -> list[str]:
        """Points on what experiments found on this machine, at most `room` characters, those that
        were confirmed first; [] for another chip. What is left out is said."""
        if not self._here():
            return []
        from epitaxy.probe import explored

        known = [r for r in explored.load().values() if r.verdict in TELLING]
        known.sort(key=lambda r: (TELLING.index(r.verdict), r.name))
        kept = list[str]()
        for result in known:
            line = _experiment(result)
            room -= len(line) + 1
            if room < 0:
                break
            kept.append(line)
        if not known:
            return []
        left = len(known) - len(kept)
        more = [f"- {left} more: `epitaxy explore`. [{EXPLORE}]"] if left else []
        return ["", "## Found here by experiments", *kept, *more]

    def _here(self) -> bool:
        """Whether the chip is this machine's."""
        from epitaxy.probe import load_measured

        here = load_measured() if self.chip.measured else None
        return here is not None and here.id == self.chip.id

    def _lost(self, what: str) -> str:
        if what not in self.unknown:
            self.unknown.append(what)
        return UNKNOWN


def _experiment(result: Explored) -> str:
    """One result with the versions that it holds for."""
    held = result.conditions
    system = f"driver {held['driver']}" if "driver" in held else f"kernel {held.get('kernel', '?')}"
    versions = f"{held.get('compiler', 'unknown compiler').partition(' (')[0]}, {system}"
    seen = "; ".join(text for text in (result.effect, result.found) if text)
    own = "" if result.origin == "catalogue" else ", of a user's file"
    said = f"{result.verdict}{own}: {result.hypothesis.rstrip('.')}"
    return f"- {said} ({seen}; {versions}, {result.measured_on[:10]}). [{EXPLORE}]"


def _level(level: Level) -> str:
    parts = [f"reads {_bytes(level.read_bytes_per_s)}"]
    if level.read_bytes_per_s_core:
        parts.append(f"one core {_bytes(level.read_bytes_per_s_core)}")
    if level.write_bytes_per_s:
        parts.append(f"writes {_bytes(level.write_bytes_per_s)}")
    if level.latency_s:
        parts.append(f"latency {level.latency_s * 1e9:.3g} ns")
    size = f" {_size(level.bytes)}" if level.bytes else ""
    return f"{level.name}{size}: {', '.join(parts)}"


def _rate(value: float) -> str:
    return f"{value / 1e12:.4g} Top/s" if value >= 1e12 else f"{value / 1e9:.4g} Gop/s"


def _bytes(rate: float) -> str:
    return f"{rate / 1e12:.3g} TB/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GB/s"


def _size(value: Any) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:g} B"
