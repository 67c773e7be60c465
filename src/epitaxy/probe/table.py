"""A measured chip as rows of text, for the command line and the docs."""

from __future__ import annotations

from epitaxy.chip import Chip, Level

HEADER = ("what", "all cores", "one core", "10-90 %")


def table(chip: Chip) -> list[tuple[str, str, str, str]]:
    """Rows under HEADER: peaks, bandwidths and latencies by level, overheads."""
    rows = []
    for key, value in chip.peaks_by_width.items():
        dtype, bits, whom = key.split()
        if whom == "all" or chip.cores == 1:
            low, high = chip.spreads[key]
            one = chip.peaks_by_width.get(f"{dtype} {bits} one", 0.0)
            spread = f"{_giga(low)}-{_giga(high)}"
            rows.append((f"{dtype}, {bits} bit, Gop/s", _giga(value), _giga(one), spread))
    for level in chip.levels:
        rows += _level_rows(level)
    for name, value in (
        ("empty parallel region, µs", chip.barrier_s),
        ("the same after a pause, µs", chip.wake_s),
        ("barrier, µs", chip.sync_s),
        ("first touch of a 4 KiB page, µs", chip.page_fault_s),
        ("first touch of a 2 MiB page, µs", chip.huge_page_fault_s),
    ):
        rows.append((name, f"{value * 1e6:.3g}", "", _spread_us(chip, name)))
    return rows


_SPREADS = {"empty": "launch", "the": "wake", "barrier,": "barrier"}


def _spread_us(chip: Chip, name: str) -> str:
    key = "fault_huge" if "2 MiB" in name else _SPREADS.get(name.split()[0], "fault")
    if key not in chip.spreads:
        return ""
    low, high = chip.spreads[key]
    return f"{low * 1e6:.3g}-{high * 1e6:.3g}"


def _level_rows(level: Level) -> list[tuple[str, str, str, str]]:
    name = level.name
    rows = [
        (f"{name} size", _size(level.bytes), _size(level.bytes_core), ""),
        (
            f"{name} read, GB/s",
            _giga(level.read_bytes_per_s),
            _giga(level.read_bytes_per_s_core),
            "",
        ),
    ]
    for what, plain, stream in (
        ("write", level.write_bytes_per_s, level.stream_bytes_per_s),
        ("copy", level.copy_bytes_per_s, level.copy_stream_bytes_per_s),
    ):
        rows.append(
            (f"{name} {what} plain | streaming, GB/s", f"{_giga(plain)} | {_giga(stream)}", "", "")
        )
    waits = f"{level.latency_s * 1e9:.3g} | {level.small_page_latency_s * 1e9:.3g}"
    return [*rows, (f"{name} latency huge | 4 KiB pages, ns", "", waits, "")]


def _giga(value: float) -> str:
    return f"{value / 1e9:.3g}" if value < 1e12 else f"{value / 1e9:.0f}"


def _size(count: int) -> str:
    for unit, scale in (("GiB", 30), ("MiB", 20)):
        if count >= 1 << scale:
            return f"{count / (1 << scale):.3g} {unit}"
    return f"{count / 1024:.3g} KiB"
