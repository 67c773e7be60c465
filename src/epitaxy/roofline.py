"""The only floor: the least time that a chip's measured peaks allow for a problem's work.

    floor = max(flops / peak of the dtype, bytes / bandwidth where the working set lives)

Bandwidths come from the measured curve at the very size of the working set (between two measured
sizes: a straight line in the logarithms), or, on a chip known from its datasheet, from the
smallest level that holds it. Reads go at read bandwidth and writes at the better of plain and
streaming stores; bytes that can be paired into a copy go at the best copy rate where that is
faster, because reads and writes overlap. The roofline model: Williams, Waterman, Patterson,
"Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from epitaxy.chip import Chip, Level
from epitaxy.errors import BadInput
from epitaxy.problem import Work
from epitaxy.verdict import Floor

MARGIN = 0.4
"""A time below MARGIN x floor is a bug or a cheat, not a fast kernel.

Floors are made of medians, and a shared machine wanders around them. On a 4-core cloud machine
DRAM bandwidth had a median of 63 GB/s with 112 at its 95 % point (a true time of 0.56 x floor),
and a neighbour can halve the arithmetic rate for minutes, so that a probe made in such a minute
gives a floor twice too high (0.5). A set slightly larger than a cache can also keep part of itself
there from call to call. 0.4 leaves a fifth below the worst of these; work that was skipped
altogether falls far beneath it, and work that was halved is for the correctness checks to find.
"""

_STANDS = {
    "float16": ("float32",),
    "bfloat16": ("float32",),
    "float32": ("bfloat16",),
    "int8": ("bfloat16", "float32"),
    "float64": ("float32",),
}
"""Whose peak stands for one that is not known. A chip that multiplies bfloat16 alone makes a
product of float32 of several of these: its peak is a rate that float32 cannot exceed."""
_KINDS = ("read", "write", "stream", "copy", "copy_stream")


def floor(problem_work: Work, chip: Chip, working_set_bytes: int) -> Floor:
    """The least time (s) for `problem_work` on all of `chip`, and what sets it.

    `working_set_bytes` is everything that is touched between two uses of the same byte (inputs,
    parameters and outputs of one call, or of all rotating calls). A dtype without a peak of its
    own for which another stands says so in `limit`. Raises BadInput when the chip has no
    usable peak or bandwidth.
    """
    compute_s, compute = _compute(problem_work, chip)
    memory_s, memory = _memory(problem_work, chip, working_set_bytes)
    return Floor(
        time_s=max(compute_s, memory_s),
        limit=compute if compute_s > memory_s else memory,
        compute_s=compute_s,
        memory_s=memory_s,
        measured=chip.measured,
    )


def algebra(
    reference: Work, own: Work | None, chip: Chip, working_set_bytes: int, time_s: float
) -> float:
    """How many times less work than the reference a candidate does: the ratio of their floors.

    `own` is the work that the candidate says it does; None: the same. A time (s) far below the
    reference's floor shows better algebra whatever is said. At least 1.
    """
    limit = floor(reference, chip, working_set_bytes)
    found = 1.0
    if own is not None:
        least_s = floor(own, chip, working_set_bytes).time_s
        found = limit.time_s / least_s if least_s > 0 else 1.0
    if below_physics(time_s, limit):
        found = max(found, limit.time_s / time_s)
    return max(1.0, found)


def below_physics(time_s: float, floor: Floor) -> bool:
    """Whether `time_s` is impossible even when the machine ran at its best (see MARGIN)."""
    return time_s < MARGIN * floor.time_s


def ridge(chip: Chip, dtype: str) -> float:
    """Flops per byte from main memory above which `dtype` work is bound by compute.

    Raises BadInput when the chip has no peak for `dtype` or no memory bandwidth.
    """
    peak, _ = _peak(chip, dtype)
    return peak / _known(chip, chip.levels[-1:])[-1].read_bytes_per_s


def home_level(chip: Chip, working_set_bytes: int) -> Level:
    """The smallest level with a known bandwidth that holds the set; else the largest one."""
    levels = _known(chip, chip.levels)
    holds = [v for v in levels if v.bytes == 0 or v.bytes >= working_set_bytes]
    return holds[0] if holds else levels[-1]


def bandwidths(chip: Chip, working_set_bytes: int) -> dict[str, float]:
    """Bytes per second of all cores at this working set, by kind; 0.0 where unknown.

    Kinds: read, write, stream, copy, copy_stream (copies count bytes read and written).
    """
    level = home_level(chip, working_set_bytes)
    return {
        kind: _at(chip.curves[kind], working_set_bytes)
        if chip.curves.get(kind)
        else float(getattr(level, f"{kind}_bytes_per_s"))
        for kind in _KINDS
    }


def _known(chip: Chip, levels: Sequence[Level]) -> list[Level]:
    known = [v for v in levels if v.read_bytes_per_s > 0]
    if not known:
        raise BadInput(f"{chip.name} has no known memory bandwidth", "measure it: epitaxy probe")
    return known


def _peak(chip: Chip, dtype: str) -> tuple[float, str]:
    """The peak (operations/s) for `dtype` and how the limit is called."""
    peaks = chip.peak_flops_per_s
    if peaks.get(dtype, 0.0) > 0:
        return peaks[dtype], "compute"
    wide = next((d for d in _STANDS.get(dtype, ()) if peaks.get(d, 0.0) > 0), "")
    if wide:
        return peaks[wide], f"compute ({wide} peak: none known for {dtype})"
    raise BadInput(
        f"{chip.name} has no known peak for {dtype}",
        f"it has one for {', '.join(peaks) or 'nothing'}; measure this machine: epitaxy probe",
    )


def _compute(work: Work, chip: Chip) -> tuple[float, str]:
    if work.flops <= 0:
        return 0.0, "compute"
    peak, name = _peak(chip, work.dtype)
    return work.flops / peak, name


def _memory(work: Work, chip: Chip, working_set_bytes: int) -> tuple[float, str]:
    if work.bytes <= 0:
        return 0.0, "memory"
    speed = bandwidths(chip, working_set_bytes)
    read = speed["read"]
    # Where nothing is known of writes, the datasheet's one bandwidth stands for both.
    write = max(speed["write"], speed["stream"]) or read
    copy = max(speed["copy"], speed["copy_stream"])
    apart_s = work.bytes_read / read + work.bytes_written / write
    best_s = apart_s
    if copy > 0:
        paired = min(work.bytes_read, work.bytes_written)
        rest_s = (work.bytes_read - paired) / read + (work.bytes_written - paired) / write
        best_s = min(apart_s, 2 * paired / copy + rest_s)
    return best_s, f"memory: {home_level(chip, working_set_bytes).name}"


def _at(curve: Sequence[tuple[float, float]], size: float) -> float:
    """A bandwidth curve at `size` bytes; constant beyond its ends.

    No set is slower than a larger one: a dip is a disturbance, not a limit.
    """
    points: list[tuple[float, float]] = []
    best = 0.0
    for at, value in sorted(curve, reverse=True):
        best = max(best, value)
        points.insert(0, (at, best))
    if size <= points[0][0]:
        return points[0][1]
    for (a, low), (b, high) in itertools.pairwise(points):
        if size <= b:
            part = math.log(size / a) / math.log(b / a)
            return math.exp(math.log(low) + part * math.log(high / low))
    return points[-1][1]
