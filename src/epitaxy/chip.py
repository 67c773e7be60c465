"""Chip: facts of the silicon. It builds and runs nothing."""

from __future__ import annotations

from typing import Any

from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict, Record, make_callable, record

CONFIDENCES = ("computed", "derived", "measured")


@record
class Level(Record):
    """One level of memory as a program sees it, all cores together unless said otherwise.

    `bytes` is the largest working set that still runs at this level's speed; 0 means unbounded.
    `bytes_core` is what one core sees of it at random. Copy rates count bytes read and written.
    0.0 is "not known".
    """

    name: str
    bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float = 0.0
    stream_bytes_per_s: float = 0.0
    read_bytes_per_s_core: float = 0.0
    latency_s: float = 0.0
    bytes_core: int = 0
    copy_bytes_per_s: float = 0.0
    copy_stream_bytes_per_s: float = 0.0
    small_page_latency_s: float = 0.0


@record
class Fact(Record):
    """One datasheet fact: `confidence` is "A" (primary text read), "B" (secondary), "computed",
    "derived" or "measured"; `sources` are keys of the chip's `sources`."""

    value: Any
    unit: str
    confidence: str
    sources: tuple[str, ...]

    def validate(self) -> None:
        if self.confidence[:1] not in ("A", "B") and self.confidence not in CONFIDENCES:
            raise BadInput(f"confidence {self.confidence!r} is not shipped", "use A, B or measured")
        if not self.sources:
            raise BadInput("a fact without a source", "name the source")


@record
class Chip(Record):
    """Facts of one chip. `levels` run from the smallest to the largest memory.

    Peaks are operations per second by dtype (a multiply and an add are two), all cores unless
    `_core`; `peaks_by_width` has keys like "float32 256 all" and "float32 256 one".
    `curves` holds (bytes, value) by working set: "read", "write", "stream", "copy" and
    "copy_stream" in bytes/s for all cores, "read core" ... for one; "latency" and
    "latency small pages" in seconds. `spreads` are the 10 % and 90 % quantiles by the same names.
    `barrier_s` is an empty parallel region of all cores, `sync_s` a barrier inside one, `wake_s`
    a region after a pause, `page_fault_s` the first touch of a 4 KiB page.
    Measured values are medians, taken on `measured_on` (UTC); `notes` say what is missing.
    """

    # The default hides Record.id (a property without a setter): a chip has an id of its own.
    id: str = ""
    name: str
    vendor: str
    kind: str
    measured: bool = False
    cores: int = 1
    vector_bytes: int = 0
    vector_registers: int = 0
    isa: tuple[str, ...] = ()
    peak_flops_per_s: FrozenDict[float] = FrozenDict()
    levels: tuple[Level, ...] = ()
    barrier_s: float = 0.0
    peak_flops_per_s_core: FrozenDict[float] = FrozenDict()
    peaks_by_width: FrozenDict[float] = FrozenDict()
    curves: FrozenDict[tuple[tuple[float, float], ...]] = FrozenDict()
    spreads: FrozenDict[tuple[float, float]] = FrozenDict()
    sync_s: float = 0.0
    wake_s: float = 0.0
    page_fault_s: float = 0.0
    huge_page_fault_s: float = 0.0
    measured_on: str = ""
    compiler: str = ""
    notes: tuple[str, ...] = ()
    year: int = 0
    status: str = ""
    aliases: tuple[str, ...] = ()
    facts: FrozenDict[Fact] = FrozenDict()
    sources: FrozenDict[str] = FrozenDict()
    conflicts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def find_chip(name: str) -> Chip:
    """The shipped chip of that id, alias or unambiguous prefix: `epitaxy.chip("h100")`."""
    from epitaxy.chip_facts import find

    return find(name)


make_callable(__name__, find_chip)
