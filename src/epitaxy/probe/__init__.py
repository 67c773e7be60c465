"""This machine's real peaks, measured with small programs of our own: `epitaxy probe`.

    flops.cpp     multiply-adds by dtype and vector width, one core and all
    memory.cpp    read, write, streaming write and copy bandwidth by working set
    latency.cpp   a random pointer chase by working set, huge and small pages
    overhead.cpp  starting and synchronising threads, first touch of pages

Samples are taken in rounds over all quantities and summed up as medians with 10-90 % spreads.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from epitaxy import memory
from epitaxy.chip import Chip
from epitaxy.compiler import cpu_flags, find_compiler
from epitaxy.errors import BadInput
from epitaxy.probe import host, programs, store
from epitaxy.probe.store import load_measured

__all__ = ["load_measured", "measured_chip", "probe"]

QUICK_S = 12.0
LEAST_S = 10.0
_MIB = 1 << 20
_STEPS = (
    ("flops", "measuring arithmetic", 0.07),
    ("overhead", "measuring threads", 0.03),
    ("memory", "measuring bandwidth", 0.6),
    ("latency", "measuring latency", 0.2),
    ("flops", "measuring arithmetic again", 0.07),
    ("overhead", "measuring threads again", 0.03),
)
"""Program, what the user reads, share of the time. What is short to measure is measured twice, far
apart, because a neighbour can slow a machine down for seconds."""

Progress = Callable[[float, str], None]


def probe(progress: Progress | None = None, budget_s: float = 60.0) -> Chip:
    """Measure this machine within `budget_s` seconds, store the chip and return it.

    `progress` hears (fraction from 0 to 1, what is going on). Raises NoCompiler, MachineFault
    when a program fails, BadEnvironment when the result cannot be stored.
    """
    if not budget_s >= LEAST_S:
        raise BadInput(f"a probe of {budget_s:g} s is too short", f"give it {LEAST_S:g} s or more")
    with store.alone():
        return _probe(progress or (lambda fraction, text: None), budget_s)


def measured_chip(progress: Progress | None = None, quick: bool = True) -> Chip:
    """This machine's stored chip, or else the result of a probe (quick: about 12 s) made now."""
    stored = load_measured()
    if stored is not None:
        return stored
    with store.alone():
        # Another process may have measured while this one waited for the lock.
        stored = load_measured()
        tell = progress or (lambda fraction, text: None)
        return stored or _probe(tell, QUICK_S if quick else 60.0)


def _probe(tell: Progress, budget_s: float) -> Chip:
    from epitaxy.probe.summary import make_chip

    begin = time.monotonic()
    tell(0.0, "building the probe")
    compiler = find_compiler()
    cpus = host.core_cpus()
    lines: list[programs.Line] = []
    with tempfile.TemporaryDirectory(prefix="epitaxy-probe-") as folder:
        binaries = programs.build(compiler, Path(folder))
        wrong, notes = programs.check_loops(binaries, fused="fma" in cpu_flags())
        # The programs' set-up and last rounds come on top of their shares: keep a quarter or more.
        wanted_s = min(0.76 * budget_s, 0.6 * budget_s + 4.0)
        left_s = max(wanted_s - (time.monotonic() - begin), 0.3 * budget_s)
        done = 0.1
        for name, text, share in _STEPS:
            plan = _plan(name, share * left_s, cpus)

            def step(
                fraction: float, base: float = done, span: float = share, says: str = text
            ) -> None:
                tell(min(0.999, base + 0.9 * span * fraction), says)

            step(0.0)
            lines += programs.run(binaries[name], plan, step)
            done += 0.9 * share
    chip = make_chip(programs.merge(lines), str(compiler), wrong, notes)
    store.save(chip)
    tell(1.0, "measured")
    return chip


def _plan(name: str, share_s: float, cpus: tuple[int, ...]) -> programs.Plan:
    """Finer sweeps over larger sets where there is time; never more than an eighth of memory."""
    long = share_s > (4.0 if name == "latency" else 12.0)
    most = (512 if long else 256) * _MIB
    if name == "latency":
        most //= 2
    most = min(most, max(memory.available_bytes() // 8, 32 * _MIB))
    return programs.Plan(
        budget_s=share_s,
        threads=len(cpus),
        per_octave=2 if long or name == "latency" else 1,
        most_bytes=most,
        cpus=cpus,
    )
