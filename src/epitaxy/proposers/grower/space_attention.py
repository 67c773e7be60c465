"""A good start for attention, from the sizes and the measured chip."""

from __future__ import annotations

from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower.attention import Attention, memory
from epitaxy.proposers.grower.contract import size_of, step
from epitaxy.proposers.grower.emit_attention import LINES
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.space_contract import WORTH_THREADS, cache_bytes, registers, tiles

OPTIONS: dict[str, tuple[int, ...]] = {
    "attend": (0, 1),
    "form": (0, 1),
    "mc": (6, 12, 24, 48, 72, 96, 144),
    "nc": (64, 96, 128, 192, 256, 384, 512, 1024),
    "split_k": (1, 2, 4, 8, 16),
    "pack_a": (0, 1),
    "pack_b": (0, 1),
    "unroll": (1, 2, 4),
    "dynamic": (0, 1),
    "prefetch": (0, 64, 256),
}
FEW = 4
"""Queries up to which keys are not worth a copy."""
EARLY = 16384
"""Bytes of keys and values that few queries, which read them once from memory, ask for early: the
hardware stops at the end of each page (decode of 1024 keys 0.78 to 1.0 of the time, by what else
memory does, two cores, Zen 5; keys at hand, or with gaps between them, 1.05)."""
KEYS = 256
"""Keys at a time, for eight tiles of rows. Where the second cache holds more than LARGE bytes they
are twice as many, for half the rows: running sums are scaled half as often."""
LARGE = 640 << 10


def guess(what: Attention, base: Choices, chip: Chip) -> Choices:
    """`base` with the decisions that suit `what`."""
    m, keys, batch = size_of(what.rows), size_of(what.weighted.keys), size_of(what.batch)
    tile_m, tile_n = next(tiles(chip))
    query, value = memory(what.weighted.query).index, memory(what.weighted.value).index
    down, along = step(query, what.rows) or 0, step(value, what.weighted.keys) or 0
    cores = chip.cores if what.work > WORTH_THREADS else 1
    lines = m <= FEW
    key = memory(what.weighted.key).index
    in_a_row = step(key, what.weighted.keys) == size_of(what.weighted.depth)
    far = lines and base.ahead and in_a_row
    large = cache_bytes(chip, 1) > LARGE
    nc, rows = (2 * KEYS, 4 * tile_m) if large else (KEYS, 8 * tile_m)
    while rows > 2 * tile_m and batch * -(-m // rows) < 4 * cores:
        rows -= tile_m
    tasks = batch * -(-m // rows)
    sets = size_of(what.shared)
    even = sets > 1 and (sets % cores == 0 or sets >= 8 * cores)
    split = min(-(-2 * cores // tasks), keys // 64) if tasks < cores else 1
    return replace(
        base,
        attend=1, threads=0 if cores > 1 else 1, stream=0,
        prefetch=EARLY // chip.vector_bytes if far and chip.vector_bytes >= 64 else 0,
        unroll=4 if registers(chip) >= 32 else 1,  # 2 to 4 % with tiles of 14 x 32, Zen 5
        dynamic=int(not even),
        form=LINES if lines else 0,
        tile_m=tile_m, tile_n=tile_n, mc=rows, nc=nc,
        split_k=max(1, split),
        pack_a=int(step(query, what.weighted.depth) != 1 or (down * 4) % 2048 == 0),
        pack_b=int(not lines and along * 4 >= 1024),
    )  # fmt: skip
