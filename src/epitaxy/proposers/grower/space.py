"""Where the search may go: the decisions that matter for a region, a first guess, and moves."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from epitaxy.chip import Chip
from epitaxy.proposers.grower import (
    emit_picks,
    emit_sums,
    recurrent,
    space_attention,
    space_contract,
    space_conv,
    space_loop,
    space_maps,
    space_recurrent,
    space_routed,
    space_samples,
)
from epitaxy.proposers.grower.algebra import Load, Reduce, Region, Scan, walk
from epitaxy.proposers.grower.chains import Strip
from epitaxy.proposers.grower.contract import load_of
from epitaxy.proposers.grower.emit_kernel import SMALL_WINDOW, lane_axis
from epitaxy.proposers.grower.emit_planes import IN_PLANES, gathers, plane_of
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.pieces import pieced
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import Kernel, plan
from epitaxy.proposers.grower.schedule_contract import contractions
from epitaxy.proposers.grower.slices import Sample

SMALL = 1 << 16
RESULTS = 4
"""Whole lines of results go past the last cache from this part of it on, where all that moves fills
half of it."""
LIGHT = 0.03
"""Share of a program's least time under which a region's decisions are not searched."""


def space(region: Region, chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision may take for `region` on `chip`."""
    if region.recurrence is not None:
        return space_recurrent.options(chip) | ({"keep": (0, 1)} if region.weights else {})
    if region.loop is not None:
        return space_loop.options(chip)
    if region.routed is not None:
        return space_routed.options(chip)
    if region.picks is not None:
        return emit_picks.options(chip)
    if region.sums is not None:
        return emit_sums.options(chip)
    lanes = max(4, chip.vector_bytes // 4)
    values = walk(tuple(s.value for s in region.stores))
    reduces = any(isinstance(v, Reduce) for v in values)
    scans = any(isinstance(v, Scan) for v in values)
    large = max((s.numel for s in (*region.inputs, *region.outputs)), default=1)
    options: dict[str, tuple[int, ...]] = {
        "width": tuple(w for w in (lanes // 2, lanes, 2 * lanes, 4 * lanes) if 4 <= w <= 32),
        "unroll": (1, 2, 4, 8),
        "threads": tuple(dict.fromkeys((0, 1, max(1, chip.cores // 2)))),
        "lane": (0, 1),
        "prefetch": (0, 16, 64, 128),
    }
    if large > SMALL:
        options["stream"] = (0, 1)
        options["dynamic"] = (0, 1)
        options["grain"] = (4096, 16384, 65536, 262144)
    if reduces or scans:
        options["tile"] = tuple(lanes * k for k in (1, 2, 4, 8, 16, 32, 128))
        options["stash"] = (0, 1)
        options["split"] = (0, *(chip.cores * k for k in (1, 2, 4, 8, 16)))
    if any(isinstance(v, Load) and v.indirect for v in values):
        options["ahead"] = (0, 1)
    if reduces:
        options["sum"] = (0, 1, 2)
        options["online"] = (0, 1)
        options["ahead"] = (0, 1)
        options["windows"] = (0, 1, 2, 3)
    kernels = plan(coalesce(region), Choices(width=lanes)).kernels
    if any(k.whole for k in kernels):
        kept = () if all(k.whole for k in kernels) else options
        options = {d: options[d] for d in ("threads", *kept)} | space_contract.options(chip)
        if region.weights:
            options["keep"] = (0, 1)
    if any(k.attention for k in kernels):
        options |= space_attention.OPTIONS
    return options


def spaces(
    regions: Sequence[Region], chip: Chip, forms: Mapping[str, Region] | None = None,
    shares: Mapping[str, float] | None = None, leavable: Collection[str] = (),
    samples: Mapping[str, tuple[int, ...]] | None = None, called: Mapping[str, int] | None = None,
) -> dict[str, dict[str, tuple[int, ...]]]:  # fmt: skip
    """The space of each region, that with the most work first. Regions too light to matter have
    none: they keep their first guess. `forms` holds cheaper forms by region: then which of the two
    is written is a decision too, and those that matter for either are searched. `shares` are the
    regions' shares of the framework's time, where measured; those of `leavable` with products in
    them, at which the framework is good, may be left to it; `samples` says how those that can run
    sample by sample may do so. `called`: how often, by name, a region is called; once where it
    does not say."""
    often = called or {}
    least_s = {r.name: _least_s(r, chip) * often.get(r.name, 1) for r in regions}
    times = {name: (shares or {}).get(name) or seconds for name, seconds in least_s.items()}
    total = sum(times.values()) or 1.0
    ordered = sorted(regions, key=lambda r: -times[r.name])
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for region in ordered:
        if times[region.name] < LIGHT * total:
            found[region.name] = {}
            continue
        found[region.name] = space(region, chip)
        if forms and region.name in forms:
            found[region.name] |= space(forms[region.name], chip) | {"algebra": (0, 1)}
        product = bool(contractions(region.roots)) or region.whole
        if samples and region.name in samples:
            found[region.name]["samples"] = samples[region.name]
        if region.name in leavable and product:
            found[region.name]["leave"] = (0, 1)
    return found


def _least_s(region: Region, chip: Chip) -> float:
    """Seconds that memory and arithmetic need at the very least for `region`."""
    moved = sum(s.bytes for s in (*region.inputs, *region.outputs))
    flops = sum(2 * math.prod(a.size for a in v.arg.axes) for v in contractions(region.roots))
    if region.recurrence is not None:
        flops += int(recurrent.flops(region.recurrence))
    if region.loop is not None:
        flops += space_loop.flops(region.loop)
    if region.routed is not None:
        flops += int(space_routed.flops(region.routed, used=True))
    bandwidth = chip.levels[-1].read_bytes_per_s if chip.levels else None
    peak = chip.peak_flops_per_s.get("float32")
    return moved / (bandwidth or 1e10) + flops / (peak or 1e11)


def first_guess(region: Region, chip: Chip) -> Choices:
    """A good start from the measured chip: enough tasks for the cores, streams past the caches."""
    if region.recurrence is not None:
        cell = space_recurrent.guess(region.recurrence, chip, bool(region.weights))
        return replace(cell, keep=int(bool(region.weights)))
    if region.loop is not None:
        return space_loop.guess(region, chip)
    if region.routed is not None:
        return space_routed.guess(region.routed, chip)
    if region.picks is not None:
        return emit_picks.guess(region.picks, chip)
    if region.sums is not None:
        return emit_sums.guess(region.sums, chip)
    lanes = max(4, chip.vector_bytes // 4)
    written = sum(s.bytes for s in region.outputs)
    moved = written + sum(s.bytes for s in region.inputs)
    last = space_contract.last_cache(chip)
    largest = max(s.numel for s in (*region.inputs, *region.outputs))
    pieces = max(1, 4 * chip.cores)
    guess = Choices(
        width=lanes,
        unroll=4,
        stream=int(written >= last // 2),
        threads=1 if moved < SMALL else 0,
        grain=max(2048, min(65536, 1 << int(math.log2(max(2, largest // pieces))))),
        tile=16 * lanes,
        ahead=int(moved > last // 2),
    )
    kernels = plan(coalesce(pieced(region)), guess).kernels
    stream = guess.stream
    products = [k.contraction for k in kernels if k.contraction]
    if products:
        largest_product = max(products, key=lambda c: c.work)
        if largest_product.fetched:
            guess = space_conv.guess(largest_product, guess, chip)
        else:
            guess = space_contract.guess(largest_product, guess, chip, region.weights)
        guess = space_contract.keeping(largest_product, guess, chip, region.weights)
    attentions = [k.attention for k in kernels if k.attention]
    if attentions:
        guess = space_attention.guess(max(attentions, key=lambda a: a.work), guess, chip)
    columns = [k for k in kernels if not k.whole and _short_runs(k, guess)]
    sums = [k for k in columns if not any({*k.inner} & {*t.axes} for t in k.targets)]
    if columns and len(sums) == len(columns):
        guess = replace(guess, tile=min(_wide(k, guess, pieces) for k in sums))
    if columns and guess.ahead:
        guess = replace(guess, prefetch=8 * lanes)
    if products and not any(k.whole and _leaves(k) for k in kernels):
        guess = replace(guess, stream=stream)
    guess = space_maps.planes(kernels, space_maps.guess(kernels, guess, lanes), lanes)
    guess = space_maps.turned(kernels, guess, lanes)
    if not products and written >= last // RESULTS and moved >= last // 2:
        if all(_whole_lines(k, guess) for k in kernels if _leaves(k)):
            guess = replace(guess, stream=1)
    for kernel in kernels:
        rows = math.prod(a.size for a in kernel.outer)
        if not kernel.whole and kernel.inner and kernel.numel > SMALL and rows < pieces:
            return replace(guess, split=pieces)
    return guess


def _leaves(kernel: Kernel) -> bool:
    """Whether its results are those of its region."""
    return any(t.buffer.startswith("y") for t in kernel.targets)


def _whole_lines(kernel: Kernel, choices: Choices) -> bool:
    """Whether rows of its results end where vectors do, or are put together first: parts of lines
    are not streamed well."""
    lane = lane_axis(kernel, choices)
    if lane is None:
        return False
    plane = plane_of(kernel, lane) if choices.windows == IN_PLANES else None
    if plane and gathers(kernel, plane, lane):
        return True
    rows = [t for t in kernel.targets if lane in t.axes]
    return all(lane.size % choices.width == 0 and t.index.coefficient(lane) == 1 for t in rows)


def _kept_products(region: Region) -> int:
    """Products of which an operand is a weight: copies of it can be kept."""
    kernels = plan(coalesce(region), Choices()).kernels
    products = [k.contraction for k in kernels if k.contraction]
    loads = [(load_of(c.left), None if c.fetched else load_of(c.right)) for c in products]
    return sum(any(x is not None and x.buffer in region.weights for x in pair) for pair in loads)


def _wide(kernel: Kernel, choices: Choices, pieces: int) -> int:
    """The widest tile of columns to be reduced that leaves `pieces` tasks: longer runs of memory
    are read up to twice as fast, though their sums leave the registers (512 columns, Zen 3)."""
    lane = lane_axis(kernel, choices)
    assert lane is not None
    others = math.prod(a.size for a in kernel.outer if a != lane)
    fits = [
        choices.tile * k
        for k in (8, 4, 2)
        if others * -(-lane.size // (choices.tile * k)) >= pieces
    ]
    return next(iter(fits), choices.tile)


def _short_runs(kernel: Kernel, choices: Choices) -> bool:
    """Whether it reads many rows of a few lanes each, which the hardware does not foresee."""
    lane = lane_axis(kernel, choices)
    return lane in kernel.outer and math.prod(a.size for a in kernel.inner) > SMALL_WINDOW


def start(
    regions: Sequence[Region], chip: Chip, forms: Mapping[str, Region] | None = None,
    samples: Mapping[str, Sample] | None = None, strips: Mapping[str, Strip] | None = None,
) -> Genome:  # fmt: skip
    """The first genome: every region's first guess, of its cheaper form where it has one, and for
    one sample of `samples`, or a part of it where it belongs to one of `strips`, where these are
    better worked on one after the other."""
    apart = space_samples.apart(samples or {}, chip)
    parts = space_samples.parts(strips or {}, apart, chip)
    made = []
    for region in regions:
        form = (forms or {}).get(region.name)
        if form is not None and _kept_products(form) < _kept_products(region):
            form = None  # scales folded into weights at every call, and copies of those too
        guess = first_guess(form or region, chip)
        if region.name in apart:
            guess = space_samples.guess(
                form or region, first_guess, chip, parts.get(region.name, 1)
            )
            if region.name in (strips or {}):  # it says so for all of the strip
                guess = replace(guess, samples=parts.get(region.name, 1))
        made.append((region.name, replace(guess, algebra=int(form is not None))))
    return Genome(tuple(made))


def portfolio(genome: Genome, spaces: dict[str, dict[str, tuple[int, ...]]]) -> Iterator[Genome]:
    """The guess, then the variants that most often win, one decision away from it."""
    yield genome
    left = [n for n, options in spaces.items() if "leave" in options]
    if len(left) > 1:  # is the framework better at all of them? then at which
        yield Genome(tuple((n, replace(c, leave=int(n in left))) for n, c in genome.regions))
    apart = [n for n, options in spaces.items() if "samples" in options]
    if apart:  # what one region decides alone says little
        turned = int(not any(genome.of(n).samples for n in apart))
        yield Genome(
            tuple((n, replace(c, samples=turned if n in apart else 0)) for n, c in genome.regions)
        )
    likely = (
        "leave", "samples", "winograd", "form", "kc", "pack_a", "nc", "mc", "across", "split_k",
        "pack_b", "keep", "split", "ahead", "stream", "prefetch", "lane", "tile", "unroll",
        "dynamic", "width", "stash", "grain", "threads",
    )  # fmt: skip
    for decision in likely:
        for name, options in spaces.items():
            for value in _spread(options.get(decision, ()), getattr(genome.of(name), decision)):
                yield genome.with_choice(name, **{decision: value})


def _spread(options: tuple[int, ...], current: int) -> list[int]:
    """Up to two other values of a decision: the ends furthest from the current one."""
    others = [o for o in options if o != current]
    if len(others) <= 2:
        return others
    return [others[len(others) // 2], others[-1] if current != others[-1] else others[0]]


def neighbours(
    genome: Genome, spaces: dict[str, dict[str, tuple[int, ...]]], rng: random.Random
) -> list[Genome]:
    """Every genome one decision away, in random order."""
    found = [
        genome.with_choice(name, **{decision: value})
        for name, choices in genome.regions
        for decision, options in spaces[name].items()
        for value in options
        if value != getattr(choices, decision)
    ]
    rng.shuffle(found)
    return found


def cross(
    a: Genome, b: Genome, spaces: dict[str, dict[str, tuple[int, ...]]], rng: random.Random
) -> Genome:
    """Each decision from one of two parents, then one changed at random."""
    regions = []
    for (name, mine), (_, other) in zip(a.regions, b.regions, strict=True):
        taken = {d: getattr(rng.choice((mine, other)), d) for d in spaces[name]}
        if taken:
            decision = rng.choice(sorted(taken))
            taken[decision] = rng.choice(spaces[name][decision])
        regions.append((name, replace(mine, **taken)))
    return Genome(tuple(regions))
