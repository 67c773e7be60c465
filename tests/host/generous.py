"""A chip so fast that no time is below its floor."""

from epitaxy.chip import Chip, Level

GENEROUS = Chip(
    id="c", name="c", vendor="v", kind="cpu", measured=True,
    peak_flops_per_s={"float32": 1e12},
    levels=(Level(name="DRAM", bytes=0, read_bytes_per_s=1e12, write_bytes_per_s=1e12),),
)  # fmt: skip
"""Peaks that nothing here reaches: no probing, and no time below the floor."""
