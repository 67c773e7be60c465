"""A good start for contractions, from the sizes and the measured chip, and where to go from it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator
from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Affine
from epitaxy.proposers.grower.contract import Contraction, load_of, size_of, step
from epitaxy.proposers.grower.emit_gemm import PAST, even, pieces
from epitaxy.proposers.grower.emit_thin import LINES, ROWS, TILES, TURNED, form_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.image import LINE

FLOAT_BYTES = 4
CACHES = (32 << 10, 512 << 10, 4 << 20)
"""Bytes of a core's caches where they are not known."""
LEAST_CYCLES = 6
"""Cycles of a step of few sums: each waits for its own last one. Measured, with two units."""
WORTH_THREADS = 1_000_000
"""Floating-point operations under which waking the other cores costs more than they bring."""

PANEL_AGAIN, ROWS_AGAIN = 0.4, 1.5
"""What reading a panel of the right operand and a row of the left one again for each block costs,
in multiply-adds: panels are in one piece."""
COPIED = 2.0
"""What copying a row of the left operand for a block costs, in multiply-adds of as many lanes."""
SHARED = 2.0
"""What copying the right operand for all threads costs, in multiply-adds of a row: it goes through
the last cache, and all wait for all."""
SHARED_ROWS = 96.0
"""What a copy of the left operand costs that more than two threads share, in multiply-adds: lines
that other cores have read are slow to write, and all wait for all (256 x 1024 x 1024 of weights in
8 bits 48 of 610 us, 512 x 768 x 1024 of bfloat16 48 of 510, four cores, Zen 5)."""
TAKEN = 10000
"""Multiply-adds in the time in which a thread takes its next block (0.1 to 0.2 us)."""
LATE = 0.1
"""How much of a block the cores wait for each other at the end, on average: none runs evenly."""
MANY_BLOCKS = 256
"""So many blocks end together, however they are shared."""
BRIEF = 64
"""Sums of so few products are cheap beside writing them: blocks better have long rows."""
NEXT_ROW = 1000
"""Multiply-adds in the time that going on to another row of the result costs, for each block: its
page is looked up, and fetching ahead starts anew (about 20 ns, measured at 4096 x 32 x 4096)."""
FEW_ROWS = 8
"""Thin products: one row of registers for each row, or nearly."""
WAYS = 8
"""Lines of one set of a first cache, at least."""
PAGE = 4096
"""Bytes apart at which lines share a set of a first cache, which holds a page of every way."""
DENSE_READS, DENSE_STEPS = 12, (192, 384)
"""How often the panels of a few columns, whose rows lie side by side in half of the second cache,
may be read there rather than from a copy, and of how many steps these are at least and at most
(128 x 32768 x 128, tiles of 11 x 32: 0.84 to 0.88 of the time, two and four cores)."""
NEAR_READS = 12
"""How often panels that stay in the first cache may be read where they lie (128 x 64 x 3136, tiles
of 13 x 32: 0.86 of the time, of 14 x 32 0.83, Zen 5)."""
READ_ROWS, SECOND_WAYS = 784, 16
"""Rows for which a panel is read in place; ways of a second cache. As judged on two cores with
AVX-512, in place: 509 x 1021 x 747 takes 0.96 of the time, 768 x 1024 x 896 0.95 and 0.99 (0.93 on
four), 256 x 1100 x 700 0.94; 1536 x 800 x 1200 and 2048 x 700 x 1100 1.01, 1000 cubed 1.12."""
LONG_BATCH = 128
"""Steps of the sums from which on products of many pairs are read where they lie: 0.89 to 0.95 of
the time with 256 and 512 steps, no difference with 128, 1.05 with 64 (two cores, Zen 5)."""
FEW_COLUMNS = 256
"""With fewer the left operand is read too seldom to be copied, if only because its rows collide."""
LONG = 1024
"""Steps after which sums are put aside, about: with more nothing is won."""
RESULTS = 8
"""A result of this part of the last cache is written past it, rather than read in order to be
written. Of four cores, and of two: 4096 x 32 x 4096 takes 0.80 and 0.86 of the time, 2048 x 128 x
2048 0.79 and 0.75, 8192 x 64 x 512 0.84 and 0.93, 2048 x 1024 x 2048 0.96; 8192 x 256 x 192, which
would stay there, 0.96 (Zen 5)."""
LONG_RESULT = 1 << 16
"""Elements of a result that is small when the contracted axis is long."""

