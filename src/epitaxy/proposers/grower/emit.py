"""Regions as one C++ source: `extern "C" void region0(const void* const* in, void* const* out)`.

A region that can refuse a call (indices outside a tensor, integers too large for 32-bit lanes)
returns int instead: not zero, and the reference has to take the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from epitaxy.proposers.grower.algebra import Load, Region, walk
from epitaxy.proposers.grower.chains import Chain
from epitaxy.proposers.grower.emit_attention import AttentionWriter
from epitaxy.proposers.grower.emit_chain import write_chain
from epitaxy.proposers.grower.emit_checks import with_bounds
from epitaxy.proposers.grower.emit_columns import write_kernel
from epitaxy.proposers.grower.emit_conv import ConvWriter
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.emit_filters import FiltersWriter, filters_first
from epitaxy.proposers.grower.emit_frame import function, given, lanes, made, storage
from epitaxy.proposers.grower.emit_gemm import GemmWriter
from epitaxy.proposers.grower.emit_keep import Keeper, made_first
from epitaxy.proposers.grower.emit_loop import write_loop
from epitaxy.proposers.grower.emit_picks import write_picks
from epitaxy.proposers.grower.emit_recurrent import write_recurrence
from epitaxy.proposers.grower.emit_routed import write_routed
from epitaxy.proposers.grower.emit_sums import write_sums
from epitaxy.proposers.grower.emit_thin import TILES, TURNED, ThinWriter, form_of
from epitaxy.proposers.grower.emit_turned_gemm import TurnedGemmWriter
from epitaxy.proposers.grower.emit_winograd import WinogradWriter, windows_of
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.idioms import with_idioms
from epitaxy.proposers.grower.pieces import pieced
from epitaxy.proposers.grower.ranges import require_lanes
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import Kernel, plan

__all__ = ["Unsupported", "emit_files", "emit_region", "emit_source"]

TOGETHER = 4
"""Regions in one file: a compiler takes as long to read the headers as to compile some three."""


_ALWAYS = ("simd.h", "simd_memory.h", "simd_lanes.h", "simd_math.h", "kernel.h")
_PRODUCTS = ("epx::contract<", "epx::convolve", "epx::attend", "epx::recur", "epx::Routing")
# Parts that only some kernels use, by what they call; each builds on those before it.
_PARTS = {
    "pack.h": _PRODUCTS,
    "gemm.h": _PRODUCTS,
    "thin.h": ("epx::contract_", "epx::attend"),
    "conv.h": ("epx::convolve",),
    "planes.h": ("epx::weigh_plane",),
    "filters.h": ("epx::convolve_filters",),
    "winograd.h": ("epx::convolve_winograd",),
    "attention.h": ("epx::attend",),
    "recurrent.h": ("epx::recur",),
    "routed.h": ("epx::Routing",),
    "sums.h": ("epx::Sorted",),
    "picks.h": ("epx::pick_",),
}


@cache
def _read(part: str) -> str:
    return (Path(__file__).parent / part).read_text().replace("#pragma once\n", "")


def _used(body: str) -> list[str]:
    """The parts of the library that `body` builds on, each after what it builds on itself."""
    used = [part for part, calls in _PARTS.items() if any(c in body for c in calls)]
    return [*_ALWAYS, *(["dot.h"] if used else []), *used]


def header(body: str) -> str:
    """The vector functions and loops that `body` builds on."""
    return "\n".join(map(_read, _used(body)))


def emit_source(regions: Sequence[Region], genome: Genome, chains: Sequence[Chain] = ()) -> str:
    """One text for `regions` under `genome`, and for `chains` of them. Raises Unsupported."""
    return _whole(_bodies(regions, genome, chains), chains)


def emit_files(
    regions: Sequence[Region], genome: Genome, chains: Sequence[Chain] = ()
) -> dict[str, str]:
    """The same by file name: kernel.cpp alone for up to TOGETHER regions.

    More of them are shared out among part0.cpp and so on, beside the headers that they build on, so
    that of a changed genome only the parts that changed are compiled; chains stand in kernel.cpp.
    Raises Unsupported.
    """
    bodies = _bodies(regions, genome, chains)
    if len(bodies) <= TOGETHER:
        return {"kernel.cpp": _whole(bodies, chains)}
    body, texts = "\n".join(bodies.values()), list(bodies.values())
    units = {}
    for number in range(parts := -(-len(texts) // TOGETHER)):
        first, end = (len(texts) * n // parts for n in (number, number + 1))
        units[f"part{number}.cpp"] = "\n".join(texts[first:end])
    if chains:
        called = [line[:-2] + ";" for line in body.splitlines() if line.startswith('extern "C" ')]
        calls = [write_chain(chain, body) for chain in chains]
        units["kernel.cpp"] = "\n".join([*called, "", *calls])
    files = {part: f"#pragma once\n{_read(part)}" for t in units.values() for part in _used(t)}
    for name, text in units.items():
        includes = "".join(f'#include "{part}"\n' for part in _used(text))
        files[name] = f"{includes}\n{text}"
    return files


def _whole(bodies: Mapping[str, str], chains: Sequence[Chain]) -> str:
    """Regions and chains as one text, below what they build on."""
    body = "\n".join(bodies.values())
    return "\n".join([header(body), body, *(write_chain(chain, body) for chain in chains)])


def _bodies(regions: Sequence[Region], genome: Genome, chains: Sequence[Chain]) -> dict[str, str]:
    """The functions of each region, by its name."""
    links = [link for chain in chains for link in chain.links]
    pieces = {x.region.name: x for x in links if x.sample is not None}
    leave = {name for chain in chains for name in chain.results}
    stay = {x.region.name for x in links if x.sample and not leave.issuperset(x.results)}
    texts = {}
    for region in regions:
        name, choices = region.name, genome.of(region.name)
        if piece := pieces.get(name):  # the chain has the threads
            region, choices = piece.written, replace(choices, threads=1)
        if name in stay:  # in the chain's memory: the next region reads them
            choices = replace(choices, stream=0)
        texts[name] = emit_region(region, choices)
    return texts


def emit_region(region: Region, choices: Choices) -> str:
    """One region's function. Raises Unsupported when the algebra holds what C++ here cannot."""
    if region.recurrence is not None:
        return write_recurrence(region, choices)
    if region.loop is not None:
        return write_loop(region, choices)
    if region.routed is not None:
        return write_routed(region, choices)
    if region.picks is not None:
        return write_picks(region, choices)
    if region.sums is not None:
        return write_sums(region, choices)
    region = with_idioms(coalesce(pieced(region)))
    require_lanes(walk(region.roots))
    checked = bool(region.checks)
    region, bounds = with_bounds(region)
    schedule = plan(region, choices)
    buffers: dict[int, tuple[str, str]] = {}
    weights = frozenset(region.weights if choices.keep else ())
    ready = {} if checked else made_first(schedule.kernels, len(region.inputs))
    ready = {n: m for n, m in ready.items() if weights.issuperset(m.sources)}
    keeper = Keeper(weights.union(ready))
    pointers: list[str] = []
    for i, spec in enumerate(region.inputs):
        buffers[i] = (f"x{i}", spec.dtype)
        pointers.append(given(i, spec))
    lines = [*pointers, *bounds]
    lines += [made(i, spec) for i, spec in enumerate(region.outputs)]
    for i, (name, (dtype, numel)) in enumerate(schedule.temporaries.items()):
        T = storage(dtype)
        buffers[len(region.inputs) + i] = (name, dtype)
        own = [f"epx::Scratch<{T}> {name}_({numel});", f"{T}* const {name} = {name}_.data;"]
        if (first := ready.get(len(region.inputs) + i)) is None:
            lines += own
            continue
        lines.append(f"{T}* const {name} = nullptr;  // a copy of what it holds is kept")
        filled = [*lanes(choices), *write_kernel(first.kernel, choices, buffers)]
        keeper.made[len(region.inputs) + i] = replace(first, declared=own, filled=filled)
    lines += lanes(choices)
    early = {m.kernel for m in ready.values()}
    for check in region.checks:
        lines += [
            f"bool bad{check.buffer} = false;",
            f"bool* const y{check.buffer} = &bad{check.buffer};",
        ]
    for number, kernel in enumerate(schedule.kernels):
        if kernel in early:
            continue
        looks = 0 < number < schedule.first and _looks_up(kernel)
        if region.checks and (looks or number == schedule.first):
            bad = " || ".join(f"bad{c.buffer}" for c in region.checks)
            lines.append(f"if ({bad}) return 1;  // the reference takes the call")
        outer = " x ".join(f"{a.name}:{a.size}" for a in kernel.outer) or "1"
        inner = " x ".join(f"{a.name}:{a.size}" for a in kernel.inner) or "1"
        what = ", ".join(t.buffer for t in kernel.targets)
        lines.append(f"// kernel {number}: {what} over {outer}, reducing {inner}")
        lines += _written(kernel, choices, buffers, keeper)
    lines[len(pointers) : len(pointers)] = keeper.opening(region.inputs)
    lines += [f"(void){b};" for b, _ in buffers.values()]
    kept = keeper.function(region.name, region.inputs, [pointers[i] for i in keeper.used])
    return function(region, choices, lines, region.refuses or bool(keeper.used), before=kept)


def _looks_up(kernel: Kernel) -> bool:
    """Whether it reads where data says, which has to be checked first."""
    values = kernel.values
    return any(isinstance(v, Load) and v.indirect for v in values)


KINDS: dict[int, type[GemmWriter]] = {TILES: GemmWriter, TURNED: TurnedGemmWriter}
"""Who writes products that are not thin, by their form."""


def _written(
    kernel: Kernel, choices: Choices, buffers: dict[int, tuple[str, str]], keeper: Keeper
) -> list[str]:
    """The block of C++ of one kernel, by what it is."""
    if kernel.attention is not None:
        return AttentionWriter(kernel, choices, buffers, kernel.attention).write()
    what = kernel.contraction
    if what is None:
        return write_kernel(kernel, choices, buffers)
    kind = KINDS.get(form_of(choices.form, what), ThinWriter)
    if what.fetched:
        kind = FiltersWriter if filters_first(what, choices) else ConvWriter
        kind = WinogradWriter if choices.winograd and windows_of(what) else kind
    writer = kind(kernel, choices, buffers, what)
    writer.keeper = keeper
    return writer.write()
