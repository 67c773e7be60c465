"""From the programs' raw samples to a measured Chip."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from epitaxy import memory
from epitaxy.chip import Chip, Level
from epitaxy.compiler import cpu_flags
from epitaxy.errors import MachineFault
from epitaxy.probe import host
from epitaxy.probe.levels import Curve, boundaries, plateaus, rate
from epitaxy.probe.programs import Line
from epitaxy.record import FrozenDict

KINDS = ("read", "write", "stream", "copy", "copy_stream")
BUSY = 0.2
"""Share of disturbed samples from which the user is told."""
_ABSENT = {
    "bfloat16": "no bfloat16 dot product on this CPU: no bfloat16 peak",
    "int8": "no int8 dot product on this CPU: no int8 peak",
    "float16": "no float16 arithmetic on this CPU: no float16 peak",
}


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """10 %, 50 % and 90 % of a sample, interpolated."""
    ordered = sorted(values)

    def at(q: float) -> float:
        place = q * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.1), at(0.5), at(0.9)


class Samples:
    """The raw lines, sorted into peaks, curves and single values, with their spreads."""

    def __init__(self, lines: Sequence[Line], cores: int, wrong: Mapping[str, str]) -> None:
        self.cores = cores
        self.spreads: dict[str, tuple[float, float]] = {}
        self.peaks: dict[str, float] = {}
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.single: dict[str, float] = {}
        self.notes: list[str] = []
        self.vector_bytes = 0
        for line in lines:
            self._take(line, wrong)
        for curve in self.curves.values():
            curve.sort()

    def _take(self, line: Line, wrong: Mapping[str, str]) -> None:
        what = line["what"]
        if what == "samples":
            self._count(line["values"])
            return
        low, middle, high = quantiles(line["values"])
        if what == "flops":
            if _function(line) not in wrong:
                whom = "one" if line["threads"] == 1 else "all"
                name = f"{line['type']} {line['bits']} {whom}"
                self.peaks[name] = middle
                self.spreads[name] = (low, high)
        elif what in KINDS:
            if f"{what}_loop" not in wrong:
                self._point(what if line["threads"] > 1 else f"{what} core", line, middle)
                self.spreads[f"{what} {line['threads']} x {line['bytes']}"] = (low, high)
        elif what == "latency":
            if "chase_loop" not in wrong:
                self._point("latency" if line["huge"] else "latency small pages", line, middle)
        elif what == "huge_pages":
            if line["asked"] and middle < 0.5:
                self.notes.append("the kernel gave no huge pages: latencies include TLB misses")
        else:
            self.single[what] = middle
            self.spreads[what] = (low, high)
            self.vector_bytes = line.get("vector_bytes", self.vector_bytes)

    def _count(self, counts: Sequence[float]) -> None:
        """Say how many samples other processes spoilt; counts are (good, spoilt) per program."""
        good, spoilt = sum(counts[::2]), sum(counts[1::2])
        share = spoilt / max(good + spoilt, 1)
        if share > BUSY:
            self.notes.append(
                f"the machine was busy: {share:.0%} of the samples were disturbed and left out "
                "where enough others remained; probe again when it is idle"
            )

    def _point(self, name: str, line: Line, value: float) -> None:
        self.curves.setdefault(name, []).append((float(line["bytes"]), value))

    def peak(self, whom: str) -> dict[str, float]:
        """The best width's rate by dtype, for "one" core or "all"."""
        found: dict[str, float] = {}
        for name, value in self.peaks.items():
            dtype, _, who = name.split()
            if who == whom or self.cores == 1:
                found[dtype] = max(found.get(dtype, 0.0), value)
        return found

    def curve(self, name: str) -> Curve:
        """A curve for all cores; on a single core that core's."""
        return self.curves.get(name, self.curves.get(f"{name} core", []))


def _function(line: Line) -> str:
    if line["type"] in ("bfloat16", "int8"):
        return f"dot_{line['type']}"
    width = "widest" if line["type"] == "float16" else line["bits"]
    return f"fma_{line['type']}_{width}"


