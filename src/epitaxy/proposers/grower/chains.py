"""Regions that follow one another as one call: no Python between them, and sample by sample where
the genome says so.

A chain is a function that calls its regions in order. Values that nothing else reads lie in memory
of the chain, where a later one takes the place of one that is no longer needed. A row of regions
with the decision `samples` runs for one sample after the other, each by one thread. Within a row, a
strip of regions runs for one part of a sample's channels after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.program import FrameworkCall, Program, RegionCall, reads
from epitaxy.proposers.grower.slices import (
    Sample,
    channels,
    handed_on,
    one_part,
    one_sample,
    read_again,
)

LEAST_LINKS = 2
HANDED_ON = 1 << 16
"""Elements that the kernels of a region hand on, for one sample, from which on that is worth it."""
PARTS = (2, 3, 4, 6, 8, 12, 16)
"""How many parts of a sample are tried; of LEAST_CHANNELS channels at least."""
LEAST_CHANNELS = 8
COMMON = 8
"""How many times what is the same for all samples, and made anew for each, they are at least."""


@dataclass(frozen=True)
class Link:
    """One call of a region in a chain; of one `sample` of it where it runs sample by sample; of one
    `part` of that where it belongs to a strip, which the first of it `leads`."""

    region: Region
    args: tuple[str, ...]
    results: tuple[str, ...]
    sample: Sample | None = None
    part: Sample | None = None
    leads: bool = False

    @property
    def written(self) -> Region:
        """The region as it is called: for everything, for a sample or for a part."""
        piece = self.part or self.sample
        return piece.region if piece else self.region


@dataclass(frozen=True)
class Chain:
    """`links` as one call: `region` is what it looks like from outside, `args` and `results` the
    values that it takes and gives."""

    region: Region
    args: tuple[str, ...]
    results: tuple[str, ...]
    links: tuple[Link, ...]

    def rows(self) -> Iterator[tuple[Link, ...]]:
        """The links in order: rows that run sample by sample, the others one by one."""
        row: list[Link] = []
        for link in self.links:
            if row and not _together(row, link):
                yield tuple(row)
                row = []
            row.append(link)
        yield tuple(row)


def strips(row: Sequence[Link]) -> Iterator[tuple[Link, ...]]:
    """The links of a row in order: those that run part by part together, the others one by one."""
    strip: list[Link] = []
    for link in row:
        if strip and (link.leads or link.part is None):
            yield tuple(strip)
            strip = []
        strip.append(link)
    if strip:
        yield tuple(strip)


def chained(
    program: Program, written: Mapping[str, Region], apart: Mapping[str, int]
) -> tuple[Program, tuple[Chain, ...]]:
    """`program` with its rows of regions as calls of chains, and these. `written`: the form that a
    region is written in, by name, where it is another; `apart`: regions to run sample by sample,
    where all their calls can, and how many parts of a sample each does one after the other with
    the regions that follow."""
    names = frozenset(apart)
    while True:
        steps, chains = _chained(program, written, names)
        torn = _whole(steps, chains) & names
        if not torn:
            return replace(program, steps=steps), _in_parts(chains, apart)
        names -= torn


def _in_parts(chains: tuple[Chain, ...], apart: Mapping[str, int]) -> tuple[Chain, ...]:
    """`chains` with the strips that there are where each region leads as many parts as `apart`
    says, but for those in which a region is called otherwise elsewhere."""
    while True:
        made = tuple(replace(chain, links=_parted(chain.links, apart)) for chain in chains)
        uneven = _uneven(made)
        if not uneven:
            return made
        apart = {n: c for n, c in apart.items() if n not in uneven}


def _chained(
    program: Program, written: Mapping[str, Region], apart: frozenset[str]
) -> tuple[tuple[RegionCall | FrameworkCall, ...], tuple[Chain, ...]]:
    steps: list[RegionCall | FrameworkCall] = []
    chains: list[Chain] = []
    for first, run in _runs(program):
        links = []
        for step in run:
            if not isinstance(step, RegionCall):
                continue
            region = written.get(step.region.name, step.region)
            sample = one_sample(region) if region.name in apart else None
            links.append(Link(region, step.args, step.results, sample))
        if len(links) < LEAST_LINKS and not any(map(_alone, links)):
            steps += run
            continue
        needed = set(program.outputs).union(*map(reads, program.steps[first + len(run) :]))
        chains.append(_chain(f"chain{len(chains)}", _paired(links), needed))
        steps.append(RegionCall(chains[-1].region, chains[-1].args, chains[-1].results))
    return tuple(steps), tuple(chains)


def _whole(steps: Sequence[RegionCall | FrameworkCall], chains: Sequence[Chain]) -> frozenset[str]:
    """The regions, by name, of which some call is for all samples at once."""
    links = (link for chain in chains for link in chain.links)
    alone = {s.region.name for s in steps if isinstance(s, RegionCall)}
    return frozenset(alone | {x.region.name for x in links if x.sample is None})


def _uneven(chains: Sequence[Chain]) -> frozenset[str]:
    """The regions that lead a strip with one in it that is called otherwise elsewhere."""
    links = [link for chain in chains for link in chain.links]
    forms: dict[str, set[int]] = {}
    for link in links:
        forms.setdefault(link.region.name, set()).add(link.part.count if link.part else 1)
    found = [s for chain in chains for row in chain.rows() for s in strips(row)]
    return frozenset(
        s[0].region.name
        for s in found
        if s[0].part and any(len(forms[link.region.name]) > 1 for link in s)
    )


def rows_of_samples(program: Program) -> dict[str, Sample]:
    """The regions that can run sample by sample together with a neighbour, by name."""
    links = [link for chain in _all_apart(program) for link in chain.links]
    return {link.region.name: link.sample for link in links if link.sample is not None}


@dataclass(frozen=True)
class Strip:
    """Regions, by name, that can run part by part of a sample; `counts`: how many parts, `bytes`:
    what they hand on of a sample, `again`: what every part reads of it."""

    regions: tuple[str, ...]
    counts: tuple[int, ...]
    bytes: int
    again: int


def strips_of(program: Program) -> dict[str, Strip]:
    """The strips that there can be, by the region that leads them."""
    found: dict[str, Strip] = {}
    chains = _all_apart(program)
    names = [link.region.name for chain in chains for link in chain.links]
    for count in PARTS:
        parted = _in_parts(chains, dict.fromkeys(names, count))
        for strip in strips([link for chain in parted for link in chain.links]):
            first = strip[0]
            if not first.sample or not first.part:
                continue
            if channels(first.sample) < count * LEAST_CHANNELS:
                continue
            regions = tuple(link.region.name for link in strip)
            known = found.get(regions[0])
            if known is None:
                found[regions[0]] = Strip(regions, (count,), _handed(strip), _read_by_all(strip))
            elif known.regions == regions and count not in known.counts:
                found[regions[0]] = replace(known, counts=(*known.counts, count))
    return found


def _handed(strip: Sequence[Link]) -> int:
    """Bytes of a sample that the links of a strip hand on to each other."""
    read = {name for link in strip[1:] for name in link.args}
    return sum(
        spec.bytes // link.sample.count
        for link in strip
        if link.sample
        for name, spec in zip(link.results, link.region.outputs, strict=True)
        if name in read
    )


def _read_by_all(strip: Sequence[Link]) -> int:
    """Bytes of a sample that each part of it reads."""
    return sum(
        link.region.inputs[i].bytes // link.sample.count
        for link in strip
        if link.sample and link.part
        for i in link.sample.divided - link.part.divided
    )


def _all_apart(program: Program) -> tuple[Chain, ...]:
    """The chains where each region that can runs sample by sample."""
    calls = [s for s in program.steps if isinstance(s, RegionCall)]
    return chained(program, {}, {s.region.name: 1 for s in calls})[1]


def _runs(program: Program) -> Iterator[tuple[int, list[RegionCall | FrameworkCall]]]:
    """(number of the first, steps): regions in a row, each other step alone."""
    run: list[RegionCall | FrameworkCall] = []
    for number, step in enumerate(program.steps):
        fits = isinstance(step, RegionCall) and not (step.region.whole or step.region.refuses)
        if run and not fits:
            yield number - len(run), run
            run = []
        run.append(step)
        if not fits:
            yield number, run
            run = []
    if run:
        yield len(program.steps) - len(run), run


def _together(row: Sequence[Link], link: Link) -> bool:
    """Whether `link` continues a row that runs sample by sample: it reads of what the row makes
    only the sample at hand."""
    last = row[-1].sample
    if last is None or link.sample is None or last.count != link.sample.count:
        return False
    made = {name for before in row for name in before.results}
    whole = {n for i, n in enumerate(link.args) if i not in link.sample.divided}
    return not made & whole


def _alone(link: Link) -> bool:
    """Whether a region runs sample by sample for what its own kernels hand on, or read again."""
    if link.sample is None:
        return False
    own, common = handed_on(link.sample)
    own += read_again(link.sample)
    return own >= max(HANDED_ON, COMMON * common)


def _paired(links: Sequence[Link]) -> tuple[Link, ...]:
    """`links`, where one that hands nothing on sample by sample does not run so."""
    found: list[Link] = []
    row: list[Link] = []
    for link in [*links, None]:
        if row and (link is None or not _together(row, link)):
            several = len(row) >= LEAST_LINKS or _alone(row[0])
            found += row if several else [replace(x, sample=None) for x in row]
            row = []
        if link is not None:
            row.append(link)
    return tuple(found)


def _parted(links: Sequence[Link], apart: Mapping[str, int]) -> tuple[Link, ...]:
    """`links`, those that can of each sample as many parts as their first one says in `apart`."""
    found: list[Link] = []
    left = list(links)
    while left:
        count = apart.get(left[0].region.name, 1)
        strip = _strip(left, count) if count > 1 else []
        found += strip or left[:1]
        left = left[max(1, len(strip)) :]
    return tuple(found)


def _strip(links: Sequence[Link], count: int) -> list[Link]:
    """The first of `links` in parts, as many as read of each other only the part at hand; none
    where there are not two."""
    strip: list[Link] = []
    made: set[str] = set()
    for link in links:
        if link.sample is None or (strip and not _together(strip, link)):
            break
        part = one_part(link.sample, count)
        read = {i for i, name in enumerate(link.args) if name in made}
        if part is None or not read <= part.divided or (strip and not read):
            break
        strip.append(replace(link, part=part, leads=not strip))
        made.update(link.results)
    return strip if len(strip) >= LEAST_LINKS else []


def _chain(name: str, links: tuple[Link, ...], needed: set[str]) -> Chain:
    given: dict[str, TensorSpec] = {}
    made: dict[str, TensorSpec] = {}
    weights: set[str] = set()
    for link in links:
        for i, (arg, spec) in enumerate(zip(link.args, link.region.inputs, strict=True)):
            if arg not in made:
                given.setdefault(arg, spec)
                weights |= {arg} if i in link.region.weights else set()
        made |= dict(zip(link.results, link.region.outputs, strict=True))
    results = tuple(n for n in made if n in needed)
    region = Region(
        name, tuple(given.values()), tuple(made[n] for n in results), (),
        source=tuple(dict.fromkeys(x for link in links for x in link.region.source)),
        weights=tuple(i for i, n in enumerate(given) if n in weights),
    )  # fmt: skip
    return Chain(region, tuple(given), results, links)
