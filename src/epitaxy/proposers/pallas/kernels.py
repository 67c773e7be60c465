"""From a region's loop nests to Pallas kernels: blocks of whole rows, element-wise or folded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epitaxy.chip import Chip
from epitaxy.proposers._frames import Array, frame_of
from epitaxy.proposers._genomes import Choices, Genome, of, text
from epitaxy.proposers._nests import OTHER_KERNELS, Known, Memory, Nests, described
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.pallas.attend import Attend, write_attention
from epitaxy.proposers.pallas.calls import BUFFERS, Call, Limits, Result, limits
from epitaxy.proposers.pallas.expressions import STORED, Expressions, needed_helpers
from epitaxy.proposers.pallas.products import Product, whole, write_product

HEADER = '''"""Pallas TPU kernels of {names}, grown by epitaxy: {genome}"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
'''
MEMORY = Memory(STORED, "TPU")
LIVE = 2
"""Blocks of float32 that a kernel's intermediate values take beside."""


class Blocks:
    """The blocks of one loop nest. `large` is the same nest at larger sizes."""

    def __init__(
        self, kernel: Kernel, choices: Choices, its: Limits, large: Blocks | None = None
    ) -> None:
        self.kernel, self.frame, self.its = kernel, frame_of(kernel), its
        self.pad = max(0, 2 - len(self.frame.axes))
        self.sizes = [1] * self.pad + [a.size for a in self.frame.axes]
        folded = set(kernel.inner)
        self.folded = [False] * self.pad + [a in folded for a in self.frame.axes]
        self.where = {a: d + self.pad for d, a in enumerate(self.frame.axes)}
        self.blocks = self._cut(choices) if large is None else self._like(large)
        self.grid = [d for d in range(len(self.sizes)) if self._stepped(d, large)]

    def _cut(self, choices: Choices) -> list[int]:
        """The block along each dimension: whole, or a legal piece of it."""
        last = len(self.sizes) - 1
        lead = max((d for d in range(last - 1) if not self.folded[d]), default=-1)
        made = []
        for d, size in enumerate(self.sizes):
            block = 1
            if self.folded[d]:
                block = size
            elif d == last:
                block = whole(choices["columns"], size, self.its.lanes)
            elif d == last - 1:
                block = whole(choices["rows"], size, self.its.sublanes)
            elif d == lead:
                block = min(size, choices["lead"])
            made.append(block)
        return made

    def _like(self, large: Blocks) -> list[int]:
        if large.folded != self.folded:
            raise Unsupported("other loops at other sizes")
        pairs = zip(large.blocks, large.sizes, self.sizes, strict=True)
        return [now if block == size else max(1, block * now // size) for block, size, now in pairs]

    def _stepped(self, d: int, large: Blocks | None) -> bool:
        if large is not None:
            return d in large.grid
        return self.blocks[d] < self.sizes[d]

    @property
    def steps(self) -> tuple[int, ...]:
        """The grid."""
        return tuple(-(-self.sizes[d] // self.blocks[d]) for d in self.grid) or (1,)

    def shape(self, array: Array) -> tuple[int, ...]:
        """A buffer's shape in the frame."""
        return (*([1] * self.pad), *array.shape)

    def block(self, array: Array) -> tuple[int, ...]:
        """The block of a buffer."""
        return tuple(
            1 if n == 1 else b for n, b in zip(self.shape(array), self.blocks, strict=True)
        )

    def bytes(self, array: Array) -> int:
        """Bytes of the block in VMEM."""
        return self.its.bytes(self.block(array), array.dtype)

    def positions(self, lines: Sequence[str]) -> list[str]:
        """Where each place of a block is, along the axes whose positions `lines` use."""
        words = set(re.findall(r"\w+", "\n".join(lines)))
        found = []
        for axis, d in self.where.items():
            if f"at_{axis.name}" in words:
                shape = tuple(b if n == d else 1 for n, b in enumerate(self.blocks))
                along = f"lax.broadcasted_iota(jnp.int32, {shape}, {d})"
                if d in self.grid:
                    step = f"pl.program_id({self.grid.index(d)})"
                    along = f"{step} * {self.blocks[d]} + {along}"
                found.append(f"at_{axis.name} = {along}")
        return found

    def spec(self, array: Array) -> str:
        """The text of a BlockSpec."""
        names = [f"i{n}" for n in range(len(self.steps))]
        at = dict(zip(self.grid, names, strict=False))
        shape = self.shape(array)
        index = [at[d] if d in at and shape[d] > 1 else "0" for d in range(len(shape))]
        return f"pl.BlockSpec({self.block(array)}, lambda {', '.join(names)}: ({', '.join(index)}))"


Cut = Blocks | Product | Attend
"""How a kernel of each kind is cut."""


@dataclass(frozen=True)
class Written:
    """One kernel's text, its call, its results' names, and its helper functions."""

    text: str
    call: tuple[str, ...]
    results: tuple[str, ...]
    helpers: frozenset[str]
    blocks: Cut

    @property
    def attends(self) -> bool:
        """Whether it is attention."""
        return isinstance(self.blocks, Attend)


def write_kernel(
    name: str, kernel: Kernel, known: Known, choices: Choices, its: Limits,
    large: Cut | None,
) -> Written:  # fmt: skip
    """A kernel of maps and reductions with the call that runs it. Raises Unsupported."""
    if kernel.attention is not None:
        return _attention(name, kernel, known, choices, its, large)
    if kernel.contraction is not None:
        return _product(name, kernel, known, choices, its, large)
    if large is not None and not isinstance(large, Blocks):
        raise Unsupported(OTHER_KERNELS)
    made = Blocks(kernel, choices, its, large)
    arrays = MEMORY.read(kernel, known, made.frame)
    inputs = _distinct(list(arrays.values()))
    renamed = {a: replace(a, name=n) for n, a in inputs.items()}
    arrays = {x: renamed[a] for x, a in arrays.items()}
    outputs = MEMORY.written(kernel, made.frame)
    writer = Expressions(arrays, made.where, at={a: f"at_{a.name}" for a in made.where})
    writer.count_uses([t.value for t in kernel.targets])
    for target, array in zip(kernel.targets, outputs, strict=True):
        value = writer.use(target.value)
        all_of_it = made.block(array)
        if target.value.axes != frozenset(target.axes):
            value = f"jnp.broadcast_to({value}, {all_of_it})"
        if target.dtype != target.value.dtype:
            value = f"({value}).astype(jnp.{target.dtype})"
        writer.lines.append(f"{array.name}_ref[...] = {value}")
    refs = [f"{x}_ref" for x in (*inputs, *(o.name for o in outputs))]
    body = [f"# {described(kernel)}", *made.positions(writer.lines), *writer.lines]
    source = "\n".join([f"def {name}({', '.join(refs)}):", *(f"    {x}" for x in body), ""])
    call = _call(name, made, list(inputs.items()), outputs)
    if large is None:
        _fits(made, [*inputs.values(), *outputs])
    results = tuple(o.name for o in outputs)
    return Written(source, call, results, frozenset(writer.helpers), made)


def _product(
    name: str, kernel: Kernel, known: Known, choices: Choices, its: Limits,
    large: Cut | None,
) -> Written:  # fmt: skip
    assert kernel.contraction is not None
    if large is not None and not isinstance(large, Product):
        raise Unsupported(OTHER_KERNELS)
    made = Product(kernel.contraction, choices, its.lanes, its.sublanes, large)
    source, call, helpers = write_product(name, kernel, known, made, its.vmem_bytes)
    return Written(source, call, (kernel.targets[0].buffer,), helpers, made)


def _attention(
    name: str, kernel: Kernel, known: Known, choices: Choices, its: Limits, large: Cut | None
) -> Written:
    assert kernel.attention is not None
    if large is not None and not isinstance(large, Attend):
        raise Unsupported(OTHER_KERNELS)
    made = Attend(kernel.attention, choices, its, large)
    source, call, helpers = write_attention(name, kernel, known, made)
    return Written(source, call, (kernel.targets[0].buffer,), helpers, made)


def _distinct(arrays: list[Array]) -> dict[str, Array]:
    """Each array once, under a name of its own: a tensor that is read in two orders has two."""
    found: dict[str, Array] = {}
    for array in arrays:
        if array in found.values():
            continue
        name, number = array.name, 1
        while name in found:
            number += 1
            name = f"{array.name}_as{number}"
        found[name] = array
    return found


def _fits(made: Blocks, arrays: Sequence[Array]) -> None:
    held = sum(BUFFERS * made.bytes(a) for a in arrays)
    widest = max(made.bytes(replace(a, dtype="float32")) for a in arrays)
    made.its.hold(held + LIVE * widest)


def _call(
    name: str, made: Blocks, inputs: list[tuple[str, Array]], outputs: list[Array]
) -> tuple[str, ...]:
    given = tuple((_given(made, a), made.spec(a)) for _, a in inputs)
    results = tuple(Result(o.name, made.spec(o), made.shape(o), o.dtype) for o in outputs)
    return Call(name, made.steps, given, results, made.its.vmem_bytes).lines()


def _given(made: Blocks, array: Array) -> str:
    """A buffer as the kernel's argument: reshaped, and transposed where its order differs."""
    if not array.permutation:
        return f"{array.name}.reshape({made.shape(array)})"
    sizes = tuple(a.size for a in array.memory)
    moved = f"{array.name}.reshape({sizes}).transpose({array.permutation})"
    return f"{moved}.reshape({made.shape(array)})"


@dataclass(frozen=True)
class Text:
    """A region's kernels with the function that runs them."""

    text: str
    helpers: frozenset[str]
    kernels: tuple[Written, ...]


def write_region(region: Region, choices: Choices, chip: Chip, large: Text | None = None) -> Text:
    """The kernels of a region; `large` is the same at larger sizes. Raises Unsupported."""
    its = limits(chip)
    made = Nests.of(region, len(large.kernels) if large else -1)
    bigger = [w.blocks for w in large.kernels] if large else [None] * len(made.kernels)
    written = [
        write_kernel(f"_{region.name}_kernel{n}", k, made.known, choices, its, big)
        for n, (k, big) in enumerate(zip(made.kernels, bigger, strict=True))
    ]
    parts = [w.text for w in written] + [_launcher(region, written)]
    helpers = frozenset().union(*(w.helpers for w in written))
    return Text("\n\n".join(parts), helpers, tuple(written))


def _launcher(region: Region, written: Sequence[Written]) -> str:
    inputs = [f"x{i}" for i in range(len(region.inputs))]
    lines = [f'"""{region.name} replaces {", ".join(region.source) or "a region"}."""']
    lines += [x for w in written for x in w.call]
    given = [f"y{i}.reshape({s.shape})" for i, s in enumerate(region.outputs)]
    lines.append(f"return [{', '.join(given)}]")
    head = ["@_epitaxy_arrays", f"def _{region.name}({', '.join(inputs)}):"]
    return "\n".join([*head, *[f"    {x}" for x in lines], ""])


def write_source(
    regions: Sequence[Region], genome: Genome, chip: Chip, large: Sequence[Region] | None = None
) -> str:
    """`kernels.py` with all regions of a genome. Raises Unsupported."""
    parts = []
    for number, region in enumerate(regions):
        chosen = of(genome, region.name)
        big = write_region(large[number], chosen, chip) if large else None
        parts.append(write_region(region, chosen, chip, big))
    header = HEADER.format(names=", ".join(r.name for r in regions), genome=text(genome))
    helpers = needed_helpers(set().union(*(p.helpers for p in parts)))
    return "\n\n".join(part for part in (header, helpers, *(p.text for p in parts)) if part)
