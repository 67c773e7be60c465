"""From regions to Triton: one kernel for each loop nest, and a function that launches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from epitaxy.proposers.grower.algebra import Map, Reduce, Region, Value
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.genome import Choices as Scalars
from epitaxy.proposers.grower.rewrite import coalesce, rebuild
from epitaxy.proposers.grower.schedule import Kernel, plan
from epitaxy.proposers.triton.attend import AttentionWriter
from epitaxy.proposers.triton.choices import Choices, Genome, of, text
from epitaxy.proposers.triton.expressions import Written, needed_helpers
from epitaxy.proposers.triton.products import ProductWriter
from epitaxy.proposers.triton.routed import StageWriter, experts_of, stages_of
from epitaxy.proposers.triton.routing import kernels_of
from epitaxy.proposers.triton.rows import RowWriter

LEAST_SPLIT = 16
"""Pieces of a reduction that is cut, at sizes for an interpreter."""
Buffers = dict[int, tuple[str, str, int]]
HEADER = '''"""Triton kernels of {names}, grown by epitaxy: {genome}"""

import torch
import triton
import triton.language as tl
'''


def scheduled(
    region: Region, choices: Choices
) -> tuple[Region, list[Kernel], dict[str, tuple[str, int]]]:
    """The region, its kernels in order and its temporaries (name -> dtype, elements)."""
    region = coalesce(region)
    if region.whole:
        raise Unsupported("steps that feed each other, or rows that go where data says")
    made = plan(region, Scalars(width=1, split=choices.split, attend=1))
    return region, made.kernels[made.first :], made.temporaries


Writer = RowWriter | ProductWriter | AttentionWriter


def writer_of(
    kernel: Kernel, choices: Choices, buffers: Buffers, like: Writer | StageWriter | None = None
) -> Writer:
    """The writer of one kernel, by what it is; `like` is that of the same kernel at larger sizes.

    Raises Unsupported.
    """
    what = kernel.contraction
    if what is not None and 1 in (size_of(what.rows), size_of(what.columns)):
        kernel = folded(kernel, what)
    if kernel.attention is not None:
        bigger = like if isinstance(like, AttentionWriter) else None
        return AttentionWriter(kernel, choices, buffers, kernel.attention, bigger)
    if kernel.contraction is not None:
        larger = like if isinstance(like, ProductWriter) else None
        return ProductWriter(kernel, choices, buffers, kernel.contraction, larger)
    return RowWriter(kernel, choices, buffers, like if isinstance(like, RowWriter) else None)


def folded(kernel: Kernel, what: Contraction) -> Kernel:
    """A product with a vector as rows that are folded: a tile of `tl.dot` would be nearly empty."""

    def wide(v: Value) -> Value:
        kind = what.total.dtype
        return v if v.dtype == kind else Map("cast", (v,), kind)

    product = Map("mul", (wide(what.left), wide(what.right)), what.total.dtype)
    total = Reduce("sum", what.inner, product, what.total.dtype)
    (target,) = kernel.targets
    value = rebuild(target.value, lambda v: total if v == what.total else None, {})
    return Kernel((replace(target, value=value),), what.result, what.inner)


@dataclass(frozen=True)
class Text:
    """A region's kernels and launcher, the helpers that they call, and what wrote them."""

    text: str
    helpers: frozenset[str]
    writers: tuple[Writer | StageWriter, ...]


def write_region(region: Region, choices: Choices, like: Text | None = None) -> Text:
    """The kernels of a region with the function that launches them. Raises Unsupported.

    `like` is the same region at larger sizes, whose structure is kept.
    """
    if region.routed is not None:
        return _experts(region, choices, like)
    region, kernels, temporaries = scheduled(region, choices)
    buffers: Buffers = {i: (f"x{i}", s.dtype, s.numel) for i, s in enumerate(region.inputs)}
    for i, (name, (dtype, numel)) in enumerate(temporaries.items()):
        buffers[len(region.inputs) + i] = (name, dtype, numel)
    if like is not None and len(like.writers) != len(kernels):
        raise Unsupported("other kernels at other sizes")
    larger = like.writers if like is not None else [None] * len(kernels)
    writers = [writer_of(k, choices, buffers, big) for k, big in zip(kernels, larger, strict=True)]
    written = [w.write(f"_{region.name}_kernel{n}") for n, w in enumerate(writers)]
    return _joined(region, written, temporaries, writers)


