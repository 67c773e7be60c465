"""What each decision may be for a region on a chip, and a good first guess.

Every limit is the chip's own: lanes of a block, registers of a lane, local memory of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.triton.attend import AttentionWriter
from epitaxy.proposers.triton.choices import Choices, Genome, of
from epitaxy.proposers.triton.emit import Writer, largest, scheduled, write_region
from epitaxy.proposers.triton.expressions import power
from epitaxy.proposers.triton.products import LEAST_BLOCK, PRECISION, ProductWriter
from epitaxy.proposers.triton.routed import StageWriter
from epitaxy.proposers.triton.rows import RowWriter

Space = dict[str, tuple[int, ...]]
HELD = 16
"""Elements of a tile that one lane holds, to begin with."""
LARGE = 1 << 16


def known(chip: Chip, name: str, otherwise: float) -> int:
    """A number of the chip's file, or another where it is not known."""
    fact = chip.facts.get(name)
    return int(float(fact.value) if fact else otherwise)


def powers(low: int, high: int) -> tuple[int, ...]:
    """The powers of two from `low` to `high`."""
    return tuple(1 << n for n in range(low.bit_length() - 1, max(low, high).bit_length()))


def warps_for(elements: int, chip: Chip, held: int = HELD) -> int:
    """Warps that a tile of so many elements needs where each lane holds `held` of them."""
    lanes = known(chip, "warp_lanes", 32)
    most = known(chip, "block_lanes", 1024) // lanes
    wanted = max(1, elements // (lanes * held))
    return min(most, 1 << (wanted - 1).bit_length())


def first_guess(region: Region, chip: Chip) -> Choices:
    """A tile that fills the lanes of a few warps, and pieces enough for all cores."""
    start = Choices(block_m=1024, block_n=1 << 14, split=0)
    guess = _fitted(region, start, chip)
    cores = max(2, chip.cores)
    writers = write_region(region, guess).writers
    few = [w for w in writers if isinstance(w, RowWriter) and w.rows < cores and not w.flat]
    if any(w.rows * w.columns > LARGE for w in few):
        pieces = 1 << (4 * cores - 1).bit_length()
        guess = _fitted(region, replace(start, split=pieces), chip)
    return guess


def _fitted(region: Region, start: Choices, chip: Chip) -> Choices:
    """`start` with a tile for the region's largest kernel."""
    writers = write_region(region, start).writers
    main = max(writers, key=_work)
    if isinstance(main, ProductWriter):
        return _product(main, start, chip)
    if isinstance(main, AttentionWriter):
        return _attention(main, start, chip)
    if isinstance(main, StageWriter):
        return _experts(main, start, chip)
    guess = _rows(main, start, chip)
    try:
        write_region(region, guess)
    except Unsupported:  # what cannot be folded in pieces is folded whole
        columns = power(main.columns)
        most = max(1, known(chip, "block_lanes", 1024) * HELD // columns)
        block_m = min(guess.block_m, most)
        warps = warps_for(block_m * columns, chip)
        guess = replace(guess, block_n=columns, block_m=block_m, warps=warps)
    return guess


def exactness(chip: Chip) -> tuple[int, ...]:
    """How the chip may multiply float32 as exactly as float32, the fastest first."""
    fact = chip.facts.get("float_products")
    names = str(fact.value).split() if fact else ["ieee"]
    return tuple(PRECISION.index(n) for n in names if n in PRECISION)


def _product(writer: ProductWriter, start: Choices, chip: Chip) -> Choices:
    """Tiles of 128 x 128, smaller ones where they would leave cores without one."""
    bm, bn = 128, 128
    while bm * bn > 64 * 32 and writer.m * writer.n // (bm * bn) < chip.cores:
        bm, bn = (bm // 2, bn) if bm >= bn else (bm, bn // 2)
    block_k = 64 if writer.item <= 2 else 32
    warps = 8 if bm * bn >= 128 * 128 else 4
    chosen = replace(start, block_m=bm, block_n=bn, block_k=block_k, warps=warps, stages=3)
    return replace(chosen, stages=3, operands=exactness(chip)[0])


def _attention(writer: AttentionWriter, start: Choices, chip: Chip) -> Choices:
    """Queries, keys, values and sums of a block share the registers: float32 takes half as many."""
    block_m, block_n = (64, 32) if writer.key.dtype == "float32" else (128, 64)
    chosen = replace(start, block_m=block_m, block_n=block_n, warps=4, stages=2)
    return replace(chosen, operands=exactness(chip)[0])


def _experts(writer: StageWriter, start: Choices, chip: Chip) -> Choices:
    """As high as an expert's share of the rows, where each goes to one; products side by side
    share the registers, and the blocks in flight the local memory."""
    share = power(max(LEAST_BLOCK, writer.m // writer.what.expert.size))
    wide = 64 if len(writer.products) > 1 else 128
    deep = 64 if writer.item <= 2 else 32
    chosen = replace(start, block_m=min(128, share), block_n=wide, block_k=deep, warps=4, stages=2)
    return replace(chosen, operands=exactness(chip)[0])


def _work(writer: Writer | StageWriter) -> int:
    if isinstance(writer, StageWriter):
        return writer.m * writer.n * writer.k * len(writer.products)
    if isinstance(writer, ProductWriter):
        return 2 * writer.m * writer.n * writer.k * size_of(writer.what.batch)
    if isinstance(writer, AttentionWriter):
        return writer.what.work
    return writer.rows * writer.columns * size_of(writer.scalars)


def _rows(writer: RowWriter, start: Choices, chip: Chip) -> Choices:
    room = known(chip, "block_lanes", 1024) * HELD
    if writer.flat:
        return replace(start, block_m=1024, block_n=1, warps=warps_for(1024, chip, 8))
    columns = 1 << (writer.columns - 1).bit_length()
    block_n = min(columns, room)
    if writer.alone:  # rows lie next to each other in memory
        block_n = min(columns, 128)
        block_m = max(2, min(64, room // block_n))
    else:
        block_m = max(1, min(1024 // block_n, power(writer.rows)))
    warps = warps_for(block_m * block_n, chip)
    return replace(start, block_m=block_m, block_n=block_n, warps=warps)


def space(region: Region, guess: Choices, chip: Chip) -> Space:
    """The values of each decision that are tried for a region."""
    lanes = known(chip, "warp_lanes", 32)
    most = known(chip, "block_lanes", 1024)
    found: Space = {"warps": powers(1, most // lanes)}
    writers = [w for w in write_region(region, guess).writers if isinstance(w, RowWriter)]
    room = most * 4 * HELD
    if any(not isinstance(w, RowWriter) for w in write_region(region, guess).writers):
        found |= {"warps": tuple(w for w in (2, 4, 8) if w <= most // lanes)}
        found |= {"stages": (1, 2, 3, 4, 5), "block_m": powers(16, 256), "block_n": powers(16, 256)}
        found |= {"operands": exactness(chip)} if len(exactness(chip)) > 1 else {}
        if any(isinstance(w, ProductWriter) for w in write_region(region, guess).writers):
            found |= {"block_k": powers(16, 128), "group": (1, 4, 8, 16)}
        if region.routed is not None:
            found |= {"block_k": powers(16, 128)}
        return found
    if any(w.flat for w in writers):
        found["block_m"] = powers(128, 8192)
    upright = [w for w in writers if not w.flat]
    if upright:
        columns = max(1 << (w.columns - 1).bit_length() for w in upright)
        found["block_n"] = powers(min(64, columns), min(columns, room))
        found.setdefault("block_m", powers(1, 256))
    if guess.split:
        found["split"] = tuple(guess.split * k // 4 for k in (1, 2, 4, 8, 16))
    return found


def excess(region: Region, choices: Choices, chip: Chip) -> str:
    """The chip's limit that the region's kernels exceed, with how much they want; "" when none: a
    lane holds its share of the largest tile in its registers, a block its operands in local
    memory."""
    lanes = choices.warps * known(chip, "warp_lanes", 32)
    most = known(chip, "lane_registers", 255)
    local = known(chip, "block_local_bytes", 1 << 16)
    writers = write_region(region, choices).writers
    for writer in writers:
        if not isinstance(writer, RowWriter) and writer.local_bytes > local:
            return (
                f"{writer.local_bytes} bytes of operands in local memory, a block of {chip.name} "
                f"has {local} (block_local_bytes)"
            )
        together = len(writer.products) if isinstance(writer, StageWriter) else 1
        if writer.bm * writer.bn * together > lanes * most // 2:
            return (
                f"{writer.bm} x {writer.bn} sums for {lanes} lanes, a lane of {chip.name} has "
                f"{most} registers (lane_registers)"
            )
    return ""


def start(regions: Sequence[Region], chip: Chip) -> Genome:
    """The first genome: every region's first guess."""
    return tuple((r.name, first_guess(r, chip)) for r in regions)


def spaces(regions: Sequence[Region], genome: Genome, chip: Chip) -> dict[str, Space]:
    """The space of each region, the largest first."""
    ordered = sorted(regions, key=lambda r: -largest(r))
    return {r.name: space(r, of(genome, r.name), chip) for r in ordered}


__all__ = ["Writer", "excess", "first_guess", "known", "scheduled", "space", "spaces",
           "start"]  # fmt: skip
