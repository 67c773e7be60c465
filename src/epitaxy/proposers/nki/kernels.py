"""From a region's loop nests to NKI kernels: tiles of 128 partitions, rows along the free axes.

A dimension of the loops lies across the partitions, 128 at a time; those before it are loops of
their own, those after it and the folded ones are the free axes of a tile. Folding wants the folded
axes last, and takes the tile through a permuted view: on the chip, strides along the free axes
cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epitaxy.chip import Chip
from epitaxy.proposers._frames import frame_of
from epitaxy.proposers._genomes import Choices, Genome, of, text
from epitaxy.proposers._nests import OTHER_KERNELS, Known, Memory, Nests, described
from epitaxy.proposers.grower.algebra import Axis, Region
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.nki.attend import Attend, write_attention
from epitaxy.proposers.nki.instructions import STORED, Instructions
from epitaxy.proposers.nki.pieces import Pieces, write_pieces
from epitaxy.proposers.nki.products import Product, write_product

HEADER = '''"""NKI kernels of {names}, grown by epitaxy: {genome}"""

import nki.isa as nisa
import nki.language as nl
'''
PRODUCT = ("partitions", "stationary_columns", "moving_columns")
MEMORY = Memory(STORED, "NeuronCore")


@dataclass(frozen=True)
class Limits:
    """What the chip's file says: partitions, and bytes of one partition of SBUF."""

    partitions: int
    sbuf_bytes: int
    products: dict[str, int]
    """Limits of a product's operands, where they are known."""


def limits(chip: Chip) -> Limits:
    """The chip's limits. Raises Unsupported where its file does not know them."""
    for name in ("partitions", "sbuf_partition_bytes"):
        if name not in chip.facts:
            raise Unsupported(f"a chip whose file does not know {name}")
    facts = chip.facts
    products = {n: int(facts[n].value) for n in PRODUCT if n in facts}
    return Limits(products["partitions"], int(facts["sbuf_partition_bytes"].value), products)