def find_levels(samples: Samples) -> tuple[Level, ...]:
    """The levels that the curves show. Raises MachineFault when the curves are unusable."""
    read = samples.curve("read")
    flat = plateaus(samples.curves.get("latency", []))
    if not read or not flat:
        raise MachineFault(
            "the probe has no usable read or latency curve", "another compiler may help: set CXX"
        )
    caches = flat[:-1]
    try:
        ends = boundaries(read, [p.capacity for p in caches], samples.cores)
    except ValueError as error:
        raise MachineFault(
            f"cache levels cannot be told apart: {error}", "probe again when idle"
        ) from None
    found = []
    begins, core_begins = [0.0, *ends], [0.0, *(p.capacity for p in caches)]
    for number, (plateau, end) in enumerate(zip(caches, ends, strict=True)):
        name, begin = f"L{number + 1}", begins[number]
        if end <= begin:
            samples.notes.append(f"{name} adds nothing to the levels below it when all cores work")
            continue
        sizes = (begin, end, core_begins[number], plateau.capacity)
        found.append(_level(samples, name, plateau.latency_s, sizes))
    # Main memory is what is left once the caches hold nothing: the largest sets (1.34: up to and
    # with the largest, of which `rate` takes three quarters).
    most = 1.34 * read[-1][0]
    sizes = (max(begins[-1], most / 4), most, core_begins[-1], most)
    largest, total = _level(samples, "DRAM", flat[-1].latency_s, sizes), memory.total_bytes()
    return (*found, largest.replace(bytes=total, bytes_core=total))


def _level(
    samples: Samples, name: str, latency_s: float, sizes: tuple[float, float, float, float]
) -> Level:
    """One level from the sizes (bytes) where it begins and ends, for all cores and for one."""
    begin, end, core_begin, core_end = sizes
    rates = {f"{k}_bytes_per_s": rate(samples.curve(k), begin, end) for k in KINDS}
    one, small = (samples.curves.get(k, []) for k in ("read core", "latency small pages"))
    return Level(
        name=name,
        bytes=int(end),
        bytes_core=int(core_end),
        latency_s=latency_s,
        read_bytes_per_s_core=rate(one, core_begin, core_end),
        small_page_latency_s=rate(small, core_begin, core_end),
        **rates,
    )


def make_chip(
    lines: Sequence[Line], compiler: str, wrong: Mapping[str, str], notes: Sequence[str]
) -> Chip:
    """The measured Chip of this machine, dated now."""
    cores = len(host.core_cpus())
    samples = Samples(lines, cores, wrong)
    peaks = samples.peak("all")
    vendor, model = host.cpu_model()
    extra: dict[str, Any] = {f"{k}_s": samples.single.get(v, 0.0) for k, v in _SINGLE.items()}
    return Chip(
        id=f"local-{host.fingerprint()}",
        name=f"{model}, {cores} cores",
        vendor=vendor,
        kind="cpu",
        measured=True,
        cores=cores,
        vector_bytes=samples.vector_bytes,
        vector_registers=int(samples.single.get("registers", 0)),
        isa=cpu_flags(),
        peak_flops_per_s=FrozenDict(peaks),
        peak_flops_per_s_core=FrozenDict(samples.peak("one")),
        peaks_by_width=FrozenDict(samples.peaks),
        levels=find_levels(samples),
        curves=FrozenDict({k: tuple(v) for k, v in samples.curves.items()}),
        spreads=FrozenDict({k: v for k, v in samples.spreads.items() if k != "registers"}),
        measured_on=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        compiler=compiler,
        notes=(*notes, *samples.notes, *(v for k, v in _ABSENT.items() if k not in peaks)),
        **extra,
    )


_SINGLE = {
    "barrier": "launch",
    "sync": "barrier",
    "wake": "wake",
    "page_fault": "fault",
    "huge_page_fault": "fault_huge",
}
