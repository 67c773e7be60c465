"""A good start for convolutions, from the sizes and the measured chip."""

from __future__ import annotations

from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.emit_filters import blocks_of, taps_of_row
from epitaxy.proposers.grower.emit_thin import FILTERS, TILES
from epitaxy.proposers.grower.emit_winograd import windows_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.image import LINE, Image, edges, image_of, lacking, worth
from epitaxy.proposers.grower.patch import patch_of
from epitaxy.proposers.grower.space_contract import (
    FLOAT_BYTES,
    WORTH_THREADS,
    cache_bytes,
    leaves,
    registers,
    tiles,
)

FEW_FILTERS = 96
"""With more the tile of few rows at the end, where they do not divide, costs nothing."""
LEAST_CHANNELS = 16
"""With fewer, turning pixels into squares and back costs more than is won by it."""
LEAST_SQUARES = 2
"""Vectors of squares for each core, at least: the filters, larger by far, are read for each."""
SQUARES = 7
"""Vectors of squares of a piece of a transformed convolution: their pixels fill the caches."""
MANY_PIXELS, SHARED_PIXELS = 20, 12
"""Pixels of a register tile of one vector of filters, at least: each is read once for one sum, or
once for some taps of a row, whose weights are in registers."""
LEAST_SHARED, SHARED_BY_TWO = 3, 11
"""Taps of a row with which tiles of two vectors of filters have this many pixels instead of 14, so
that taps share them: 0.98 to 1.00 of the time, four cores, Zen 5."""
SHARING = 4
"""Taps of a row for which pixels are read once, at most: with more nothing is gained."""
FULL, IDLE = 0.8, 0.75
"""Share of the lanes that filters fill at least, and that pixels fill at least to be preferred."""
FAR_STEPS = 64
"""Steps of the sum that filters are asked for ahead of their use, where they leave the caches."""
RESULTS = 4
"""Results of this part of the last cache are written past it (64 filters of 7 x 7: 0.90 of the
time, 128 of 1 x 1: 0.88 to 0.92, two cores, Zen 5)."""
BLOCKS = (32, 64, 96, 128, 192, 256, 384, 512)
"""Pixels of a block of a convolution whose lanes run along the filters."""
SHORT, PIECE = 160, 96
"""Steps of a sum that are done at once in this form, and those of a piece of longer ones: with
weights of a tile in a fifth of the first cache 1 to 4 % faster than in half (Zen 3). Where phases
lack taps two of 64 channels at once take 0.97 of the time of one after the other."""


