"""First guesses for element-wise kernels and for windows, from what was measured of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from epitaxy.proposers.grower.algebra import TRANSCENDENTAL, Load, Map, Reduce, Scan, walk
from epitaxy.proposers.grower.emit_kernel import SMALL_WINDOW, lane_axis, turns_out
from epitaxy.proposers.grower.emit_planes import IN_PLANES, MOST_TAPS, plane_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.grower.windows import IN_GROUPS

PAGE = 4096
"""Bytes: the hardware foresees what is read no further than to the end of a page."""
IN_REGISTERS = 4
"""Vectors of a window's results handled together where vectors have 16 lanes."""
FEW_TAPS = 25
"""Taps up to which a copy of each plane gains where vectors have 8 lanes."""
UNROLLED = 8
"""Chunks of a tile that kernel.h's loops write out; more are kept in memory."""


def guess(kernels: Sequence[Kernel], choices: Choices, lanes: int) -> Choices:
    """`choices` with the width, tile and distance of fetches that element-wise kernels and windows
    of `kernels` want."""
    plain = [k for k in kernels if not k.whole]
    if not plain or len(plain) < len(kernels):
        return choices
    reduced = sum(bool(k.inner) for k in plain)
    largest = max(plain, key=lambda k: k.numel)
    if not reduced and _polynomials(largest):
        choices = replace(choices, width=_chains(largest, lanes, choices), unroll=1)
    if lanes <= 8:  # nothing of what follows has been measured with shorter vectors
        return choices
    small = [k for k in plain if _window(k, choices)]
    if small and len(small) == reduced:
        tile = min(_tile(k, choices, lanes) for k in small)
        choices = replace(choices, tile=tile, windows=IN_GROUPS)
    if choices.ahead and any(_scattered(k, choices) for k in plain):
        choices = replace(choices, prefetch=PAGE // (4 * lanes))
    elif choices.ahead and _one_stream(largest, choices):
        choices = replace(choices, prefetch=2 * PAGE // (4 * lanes))
    return choices


def planes(kernels: Sequence[Kernel], choices: Choices, lanes: int) -> Choices:
    """`choices` with depthwise convolutions worked out from padded copies of their planes: 0.34 to
    0.72 of the time for 3 x 3 to 7 x 7 taps on planes of 7 to 112 pixels (Zen 5, two cores); with
    vectors of 8 lanes 0.42 to 0.84, but 1.13 for 7 x 7."""
    most = MOST_TAPS if lanes > 8 else FEW_TAPS
    found = [k for k in kernels if not k.whole and plane_of(k, lane_axis(k, choices))]
    if not found or any(math.prod(a.size for a in k.inner) > most for k in found):
        return choices
    return replace(choices, windows=IN_PLANES)


def turned(kernels: Sequence[Kernel], choices: Choices, lanes: int) -> Choices:
    """`choices` with tiles whose sums stay in registers where columns are reduced and turned: a
    norm over channels, written channels last (0.98 of the time of twice as wide, four cores)."""
    for kernel in kernels:
        lane = None if kernel.whole else lane_axis(kernel, choices)
        if lane in kernel.outer and any(
            turns_out(kernel, t, lane, choices) for t in kernel.targets
        ):
            return replace(choices, tile=UNROLLED * lanes)
    return choices


def _polynomials(kernel: Kernel) -> int:
    """How many transcendental functions it computes for each element.

    Their long chains of dependent instructions fill the processor's schedulers; several registers
    to a value set independent chains side by side (a quarter less time for softplus, mish and elu
    on Zen 3).
    """
    values = kernel.values
    return sum(isinstance(v, Map) and v.fn in TRANSCENDENTAL for v in values)


def _chains(kernel: Kernel, lanes: int, choices: Choices) -> int:
    """Lanes of a value of dependent polynomials. With vectors of 16 lanes a single function that
    leaves the caches waits for memory, and streams written one register at a time are up to 8 %
    faster (tanh, two cores, Zen 5); with two functions two registers are (softplus 8 %)."""
    if lanes <= 8:
        return 4 * lanes
    return lanes if choices.stream and _polynomials(kernel) == 1 else 2 * lanes


def _window(kernel: Kernel, choices: Choices) -> bool:
    """Whether every lane reduces a small window of its own."""
    points = math.prod(a.size for a in kernel.inner)
    return (
        bool(kernel.inner) and points <= SMALL_WINDOW and lane_axis(kernel, choices) in kernel.outer
    )


def _tile(kernel: Kernel, choices: Choices, lanes: int) -> int:
    """The row of results where it is short, else four vectors: more results than loops are written
    out for leave the registers (maxpool1d: 1.2 to 1.3 times as fast with 4 as with 16, Zen 5)."""
    lane = lane_axis(kernel, choices)
    assert lane is not None
    return choices.tile if lane.size <= UNROLLED * lanes else IN_REGISTERS * lanes


def _scattered(kernel: Kernel, choices: Choices) -> bool:
    """Whether it reads short rows one after the other, in several places at once: the hardware,
    which stops at the end of each page, falls behind (rotary 1.2, a 3 x 3 pool 1.2 times as fast on
    one core with fetches a page ahead, Zen 5; long rows gain nothing)."""
    lane = lane_axis(kernel, choices)
    values = kernel.values
    loads = [v for v in values if isinstance(v, Load)]
    if lane is None or lane.size * 4 >= PAGE or any(v.indirect for v in loads):
        return False
    if any(isinstance(v, Scan) for v in values):
        return False
    return kernel.inner == () or _window(kernel, choices)


def _one_stream(kernel: Kernel, choices: Choices) -> bool:
    """Whether it reads one operand along the lanes, once, and only sums up, or keeps running sums:
    a single stream for each thread, with which memory is seldom busy (fetches two pages ahead: on
    average 0.93 of the time of ten sums, 0.9 of four running ones, two cores, Zen 5; of two streams
    0.95 of running sums, nothing of others). From the rows' ends the hardware does worse: 0.5."""
    lane = lane_axis(kernel, choices)
    if lane is None or lane not in kernel.inner:
        return False
    values = kernel.values
    scans = [v for v in values if isinstance(v, Scan)]
    reduces = [v for v in values if isinstance(v, Reduce)]
    again = any(isinstance(v, Reduce) for r in reduces for v in walk((r.arg,)))
    if again or (scans and reduces) or bool(scans) != any(lane in t.axes for t in kernel.targets):
        return False
    loads = [v for v in values if isinstance(v, Load) and lane in v.axes]
    streams = all(not v.indirect and v.index.coefficient(lane) == 1 for v in loads)
    return streams and (len(loads) == 1 or bool(scans))