OPTIONS: dict[str, tuple[int, ...]] = {
    "form": (0, 1, 4, 2, 3),
    "tile_m": (2, 3, 4, 5, 6),
    "tile_n": (1, 2, 3, 4),
    "kc": (64, 128, 256, 512, 768, 1024, 1536),
    "mc": (24, 48, 72, 96, 144, 192, 384, 1536),
    "nc": (64, 128, 256, 512, 1024, 2048),
    "across": (0, 1),
    "ahead": (0, 1),
    "split_k": (1, 2, 4, 8, 16),
    "pack_a": (0, 1),
    "pack_b": (0, 1, PAST),
    "winograd": (0, 2),
    "squares": (16, 32, 64, 128, 224),
    "unroll": (1, 2, 4, 8),
    "dynamic": (0, 1),
    "prefetch": (0, 16, 64),
    "stream": (0, 1),
}


def options(chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision about a contraction may take on `chip`."""
    found = dict(OPTIONS)
    if registers(chip) >= 32:
        found["tile_m"] = (4, 6, 8, 10, 12, 14)
    return found


def guess(what: Contraction, base: Choices, chip: Chip, weights: Collection[int] = ()) -> Choices:
    """`base` with the decisions that suit `what`: register tile, blocks, copies, threads. Copies of
    `weights` may be kept."""
    if _turned(what, chip, weights):
        made = guess(what.turned, base, chip, weights)
        if made.form == TILES and made.split_k == 1:  # its sums cannot be shared
            kept = load_of(what.left).buffer in weights
            return replace(made, form=TURNED, pack_b=max(made.pack_b, int(kept)))
    m, n, k = size_of(what.rows), size_of(what.columns), size_of(what.inner)
    lanes = base.width
    first, second = cache_bytes(chip, 0), cache_bytes(chip, 1)
    a, b = load_of(what.left).index, load_of(what.right).index
    long = k >= 4 * max(m, n) and m * n < LONG_RESULT  # the threads share k, not the result
    ways = max(WAYS, first // PAGE)
    left, many = load_of(what.left), registers(chip) >= 32
    low = many and left.dtype == "float32" and left.buffer not in weights
    lower = _collides(a, what) and (long or low)  # no more rows than a set has ways
    tile_m, tile_n = min(
        (t for t in tiles(chip) if t[0] <= ways or not lower),
        key=lambda t: _cycles(m, n, lanes, *t),
    )
    reads = _reads(b, what, first)
    dense = second // (2 * n * FLOAT_BYTES) // 64 * 64 if long and many else 0
    if dense >= DENSE_STEPS[0]:
        reads = DENSE_READS
    at_hand = size_of(what.inner) * tile_n * lanes * FLOAT_BYTES <= first // 2
    if at_hand and many:
        reads = max(reads, NEAR_READS)
    pack_b = m > reads * tile_m or step(b, what.columns) != 1
    room = second * 3 // (4 * FLOAT_BYTES)
    shared = (
        size_of(what.batch) == 1 and m * LONG > room
    )  # several blocks of rows: one copy for all
    # Panels of such copies stream from the second cache; one's own copy had better stay there.
    streams = pack_b and not long and (shared or load_of(what.right).buffer in weights)
    near = second // 8 if streams else first // 2
    kc = max(64, min(LONG, near // (tile_n * lanes * FLOAT_BYTES)))
    kc = min(DENSE_STEPS[1], dense) if dense >= DENSE_STEPS[0] and not pack_b else kc
    kc = k if k <= kc * 3 // 2 else kc
    cores = chip.cores if what.work > WORTH_THREADS else 1
    copied = n > 2 * tile_n * lanes and _scattered(a, what, n, tile_m, ways, low)
    again = ROWS_AGAIN + (COPIED * lanes if copied else 0.0)
    sharing = 1 if long else cores
    crowd = cores > 2 and many
    packed = copied or left.dtype != "float32"
    all_wait = SHARED_ROWS / n if crowd and packed else 0.0
    common = PAST if crowd else 1
    mc, nc = _blocks(what, (tile_m, tile_n * lanes), min(kc, k), room, sharing, (again, all_wait))
    blocks = size_of(what.batch) * pieces(m, mc, tile_m) * pieces(n, nc, tile_n * lanes)
    split = min(-(-2 * cores // blocks), k // 128) if blocks < cores else 1
    if split > 1:  # as many depths to each part
        each = -(-k // split)
        kc = -(-each // -(-each // kc))
        kc = -(-kc // 4) * 4
    panels = second if k <= BRIEF else second // 2
    form = _form(what, m, second)
    if form == ROWS and cores > 1 and n < 64 * cores:
        form = TILES  # too narrow to share: the threads share k
    if form == LINES:
        tile_m, nc = min(4, max(1, m)), max(32, min(4096, n // (4 * cores)))
    elif form == ROWS:  # the sums wait in half of the first cache; one or two rows fit anyway
        held = first // 2 // (m * FLOAT_BYTES) // 64 * 64
        nc = max(64, min(4096 if m <= 2 else 512, n // cores, held))
    far = form == ROWS and m > 1 and n * k * FLOAT_BYTES > cache_bytes(chip, 2)
    return replace(
        base,
        threads=0 if cores > 1 else base.threads,
        unroll=4,
        prefetch=64 if far else 0,
        stream=int(leaves(what, base, chip, RESULTS)),
        across=int((base.stream or long) and min(n, nc) * min(k, kc) * FLOAT_BYTES <= panels),
        ahead=int(size_of(what.batch) == blocks > 1),  # each piece a product of its own
        dynamic=1,
        form=form, tile_m=tile_m, tile_n=tile_n, kc=kc, mc=mc, nc=nc,
        split_k=max(1, split),
        pack_a=int(copied),
        pack_b=common * int(pack_b and (long or not _in_place(what, chip))),
    )  # fmt: skip


def _turned(what: Contraction, chip: Chip, weights: Collection[int]) -> bool:
    """Whether lanes had better run along the rows: the right operand would be turned at every call,
    and the left one is a weight, of which a turned copy is kept (384 of channels last to 96 of
    channels first, 4 x 56 x 56 pixels: 0.70 of the time, four cores, Zen 5), or lies the other way
    round too, so that neither is turned (640 x 768 x 896: 0.95 of the time, two and four cores)."""
    if registers(chip) < 32 or form_of(TURNED, what) != TURNED or what.batch:
        return False
    left, right = load_of(what.left), load_of(what.right)
    if right.buffer in weights or right.dtype != "float32":
        return False
    apart = step(right.index, what.inner) == 1 != step(right.index, what.columns)
    both = step(left.index, what.rows) == 1 != step(left.index, what.inner)
    if left.buffer not in weights:
        return apart and both and left.dtype == "float32"
    vectors = size_of(what.rows) * FLOAT_BYTES // chip.vector_bytes
    return apart and size_of(what.columns) > size_of(what.rows) and vectors >= 2


def _in_place(what: Contraction, chip: Chip) -> bool:
    """Whether the right operand is better read where it lies although many rows read it: all wait
    for a common copy, which is cold. With many registers a panel is read seldom enough; its rows
    have to stay in the second cache, several to a page."""
    right, rows = load_of(what.right), size_of(what.rows)
    long = size_of(what.batch) == 1 or size_of(what.inner) >= LONG_BATCH
    few = long and rows <= READ_ROWS and registers(chip) >= 32
    if not few or right.dtype != "float32" or step(right.index, what.columns) != 1:
        return False
    down = (step(right.index, what.inner) or 0) * FLOAT_BYTES
    second = cache_bytes(chip, 1)
    lines, line = second // (LINE * FLOAT_BYTES), LINE * FLOAT_BYTES
    shared = math.gcd(down // line, lines // SECOND_WAYS) if down % line == 0 else 1
    return 0 < down <= PAGE * 7 // 8 and size_of(what.inner) <= lines // shared


def _form(what: Contraction, rows: int, second: int) -> int:
    """Thin products read the right operand as it lies: copying it would take as long. With some
    more rows that still holds for one several times as large as the `second` cache (bytes)."""
    if rows <= FEW_ROWS and form_of(LINES, what) == LINES:
        return LINES
    far = size_of(what.columns) * size_of(what.inner) * FLOAT_BYTES > 4 * second
    return form_of(ROWS, what) if rows <= FEW_ROWS or far else TILES


def _reads(index: Affine, what: Contraction, first: int) -> int:
    """How often panels of the right operand may be read where they lie, rather than from a copy:
    more often where a panel, a line of each row, stays in a cache of `first` bytes."""
    down = (step(index, what.inner) or 0) * FLOAT_BYTES
    sets = first // (LINE * FLOAT_BYTES * WAYS)
    apart = math.gcd(down // (LINE * FLOAT_BYTES), sets) if down % (LINE * FLOAT_BYTES) == 0 else 2
    return 6 if size_of(what.inner) <= WAYS * sets // max(1, apart) else 2


def _scattered(
    index: Affine, what: Contraction, columns: int, tile_m: int, ways: int, low: bool
) -> bool:
    """Whether the left operand is better read from a copy: it does not lie along the contracted
    axis, or its rows share sets of the caches and are read often, or more together than fit in the
    `ways` of a set. With many registers (`low`) tiles of as many rows as fit are high enough to
    read them where they lie: of 256 x 2048 x 2048, 1024 cubed, 512 x 1024 x 1024 and 128 x 2048 x
    2048 with weights 0.97, 0.96, 0.97 and 0.96 of the time (four cores, Zen 5)."""
    if step(index, what.inner) != 1:
        return True
    often = columns >= FEW_COLUMNS and not low
    return (tile_m > ways or often) and _collides(index, what)


def _collides(index: Affine, what: Contraction) -> bool:
    """Whether the rows of the left operand share sets of the caches."""
    down = step(index, what.rows) or 0
    return step(index, what.inner) == 1 and (down * FLOAT_BYTES) % PAGE == 0


def keeping(
    what: Contraction, base: Choices, chip: Chip, weights: Collection[int]
) -> Choices:  # fmt: skip
    """`base` with copies of `weights` kept. A copy of the right operand then costs nothing."""
    if not weights:
        return base
    given = not what.fetched and load_of(what.right).buffer in weights
    if not given or base.form != TILES:
        return replace(base, keep=1)
    return replace(base, keep=1, pack_b=1, **_streamed(what, base, chip))


def _streamed(what: Contraction, base: Choices, chip: Chip) -> dict[str, int]:
    """Decisions where a few rows meet weights from beyond the second caches, which take all the
    time: each thread reads its share from end to end, and waits for nobody's copy of the rows. What
    two tiles of rows read lies in the second cache when the second one does: of 16 x 4096 x 4096
    0.71 of the time, 28 x 8192 x 2048 0.76, 16 x 2048 x 8192 0.97, 24 x 4096 x 4096 1.01 (four
    cores, Zen 5)."""
    m, n, k = size_of(what.rows), size_of(what.columns), size_of(what.inner)
    held = chip.cores * cache_bytes(chip, 1)
    if m > 2 * base.tile_m or n * k * FLOAT_BYTES <= 2 * held or size_of(what.batch) > 1:
        return {}
    unit = base.tile_n * base.width
    whole = base.split_k == 1 and step(load_of(what.left).index, what.inner) == 1
    if not whole or n < 2 * chip.cores * unit:
        return {}
    nc = max(unit, min(512, n // (2 * chip.cores)) // unit * unit)
    kc = k if m <= base.tile_m or k <= LONG * 3 // 2 else LONG
    return {"kc": kc, "nc": nc, "dynamic": 0, "pack_a": 0, "ahead": 0}


def registers(chip: Chip) -> int:
    """Vector registers of one core."""
    return chip.vector_registers or (32 if chip.vector_bytes != 32 else 16)


def tiles(chip: Chip) -> Iterator[tuple[int, int]]:
    """Register tiles that leave room for a row of the right operand and one value of the left.

    Wider rows should do as well by this count, but 4 x 3 reached 0.7 of 6 x 2 (Zen 3, gcc 12).
    """
    for across in (2, 1):
        for down in range(14, 0, -1):
            if down * across + across + 1 <= registers(chip):
                yield down, across


def _cycles(m: int, n: int, lanes: int, tile_m: int, tile_n: int) -> float:
    """Cycles of one step along k for the whole result, with its narrow tiles at the edges."""
    vectors = -(-n // lanes)
    down = [(tile_m, m // tile_m), (m % tile_m, 1)]
    across = [(tile_n, vectors // tile_n), (vectors % tile_n, 1)]
    total = 0.0
    for r, r_count in down:
        for c, c_count in across:
            if r and c:
                each = max(r * c / 2, (r + c) / 2, LEAST_CYCLES)
                total += each * r_count * c_count
    return total


def _blocks(
    what: Contraction,
    tile: tuple[int, int],
    depth: int,
    room: int,
    cores: int,
    costs: tuple[float, float],
) -> tuple[int, int]:
    """(rows, columns) of a block: what the threads wait for each other and the panels that are
    read again and again, weighed; a block, its sums and its rows of the left operand fit `room`
    floats. `depth` steps of k are done at a time; `costs`: of a row in each block, and, as a share
    of the time, of a copy of the rows for several blocks."""
    again, all_wait = costs
    m, n, batch = size_of(what.rows), size_of(what.columns), size_of(what.batch)
    kept = depth < size_of(what.inner)  # sums wait for the next depth
    each = even(m, m, tile[0]), even(n, n, tile[1])
    if batch >= 4 * cores and each[0] * depth + kept * each[0] * each[1] <= room:
        return m, n  # a product is small enough
    short = size_of(what.inner) <= BRIEF and n > 1024
    widths = (64, 128, 256, 384, 512, 1024, *((2048, 4096) if short else ()))
    next_row = NEXT_ROW / size_of(what.inner) if short else 0.0
    best: tuple[float, int, int] = (-math.inf, tile[0], tile[1])
    for mc in (24, 32, 48, 64, 96, 128, 192, 256, 384):
        for nc in widths:
            high, wide = even(m, mc, tile[0]), even(n, nc, tile[1])
            if high * depth + kept * high * wide > room:
                continue
            late = LATE * high * wide * cores / (batch * m * n) if cores > 1 else 0.0
            shared = SHARED / m if high < m else 0.0
            taken = TAKEN / (high * wide * size_of(what.inner))
            rows = (again + next_row) / wide
            waste = PANEL_AGAIN / high + rows + late + shared + taken + all_wait * (wide < n)
            best = max(best, (_busy((m, n, batch), (high, wide), cores) - waste, mc, nc))
    return best[1], best[2]


def _busy(sizes: tuple[int, int, int], block: tuple[int, int], cores: int) -> float:
    """The share of the cores' time in which they work, when each takes the next block as it gets
    free. `sizes`: rows, columns, batches; `block`: rows, columns."""
    (m, n, batch), (high, wide) = sizes, block
    if batch * (m // high) * (n // wide) >= MANY_BLOCKS:
        return 1.0
    heights = [min(high, m - i) for i in range(0, m, high)]
    widths = [min(wide, n - j) for j in range(0, n, wide)]
    free = [0] * cores
    for _ in range(batch):
        for height in heights:
            for width in widths:
                heapq.heapreplace(free, free[0] + height * width)
    return batch * m * n / (cores * max(free))


def leaves(what: Contraction, base: Choices, chip: Chip, share: int) -> bool:
    """Whether results are written past the caches: where a vector is a line of these, and results
    would fill one `share`-th of the last one. Shorter vectors leave parts of lines, none of which
    is streamed well by itself."""
    results = size_of(what.batch) * size_of(what.rows) * size_of(what.columns) * FLOAT_BYTES
    return base.width == LINE and results >= last_cache(chip) // share


def last_cache(chip: Chip) -> int:
    """Bytes of the last cache that all cores share: what they hold there all together, but no more
    than each finds near it, since a set in the far part of it comes and goes with others' use."""
    if len(chip.levels) < 2:
        return 32 << 20
    level = chip.levels[-2]
    return min(level.bytes, level.bytes_core * chip.cores or level.bytes)


def cache_bytes(chip: Chip, number: int) -> int:
    """Bytes of a cache that one core has."""
    default = CACHES[number]
    if len(chip.levels) <= number + 1:
        return default
    level = chip.levels[number]
    return level.bytes_core or level.bytes // max(1, chip.cores) or default
