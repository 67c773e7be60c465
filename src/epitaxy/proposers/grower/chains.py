"""Regions that follow one another as one call: no Python between them, and sample by sample where
the genome says so.

A chain is a function that calls its regions in order. Values that nothing else reads lie in memory
of the chain, where a later one takes the place of one that is no longer needed. A row of regions
with the decision `samples` runs for one sample after the other, each by one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.program import FrameworkCall, Program, RegionCall, reads
from epitaxy.proposers.grower.slices import Sample, handed_on, one_sample, read_again

LEAST_LINKS = 2
HANDED_ON = 1 << 16
"""Elements that the kernels of a region hand on, for one sample, from which on that is worth it."""
COMMON = 8
"""How many times what is the same for all samples, and made anew for each, they are at least."""


@dataclass(frozen=True)
class Link:
    """One call of a region in a chain; of one `sample` of it where it runs sample by sample."""

    region: Region
    args: tuple[str, ...]
    results: tuple[str, ...]
    sample: Sample | None = None


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


def chained(
    program: Program, written: Mapping[str, Region], apart: frozenset[str]
) -> tuple[Program, tuple[Chain, ...]]:
    """`program` with its rows of regions as calls of chains, and these. `written`: the form that a
    region is written in, by name, where it is another; `apart`: regions to run sample by sample,
    where all their calls can."""
    while True:
        steps, chains = _chained(program, written, apart)
        torn = _whole(steps, chains) & apart
        if not torn:
            return replace(program, steps=steps), chains
        apart -= torn


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


def rows_of_samples(program: Program) -> dict[str, Sample]:
    """The regions that can run sample by sample together with a neighbour, by name."""
    names = frozenset(s.region.name for s in program.steps if isinstance(s, RegionCall))
    _, chains = chained(program, {}, names)
    links = [link for chain in chains for link in chain.links]
    return {link.region.name: link.sample for link in links if link.sample is not None}


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