class Tiles:
    """How one loop nest is cut: `loops`, the partition's axis and its piece, the free axes."""

    def __init__(self, kernel: Kernel, choices: Choices, its: Limits, large: Tiles | None) -> None:
        self.kernel, self.frame = kernel, frame_of(kernel)
        axes, folded = list(self.frame.axes), set(kernel.inner)
        kept = [a for a in axes if a not in folded]
        if not kept:
            raise Unsupported("a result without an axis for the partitions")
        self.across = (
            self._partition(axes, kept, choices, its) if large is None else _same(large, axes)
        )
        place = axes.index(self.across)
        self.loops = [a for a in axes[:place] if a not in folded]
        self.free = [a for a in axes if a != self.across and a not in self.loops]
        self.folded = [a for a in self.free if a in folded]
        self.last = self.free[-1] if self.free and self.free[-1] not in folded else None
        """A free axis that is not folded is taken piece by piece."""
        self.pieces = self._pieces(choices, its, large)
        self.its = its

    @staticmethod
    def _partition(
        axes: Sequence[Axis], kept: Sequence[Axis], choices: Choices, its: Limits
    ) -> Axis:
        """The axis across the partitions: the last that is kept, unless neighbours in memory
        would come to lie in different partitions and another could."""
        best = [a for a in kept if a != axes[-1]] or list(kept)
        return max(best, key=lambda a: (min(a.size, its.partitions), axes.index(a)))

    def _pieces(self, choices: Choices, its: Limits, large: Tiles | None) -> tuple[int, int]:
        """Elements of a tile along the partitions, and along the last free axis."""
        rows = min(self.across.size, its.partitions)
        columns = self.last.size if self.last else 1
        if large is not None:
            if (large.last is None) != (self.last is None) or len(large.loops) != len(self.loops):
                raise Unsupported("other loops at other sizes")
            if large.last and self.last and large.pieces[1] < large.last.size:
                columns = max(1, large.pieces[1] * self.last.size // large.last.size)
            if large.pieces[0] < large.across.size:
                rows = max(1, min(rows, self.across.size // 2))
            return rows, columns
        return rows, min(columns, choices["columns"])

    @property
    def lanes(self) -> int:
        """Elements of a tile along the partitions."""
        return self.pieces[0]

    @property
    def stepped(self) -> bool:
        """Whether the last free axis is taken piece by piece."""
        return self.last is not None and self.pieces[1] < self.last.size

    def extent(self, axis: Axis) -> int:
        """Elements of a whole tile along a free axis."""
        return self.pieces[1] if axis == self.last else axis.size

    @property
    def row_elements(self) -> int:
        """Elements of one partition of a tile with every free axis."""
        return math.prod(self.extent(a) for a in self.free)


def _same(large: Tiles, axes: Sequence[Axis]) -> Axis:
    place = large.frame.axes.index(large.across)
    if len(axes) != len(large.frame.axes):
        raise Unsupported("other loops at other sizes")
    return axes[place]


Cut = Tiles | Product | Pieces | Attend
"""How a nest is cut."""


@dataclass(frozen=True)
class Written:
    """One kernel's lines, indented once, and how it was cut."""

    lines: tuple[str, ...]
    tiles: Cut


def write_kernel(
    kernel: Kernel, known: Known, choices: Choices, its: Limits,
    large: Cut | None,
) -> Written:  # fmt: skip
    """The loops over one nest. Raises Unsupported."""
    if kernel.attention is not None:
        like = large if isinstance(large, Attend) else None
        attend = Attend(kernel.attention, its.products, like)
        return Written(tuple(write_attention(kernel, known, attend)), attend)
    if kernel.contraction is not None:
        bigger = large if isinstance(large, Product) else None
        product = Product(kernel.contraction, its.products, bigger)
        return Written(tuple(write_product(kernel, known, product)), product)
    if isinstance(large, Product | Attend):
        raise Unsupported(OTHER_KERNELS)
    if isinstance(large, Pieces):
        return _in_pieces(kernel, known, choices, its, large)
    tiles = Tiles(kernel, choices, its, large)
    arrays = MEMORY.read(kernel, known, tiles.frame)
    rows, columns = _bounds(tiles)
    writer = Instructions(arrays, tiles, rows, columns)
    lines, depth = [f"# {described(kernel)}"], 0
    for axis in tiles.loops:
        lines.append("    " * depth + f"for {axis.name} in nl.affine_range({axis.size}):")
        depth += 1
    for axis, piece, name in _stepping(tiles):
        count = -(-axis.size // piece)
        lines.append("    " * depth + f"for {name} in nl.affine_range({count}):")
        depth += 1
    for target, array in zip(kernel.targets, MEMORY.written(kernel, tiles.frame), strict=True):
        writer.store(target.value, array)
    lines += ["    " * depth + x for x in writer.lines]
    if large is None and writer.peak_bytes > its.sbuf_bytes:
        if kernel.inner and tiles.last is None:
            return _in_pieces(kernel, known, choices, its, None)
        raise _excess(writer.peak_bytes, its)
    return Written(tuple(lines), tiles)


def _in_pieces(
    kernel: Kernel, known: Known, choices: Choices, its: Limits, large: Pieces | None
) -> Written:
    """The nest with folded axes piece by piece. Raises Unsupported."""
    made = Pieces(kernel, choices["columns"], its.partitions, large)
    arrays = MEMORY.read(kernel, known, made.frame)
    results = MEMORY.written(kernel, made.frame)
    lines, peak_bytes = write_pieces(kernel, arrays, results, made)
    if large is None and peak_bytes > its.sbuf_bytes:
        raise _excess(peak_bytes, its)
    return Written((f"# {described(kernel)}, in pieces", *lines), made)


def _excess(peak_bytes: int, its: Limits) -> Unsupported:
    return Unsupported(
        f"{peak_bytes} bytes of a partition of SBUF, which has {its.sbuf_bytes} "
        "(sbuf_partition_bytes)"
    )


def _stepping(tiles: Tiles) -> list[tuple[Axis, int, str]]:
    found = [(tiles.across, tiles.pieces[0], "block")]
    if tiles.last is not None and tiles.stepped:
        found.append((tiles.last, tiles.pieces[1], "piece"))
    return found


def _bounds(tiles: Tiles) -> tuple[str, str]:
    """The slices of a tile along the partitions and along the last free axis."""
    rows, columns = tiles.pieces
    if tiles.across.size % rows or (tiles.last is not None and tiles.last.size % columns):
        raise Unsupported("sizes that tiles do not divide")
    across = f"block * {rows} : (block + 1) * {rows}"
    return across, f"piece * {columns} : (piece + 1) * {columns}" if tiles.stepped else ":"


@dataclass(frozen=True)
class Text:
    """A region as one NKI kernel, and how each of its nests was cut."""

    text: str
    nests: tuple[Written, ...]


def write_region(region: Region, choices: Choices, chip: Chip, large: Text | None = None) -> Text:
    """One kernel for a region; `large` is the same at larger sizes. Raises Unsupported."""
    its = limits(chip)
    made = Nests.of(region, len(large.nests) if large else -1)
    bigger = [w.tiles for w in large.nests] if large else [None] * len(made.kernels)
    nests = [
        write_kernel(k, made.known, choices, its, big)
        for k, big in zip(made.kernels, bigger, strict=True)
    ]
    inputs = [f"x{i}" for i in range(len(region.inputs))]
    lines = [f'"""{region.name} replaces {", ".join(region.source) or "a region"}."""']
    for i, spec in enumerate(region.outputs):
        lines.append(_tensor(f"y{i}", spec.shape, MEMORY.storable(spec.dtype)))
    for name, (dtype, numel) in made.temporaries.items():
        lines.append(_tensor(name, (numel,), MEMORY.storable(dtype)))
    lines += [x for w in nests for x in w.lines]
    lines.append(f"return {', '.join(f'y{i}' for i in range(len(region.outputs)))}")
    head = ["@_epitaxy_arrays", f"def _{region.name}({', '.join(inputs)}):"]
    return Text("\n".join([*head, *[f"    {x}" for x in lines], ""]), tuple(nests))


def _tensor(name: str, shape: tuple[int, ...], dtype: str) -> str:
    return f"{name} = nl.ndarray({shape or (1,)}, dtype=nl.{dtype}, buffer=nl.shared_hbm)"


def write_source(
    regions: Sequence[Region], genome: Genome, chip: Chip, large: Sequence[Region] | None = None
) -> str:
    """`kernels.py` with all regions of a genome. Raises Unsupported."""
    parts = []
    for number, region in enumerate(regions):
        chosen = of(genome, region.name)
        big = write_region(large[number], chosen, chip) if large else None
        parts.append(write_region(region, chosen, chip, big).text)
    header = HEADER.format(names=", ".join(r.name for r in regions), genome=text(genome))
    return "\n\n".join([header, *parts])