def guess(what: Contraction, base: Choices, chip: Chip) -> Choices:
    """All rows at once, so that the image is read once, and as many pixels as the cache holds.

    Where pixels are read from the image (not packed), tiles of 4 x 3 do nearly as well as 6 x 2.
    """
    base = replace(base, stream=int(leaves(what, base, chip, RESULTS)))
    m, k, lanes = size_of(what.rows), size_of(what.inner), base.width
    *others, across = what.columns
    n = size_of(others) * -(-across.size // lanes) * lanes
    tile_m, tile_n = next(tiles(chip))
    image = image_of(what, lanes)
    image = image if image and worth(what, image) else None
    if image and m % tile_m and m % 4 == 0 and m < FEW_FILTERS and registers(chip) == 16:
        tile_m, tile_n = 4, 3
    if registers(chip) >= 32:
        tile_m = -(-m // -(-m // tile_m))
    kc = k if k <= 288 else 192
    if image and image.planes:
        step = _step_bytes(what, image, (tile_m, tile_n * lanes))
        kc = min(kc, cache_bytes(chip, 0) // 2 // step)
    unit = tile_n * lanes
    share = n * size_of(what.batch) // (2 * chip.cores)
    nc = max(unit, min(24 * lanes, share) // unit * unit)
    squares = _guess_squares(what, lanes, chip)
    filters = _guess_filters(what, base, chip)
    if filters and not squares:
        return replace(
            base, threads=0 if what.work > WORTH_THREADS else base.threads, unroll=4, dynamic=1,
            split_k=1, pack_a=1, pack_b=0, **filters,
        )  # fmt: skip
    return replace(
        base, threads=0 if what.work > WORTH_THREADS else base.threads, unroll=4,
        dynamic=int(not (image and image.planes)),  # each thread has copied what it reads
        split_k=1, tile_m=tile_m, tile_n=tile_n, kc=kc, mc=max(m, tile_m),
        nc=nc, pack_a=1, pack_b=0, form=FILTERS if filters else TILES, **squares,
    )  # fmt: skip


def _guess_filters(what: Contraction, base: Choices, chip: Chip) -> dict[str, int]:
    """Lanes along the filters where these fill them: blocks of which the copied piece of the image
    stays in the second cache, and enough pieces of work for the cores."""
    m, k, lanes = size_of(what.rows), size_of(what.inner), base.width
    tile = _filter_tile(what, lanes, chip)
    if tile is None or patch_of(what, 1, 1) is None:
        return {}
    tile_m, tile_n = tile
    high = tile_n * lanes
    room = cache_bytes(chip, 1) * 5 // 8
    pieces = size_of(what.batch) * size_of(what.columns)
    kept: list[tuple[int, int]] = []
    for nc in BLOCKS:
        deep, wide = blocks_of(what, nc)
        patch = patch_of(what, deep, wide)
        if patch is not None and patch.floats * FLOAT_BYTES <= room:
            kept.append((nc, pieces // (deep * wide)))
    far = m * k * FLOAT_BYTES > cache_bytes(chip, 1)
    many = [nc for nc, count in kept if count >= 4 * chip.cores]
    if registers(chip) >= 32 and not far:
        many = [nc for nc in many if _beside(what, nc, high, chip)] or many
    nc = max(many, default=min((nc for nc, _ in kept), default=BLOCKS[0]))
    deep, wide = blocks_of(what, nc)
    parts = -(-2 * chip.cores * deep * wide // pieces) if not many else 1
    kc = min(k, SHORT) if k <= SHORT or lacking(what) or edges(what) else PIECE
    return {
        "prefetch": FAR_STEPS if far else base.prefetch,
        "form": FILTERS, "tile_m": tile_m, "tile_n": tile_n, "kc": kc, "nc": nc,
        "mc": max(high, -(-m // parts) // high * high),
    }  # fmt: skip


def _filter_tile(what: Contraction, lanes: int, chip: Chip) -> tuple[int, int] | None:
    """(pixels, vectors of filters) of a register tile with lanes along the filters; None where
    these would leave more lanes idle than the pixels of a row do."""
    m, pixels = size_of(what.rows), what.columns[-1].size
    tile_m, tile_n = next(tiles(chip))
    taps, many = min(taps_of_row(what), SHARING), registers(chip) >= 32
    most = registers(chip) - 2 - max(2, taps)
    together = most // pixels * pixels or pixels // -(-pixels // most)
    used, rows = m / _whole(m, lanes), pixels / _whole(pixels, lanes)
    if m <= lanes and many and together >= (MANY_PIXELS if taps == 1 else SHARED_PIXELS):
        tile_m, tile_n = most, 1
    elif lanes <= m < tile_n * lanes and (lacking(what) or rows < IDLE):
        tile_m, tile_n = most if many else tile_m, 1
    elif many and taps >= LEAST_SHARED:
        tile_m = SHARED_BY_TWO
    if m < tile_n * lanes:
        return None
    return (tile_m, tile_n) if used >= FULL or rows < min(IDLE, used) else None


def _whole(size: int, lanes: int) -> int:
    return -(-size // lanes) * lanes


def _beside(what: Contraction, nc: int, high: int, chip: Chip) -> bool:
    """Whether a block's copy of the image, its sums for `high` filters and what the next copy is
    made from, which is fetched meanwhile, take three eighths of the second cache (8 x 128 x 56 x 56
    to 128 filters of 1 x 1: 0.96 of the time of twice as large blocks, four cores, Zen 5)."""
    deep, wide = blocks_of(what, nc)
    patch = patch_of(what, deep, wide)
    floats = 2 * patch.floats + deep * wide * high if patch else 0
    return floats * FLOAT_BYTES <= cache_bytes(chip, 1) * 3 // 8


def _step_bytes(what: Contraction, image: Image, tile: tuple[int, int]) -> int:
    """Bytes of the first cache that a step of the sum takes: filters, and its part of the lines
    that the taps of one row share."""
    rows, pixels = tile
    across = dict(image.sides[-1].terms)
    taps = size_of(a for a in what.inner if a in across)
    lines = 1 + -(-(pixels + taps // image.phases) // LINE)
    return FLOAT_BYTES * (rows + lines * LINE * min(taps, image.phases) // taps)


def _guess_squares(what: Contraction, lanes: int, chip: Chip) -> dict[str, int]:
    """Winograd's transform where it can be used and there are channels enough: squares of 2 x 2,
    whose results are as exact as without (4 x 4 is faster, and errs several times as much). Rows
    of squares are shared evenly among the cores."""
    count = squares_of(what)
    if count == 0 or count < LEAST_SQUARES * lanes * chip.cores:
        return {}
    across = -(-what.columns[-1].size // 2)
    rows = count // across
    rounds = -(-rows // (max(1, SQUARES * lanes // across) * chip.cores))
    return {"winograd": 2, "squares": -(-rows // (rounds * chip.cores)) * across}


def squares_of(what: Contraction) -> int:
    """Squares of 2 x 2 results where Winograd's transform can be used and is worth it, else 0."""
    if len(what.columns) < 2:
        return 0
    *images, y, x = what.columns
    if windows_of(what) is None or min(size_of(what.rows), what.inner[0].size) < LEAST_CHANNELS:
        return 0
    return size_of(images) * -(-y.size // 2) * -(-x.size // 2)
