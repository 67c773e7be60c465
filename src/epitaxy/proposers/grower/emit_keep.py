"""Copies of weights that outlive a call: `extern "C" int64_t region0_keep(in, float* kept)`.

Beside the region stands a function that makes all its copies, one after the other, and says how
many floats they take; with no memory given it only says so. The region then takes their place as
one more input. The copies begin with samples of the weights: where these have changed without a
trace in PyTorch's version counters, the region answers 2, and they are made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Load
from epitaxy.proposers.grower.contract import load_of
from epitaxy.proposers.grower.emit_expr import indent
from epitaxy.proposers.grower.schedule import Kernel


@dataclass(frozen=True)
class Made:
    """A buffer that `kernel` makes of the inputs `sources`: statements that declare and fill it."""

    kernel: Kernel
    sources: tuple[int, ...]
    declared: Sequence[str] = ()
    filled: Sequence[str] = ()


def made_first(kernels: Sequence[Kernel], inputs: int) -> dict[int, Made]:
    """Buffers, by number, that are made of inputs alone and that only convolutions read, as their
    filters: what a copy of filters that is kept is made of, where those inputs are weights."""
    found: dict[int, Made] = {}
    for kernel in kernels:
        (target, *more), sources = kernel.targets, _read(kernel)
        if more or kernel.whole or not target.buffer.startswith("t") or not sources:
            continue
        number = inputs + int(target.buffer[1:])
        if all(s < inputs for s in sources) and all(_filters(k, number) for k in kernels):
            found[number] = Made(kernel, sources)
    return found


def _read(kernel: Kernel) -> tuple[int, ...]:
    values = kernel.values
    return tuple(dict.fromkeys(v.buffer for v in values if isinstance(v, Load)))


def _filters(kernel: Kernel, number: int) -> bool:
    """Whether a kernel reads a buffer as the filters of its convolution, or not at all."""
    values = kernel.values
    loads = [v for v in values if isinstance(v, Load) and v.buffer == number]
    what = kernel.contraction
    return not loads or (what is not None and what.fetched and loads == [load_of(what.left)])


@dataclass
class Keeper:
    """What one region keeps: collected kernel by kernel, in their order. `weights`: inputs, and
    buffers of `made`, that copies are kept of."""

    weights: frozenset[int] = frozenset()
    made: dict[int, Made] = field(default_factory=dict)
    used: list[int] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)

    def keep(
        self, name: str, buffer: int, floats: str, before: Sequence[str], make: str
    ) -> list[str]:
        """Declarations of `name`, a copy of `floats` floats, in the region; in the other function
        `make`, after the lines `before`, makes it at {}."""
        first = self.made.get(buffer)
        self.used += [b for b in (first.sources if first else (buffer,)) if b not in self.used]
        parallel = ["#pragma omp parallel", f"{make.format('kept + used')};"]
        inside = [
            *(first.declared if first else ()),
            *before,
            "if (kept) {",
            *indent([*(first.filled if first else ()), *parallel]),
            "}",
            f"used += epx::lines_of({floats});",
        ]
        self.blocks += ["{", *indent(inside), "}"]
        return [f"float* const {name} = kept;", f"kept += epx::lines_of({floats});"]

    def opening(self, inputs: Sequence[TensorSpec]) -> list[str]:
        """What the region begins with: where the copies are, and whether they are stale."""
        if not self.used:
            return []
        place = f"const_cast<float*>(static_cast<const float*>(in[{len(inputs)}]))"
        tests = (
            f"if (epx::changed(kept, {k}, x{i}, {inputs[i].bytes})) return 2;  // copies are stale"
            for k, i in enumerate(self.used)
        )
        return [
            f"float* kept = {place};",
            *tests,
            f"kept += epx::lines_of(2 * epx::STRIPES * {len(self.used)});",
        ]

    def function(self, region: str, inputs: Sequence[TensorSpec], pointers: Iterable[str]) -> str:
        """The function that makes the copies; "" when there are none."""
        if not self.used:
            return ""
        notes = (
            f"if (kept) epx::note(kept, {k}, x{i}, {inputs[i].bytes});"
            for k, i in enumerate(self.used)
        )
        lines = [
            *pointers, *notes, f"int64_t used = epx::lines_of(2 * epx::STRIPES * {len(self.used)});",
            *self.blocks, "return used;",
        ]  # fmt: skip
        signature = f'extern "C" int64_t {region}_keep(const void* const* in, float* kept) {{'
        return "\n".join([signature, *indent(lines), "}", ""])