def _experts(region: Region, choices: Choices, like: Text | None) -> Text:
    experts = experts_of(region)
    larger = None
    if like is not None:
        larger = [w for w in like.writers if isinstance(w, StageWriter)]
    stages = stages_of(experts, choices, larger)
    written = list(kernels_of(experts, stages, f"_{region.name}_kernel"))
    return _joined(region, written, experts.temporaries, stages)


def _joined(
    region: Region, written: Sequence[Written], temporaries: dict[str, tuple[str, int]],
    writers: Sequence[Writer | StageWriter],
) -> Text:  # fmt: skip
    helpers = frozenset().union(*(w.helpers for w in written))
    parts = [w.text for w in written] + [_launcher(region, written, temporaries)]
    return Text("\n\n".join(parts), helpers, tuple(writers))


def _launcher(
    region: Region, written: Sequence[Written], temporaries: dict[str, tuple[str, int]]
) -> str:
    inputs = [f"x{i}" for i in range(len(region.inputs))]
    lines = [f'"""{region.name} replaces {", ".join(region.source) or "a region"}."""']
    lines += [f"{x} = {x}.contiguous()  # {s}" for x, s in zip(inputs, region.inputs, strict=True)]
    where = f"{inputs[0]}.device" if inputs else '"cuda"'
    for i, spec in enumerate(region.outputs):
        lines.append(f"y{i} = torch.empty({spec.shape}, dtype=torch.{spec.dtype}, device={where})")
    for name, (dtype, numel) in temporaries.items():
        lines.append(f"{name} = torch.empty({numel}, dtype=torch.{dtype}, device={where})")
    for one in written:
        given = [*one.arguments, *(f"{k}={v}" for k, v in (*one.constants, *one.options))]
        lines.append(f"{one.name}[({one.programs},)]({', '.join(given)})")
    lines.append(f"return [{', '.join(f'y{i}' for i in range(len(region.outputs)))}]")
    head = f"def _{region.name}({', '.join(inputs)}):"
    return "\n".join([head, *[f"    {x}" for x in lines], ""])


def write_source(
    regions: Sequence[Region], genome: Genome, small: Sequence[Region] | None = None
) -> tuple[str, str]:
    """`kernels.py` with all regions of a genome, and the same at the sizes of `small` ("" without).

    Raises Unsupported.
    """
    whole = [write_region(r, of(genome, r.name)) for r in regions]
    printed = text(genome)
    first = _assembled(regions, whole, printed)
    if small is None:
        return first, ""
    cut = []
    for region, big, its in zip(small, regions, whole, strict=True):
        chosen = of(genome, region.name)
        chosen = replace(chosen, split=_split(region, big, chosen))
        cut.append(write_region(region, chosen, its))
    return first, _assembled(small, cut, printed)


def _split(region: Region, big: Region, choices: Choices) -> int:
    """Pieces of the reductions of `region`, which is `big` at smaller sizes; 0 where none of
    `big` is cut."""
    if big.routed is not None:
        return 0
    whole = scheduled(big, replace(choices, split=0))
    if not choices.split or scheduled(big, choices)[1] == whole[1]:
        return 0
    return max(LEAST_SPLIT, choices.split * largest(region) // largest(big))


def _assembled(regions: Sequence[Region], written: Sequence[Text], printed: str) -> str:
    header = HEADER.format(names=", ".join(r.name for r in regions), genome=printed)
    helpers = needed_helpers(set().union(*(w.helpers for w in written)))
    return "\n\n".join(part for part in (header, helpers, *(w.text for w in written)) if part)


def largest(region: Region) -> int:
    """Elements of the largest tensor that the region touches."""
    return max((s.numel for s in (*region.inputs, *region.outputs)), default=1)
