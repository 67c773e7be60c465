"""Which regions run sample by sample at first, and a good start for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Load, Region, walk
from epitaxy.proposers.grower.chains import HANDED_ON
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.slices import Sample, light, one_sample, read_again
from epitaxy.proposers.grower.space_contract import FLOAT_BYTES
from epitaxy.proposers.grower.space_conv import LEAST_SQUARES, squares_of

LEAST_PIXELS = 64
"""Columns of a product, at least: its weights are read again for every sample."""
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


def guess(region: Region, first_guess: Callable[[Region, Chip], Choices], chip: Chip) -> Choices:
    """The first guess for one sample of `region` by one core."""
    sample = one_sample(region)
    if sample is None:
        return first_guess(region, chip)
    made = first_guess(sample.region, chip.replace(cores=1))
    stream = first_guess(region, chip).stream  # all samples' results leave the caches, or none do
    return replace(made, samples=1, threads=0, stream=stream)
