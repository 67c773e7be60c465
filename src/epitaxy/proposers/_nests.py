"""What the writers of array languages (Pallas, NKI) share: loop nests of a region, and buffers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from epitaxy.proposers._frames import Array, Frame, loads, refined
from epitaxy.proposers.grower.algebra import Axis, Load, Region, walk
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule import Kernel, plan

Known = dict[int, tuple[str, str, int]]
"""Buffer number -> name, dtype, elements."""
OTHER_KERNELS = "other kernels at other sizes"


@dataclass(frozen=True)
class Nests:
    """The kernels of a region over tensors' own dimensions, and the buffers that they read."""

    kernels: tuple[Kernel, ...]
    known: Known
    temporaries: dict[str, tuple[str, int]]

    @classmethod
    def of(cls, region: Region, count: int = -1) -> Nests:
        """Those of a region; `count` kernels, unless it is negative. Raises Unsupported."""
        if region.whole:
            raise Unsupported("a loop, experts or top-k")
        values = walk(tuple(s.value for s in region.stores))
        if any(isinstance(v, Load) and v.indirect for v in values):
            raise Unsupported("indices from data")
        made = plan(region, Choices(width=1, split=0, online=0, attend=1))
        known: Known = {i: (f"x{i}", s.dtype, s.numel) for i, s in enumerate(region.inputs)}
        for name, (dtype, numel) in made.temporaries.items():
            known[len(known)] = (name, dtype, numel)
        kernels = [k if k.whole else refined(k, region) for k in made.kernels[made.first :]]
        if count not in (len(kernels), -1):
            raise Unsupported(OTHER_KERNELS)
        return cls(tuple(kernels), known, made.temporaries)


@dataclass(frozen=True)
class Memory:
    """The dtypes that a chip can store, and what the chip is called."""

    dtypes: Collection[str]
    chip: str

    def storable(self, dtype: str) -> str:
        """`dtype`. Raises Unsupported where the chip has no such."""
        if dtype not in self.dtypes:
            raise Unsupported(f"{dtype} on a {self.chip}")
        return dtype

    def read(self, kernel: Kernel, known: Known, frame: Frame) -> dict[Load, Array]:
        """The buffers that a kernel reads, by load. Raises Unsupported."""
        found = {}
        for load in loads(tuple(t.value for t in kernel.targets)):
            if load.indirect:
                raise Unsupported("a gather")
            if load.guards:
                raise Unsupported("reading beyond a tensor")
            name, dtype, numel = known[load.buffer]
            found[load] = frame.array(load.buffer, name, self.storable(dtype), load.index, numel)
        return found

    def written(self, kernel: Kernel, frame: Frame) -> list[Array]:
        """The buffers that a kernel writes, target by target. Raises Unsupported."""
        return [
            frame.array(-1, t.buffer, self.storable(t.dtype), t.index, t.numel)
            for t in kernel.targets
        ]


def described(kernel: Kernel) -> str:
    """What a kernel computes over which loops, for a comment."""

    def over(axes: Sequence[Axis]) -> str:
        return " x ".join(f"{a.name}:{a.size}" for a in axes) or "1"

    folding = f", folding {over(kernel.inner)}" if kernel.inner else ""
    return f"{', '.join(t.buffer for t in kernel.targets)} over {over(kernel.outer)}{folding}"
