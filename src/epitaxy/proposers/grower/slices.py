"""One sample of a region: the same computation for a single index of the first dimension.

Where a region computes every sample (image) from the same sample of its inputs alone, it can run
sample by sample, and whole rows of such regions can: what one leaves for the next then stays in
the caches, and threads on different samples never wait for each other. A sample that is too large
for that can be cut further, into parts of its second dimension (channels).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Index,
    Load,
    Reduce,
    Region,
    Scan,
    Value,
    walk,
)
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce, map_axes
from epitaxy.proposers.grower.schedule import plan

Counts = Callable[[TensorSpec, Affine, Axis], bool]
"""Whether an axis counts the pieces of the tensor at an index."""
LIGHT = 8
"""How many times what all samples read a sample's own elements are where that weighs nothing."""


@dataclass(frozen=True)
class Sample:
    """`region` for one of `count` samples; `divided`: the inputs that hold one part for each, the
    others are read whole by all."""

    region: Region
    count: int
    divided: frozenset[int]


def one_sample(region: Region) -> Sample | None:
    """The sample of a region; None where samples depend on each other, or on their number."""
    axis = _first_axis(region, _counts)
    return _piece(region, axis, axis.size, _counts) if axis else None


def one_part(sample: Sample, count: int) -> Sample | None:
    """One of `count` parts of a sample's second dimension; None where these depend on each other,
    or on which they are. `divided`: the inputs that hold one part for each, weights among them, of
    which no copies can be kept."""
    axis = _first_axis(sample.region, _planes)
    if axis is None or axis.size % count or axis.size == count:
        return None
    part = _piece(sample.region, axis, count, _leads)
    return part and dataclasses.replace(part, region=dataclasses.replace(part.region, weights=()))


def _piece(region: Region, axis: Axis, count: int, counts: Counts) -> Sample | None:
    """One of `count` pieces of `region` along `axis`; None where they depend on each other."""
    values = walk(region.roots)
    if any(_bound(v, axis) for v in values):
        return None
    divided = _divided(region, values, axis, counts)
    if divided is None:
        return None
    left = (Axis(axis.name, axis.size // count),) if count < axis.size else ()

    def axes(of: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(b for a in of for b in (left if a == axis else (a,)))

    def affine(f: Affine) -> Affine:
        return Affine(f.offset, tuple((b, c) for a, c in f.terms for b in axes((a,))))

    made = map_axes(region, affine, axes)
    inputs = (_cut(s, count) if i in divided else s for i, s in enumerate(region.inputs))
    outputs = (_cut(s, count) for s in region.outputs)
    made = dataclasses.replace(made, inputs=tuple(inputs), outputs=tuple(outputs))
    return Sample(made, count, divided)


def channels(sample: Sample) -> int:
    """The size of the second dimension of what a sample's region makes; 1 where there is none."""
    axis = _first_axis(sample.region, _planes)
    return axis.size if axis else 1


def handed_on(sample: Sample) -> tuple[int, int]:
    """Elements that the kernels of a sample's region hand on to each other, and how many of all
    are the same for every sample."""
    region = coalesce(sample.region)
    inputs = len(region.inputs)
    apart = set(sample.divided)
    own = common = 0
    for kernel in plan(region, Choices()).kernels:
        loads = [v for v in kernel.values if isinstance(v, Load)]
        divided = any(v.buffer in apart for v in loads)
        for target in kernel.targets:
            if not target.buffer.startswith("t"):
                continue
            if divided:
                apart.add(inputs + int(target.buffer[1:]))
                own += target.numel
            else:
                common += target.numel
    return own, common


def light(sample: Sample) -> bool:
    """Whether what all samples read is nothing beside what one is: weights of a small network."""
    sizes = [spec.numel for spec in sample.region.inputs]
    own = sum(sizes[i] for i in sample.divided)
    return (sum(sizes) - own) * LIGHT <= own


def read_again(sample: Sample) -> int:
    """Elements of a sample's own inputs that more than one of its region's kernels read; none where
    weights would be, too."""
    if not light(sample):
        return 0
    region = coalesce(sample.region)
    kernels = plan(region, Choices()).kernels
    readers = [{v.buffer for v in k.values if isinstance(v, Load)} for k in kernels]
    return sum(
        region.inputs[i].numel for i in sample.divided if sum(i in read for read in readers) > 1
    )


def _first_axis(region: Region, counts: Counts) -> Axis | None:
    """The axis that `counts` the pieces of every output."""
    if region.whole or region.refuses or not region.stores:
        return None
    first = region.stores[0]
    for axis, _ in first.index.terms:
        if axis.size > 1 and all(
            axis in s.axes and counts(region.outputs[s.buffer], s.index, axis)
            for s in region.stores
        ):
            return axis
    return None


def _planes(spec: TensorSpec, index: Affine, axis: Axis) -> bool:
    """Whether `axis` counts the planes of one sample, or the like."""
    return len(spec.shape) > 2 and _leads(spec, index, axis)


def _leads(spec: TensorSpec, index: Affine, axis: Axis) -> bool:
    """Whether `axis` is the whole first dimension, but for those of size 1, of the tensor."""
    first = next((size for size in spec.shape if size > 1), 1)
    return first == axis.size and index.coefficient(axis) * axis.size == spec.numel


def _counts(spec: TensorSpec, index: Affine, axis: Axis) -> bool:
    """Whether `axis` is the whole first dimension of the tensor at `index`."""
    first = len(spec.shape) > 1 and spec.shape[0] == axis.size
    return first and index.coefficient(axis) * axis.size == spec.numel


def _bound(value: Value, axis: Axis) -> bool:
    """Whether `value` knows which sample it is computed for, or looks at several."""
    if isinstance(value, Index):
        return axis in value.axes
    if isinstance(value, Reduce):
        return axis in value.over
    if isinstance(value, Scan):
        return axis in value.along
    if isinstance(value, Load):
        return bool(value.indirect) or any(g.index.coefficient(axis) for g in value.guards)
    return False


def _divided(
    region: Region, values: list[Value], axis: Axis, counts: Counts
) -> frozenset[int] | None:
    """Inputs that are read along `axis` as their first dimension; None where one is otherwise."""
    found: dict[int, bool] = {}
    for value in values:
        if not isinstance(value, Load):
            continue
        along = value.index.coefficient(axis) != 0
        if found.setdefault(value.buffer, along) != along:
            return None
        if along and not counts(region.inputs[value.buffer], value.index, axis):
            return None
    return frozenset(buffer for buffer, along in found.items() if along)


def _cut(spec: TensorSpec, count: int) -> TensorSpec:
    """One of `count` parts of the first dimension that is not 1."""
    at = next(i for i, size in enumerate(spec.shape) if size > 1)
    return spec.replace(shape=(*spec.shape[:at], spec.shape[at] // count, *spec.shape[at + 1 :]))
