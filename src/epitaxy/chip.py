"""Chip: facts of the silicon. It builds and runs nothing."""

from __future__ import annotations

from epitaxy.record import FrozenDict, Record, record


@record
class Level(Record):
    """One level of memory as a program sees it, all cores together unless said otherwise."""

    name: str
    bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float = 0.0
    stream_bytes_per_s: float = 0.0
    read_bytes_per_s_core: float = 0.0
    latency_s: float = 0.0


@record
class Chip(Record):
    """Facts of one chip. `levels` run from the smallest to the largest memory."""

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
