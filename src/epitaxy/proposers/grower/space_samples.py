"""Which regions run sample by sample at first, and a good start for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Load, Region, walk
from epitaxy.proposers.grower.chains import HANDED_ON, Strip
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.slices import Sample, light, one_part, one_sample, read_again
from epitaxy.proposers.grower.space_contract import FLOAT_BYTES, cache_bytes
from epitaxy.proposers.grower.space_conv import LEAST_SQUARES, squares_of

LEAST_PIXELS = 64
"""Columns of a product, at least: its weights are read again for every sample."""
AGAIN = 0.8
"""How many times what parts of a sample read again they hand on, at least. Two widened blocks with
0.86 and 0.57 as much took 0.71 and 0.93 of their time, others with 0.67 and less as long as before
(four cores, Zen 5)."""
ROUNDS = 4
"""So many samples for each core end together, however many there are."""


def apart(samples: Mapping[str, Sample], chip: Chip) -> frozenset[str]:
    """The regions that run sample by sample at first: where there is a convolution among those
    that can, or kernels read a sample again, and the cores can share the samples evenly."""
    if not any(_gains(s) for s in samples.values()):
        return frozenset()
    return frozenset(n for n, s in samples.items() if _shared(s.count, chip) and _pixels(s, chip))


def _gains(sample: Sample) -> bool:
    return "aten.convolution.default" in sample.region.source or read_again(sample) >= HANDED_ON


def _shared(count: int, chip: Chip) -> bool:
    return count % chip.cores == 0 or count >= ROUNDS * chip.cores


def _pixels(sample: Sample, chip: Chip) -> bool:
    """Whether every product of one sample has pixels enough for each weight, or few weights."""
    kernels = plan(coalesce(sample.region), Choices()).kernels
    products = [k.contraction for k in kernels if k.contraction]
    return all(
        (size_of(c.columns) >= LEAST_PIXELS and _used(c, sample) and not _together(c, sample, chip))
        or (light(sample) and not c.fetched)
        for c in products
    )


def _together(what: Contraction, sample: Sample, chip: Chip) -> bool:
    """Whether only all samples together have squares enough for Winograd's transform."""
    least = LEAST_SQUARES * max(4, chip.vector_bytes // FLOAT_BYTES)
    squares = squares_of(what)
    return squares < least and squares * sample.count >= least * chip.cores


def _used(what: Contraction, sample: Sample) -> bool:
    """Whether a right operand that all samples share meets rows enough of each."""
    if what.fetched:
        return True
    read = {v.buffer for v in walk((what.right,)) if isinstance(v, Load)}
    shared = {*range(len(sample.region.inputs))} - sample.divided
    return not read <= shared or size_of(what.rows) >= LEAST_PIXELS


def options(
    samples: Mapping[str, Sample], strips: Mapping[str, Strip]
) -> dict[str, tuple[int, ...]]:
    """Each region's values of the decision `samples`."""
    return {n: (0, 1, *(strips[n].counts if n in strips else ())) for n in samples}


def parts(strips: Mapping[str, Strip], apart: frozenset[str], chip: Chip) -> dict[str, int]:
    """How many parts of a sample the regions of `apart` had better run for one after the other: so
    many that a core's second cache holds what they hand on, where all of it does not fit, and what
    is read for each part is little beside that."""
    found: dict[str, int] = {}
    near = cache_bytes(chip, 1)
    for strip in strips.values():
        if strip.bytes <= near or not apart.issuperset(strip.regions):
            continue
        count = next((c for c in strip.counts if strip.bytes <= c * near), 0)
        again = (count - 1) * strip.again
        if count and AGAIN * again <= strip.bytes and found.keys().isdisjoint(strip.regions):
            found |= dict.fromkeys(strip.regions, count)
    return found


def guess(
    region: Region, first_guess: Callable[[Region, Chip], Choices], chip: Chip, parts: int = 1
) -> Choices:
    """The first guess for one sample of `region`, or one of `parts` of it, by one core."""
    sample = one_sample(region)
    if sample is None:
        return first_guess(region, chip)
    piece = one_part(sample, parts) if parts > 1 else None
    made = first_guess((piece or sample).region, chip.replace(cores=1))
    stream = first_guess(region, chip).stream  # all samples' results leave the caches, or none do
    return replace(made, samples=1, threads=0, stream=stream)
