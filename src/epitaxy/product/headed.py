"""What stands above an exported kernel: what it computes, why so, what was measured.

Only the folder's copy has it, for people: what is built is the text that was judged.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator

from epitaxy.candidate import Candidate
from epitaxy.problem import Problem
from epitaxy.verdict import Verdict

WIDTH = 96
_BEGINS = re.compile(r"^// (\w+) replaces ", re.MULTILINE)
_OF_PRODUCTS = "form tile_m tile_n kc mc nc across split_k pack_a pack_b"
_OF_LOOPS = "tile split online sum windows lane grain stash prefetch"
_USED = {
    "epx::contract": _OF_PRODUCTS, "epx::convolve": _OF_PRODUCTS, "epx::attend": _OF_PRODUCTS,
    "epx::Routing": _OF_PRODUCTS, "epx::recur": _OF_PRODUCTS, "_keep(": "keep",
    "epx::rows": _OF_LOOPS, "for (": _OF_LOOPS, "": "width unroll threads dynamic stream ahead",
}  # fmt: skip
"""Decisions, by what a kernel calls when they show in it; for loops only where nothing else is."""
_IF_TAKEN = frozenset({"algebra", "samples", "winograd"})


def headed(text: str, candidate: Candidate, verdict: Verdict | None, problem: Problem) -> str:
    """`text`, a candidate's C++, under a header for those who read it."""
    marks = list(_BEGINS.finditer(text))
    if not marks:
        return text
    names = {mark[1] for mark in marks}
    said = [
        f"{problem.name}: {' '.join(candidate.intent.split()) or 'written'}, by "
        f"{candidate.proposer}. Candidate {candidate.id}.",
        "",
        *(f"What: {region}." for region in candidate.regions if not _elsewhere(region, names)),
        *(f"Stays with PyTorch: {', '.join(candidate.left)}." for _ in candidate.left[:1]),
        *(f"Rewritten: {rule}." for rule in candidate.algebra),
        "",
        *_measured(verdict),
        "",
        *_decided(candidate, text, [mark.start() for mark in marks]),
        "",
        *_begins(text, marks[0]),
    ]
    lines = [
        line
        for part in said
        for line in textwrap.wrap(part, WIDTH, subsequent_indent="    " * part.startswith(" "))
        or [""]
    ]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines) + "\n" + text


def _elsewhere(region: str, names: Collection[str]) -> bool:
    """Whether a candidate's region says itself to be another than those of `names`."""
    named = re.match(r"(region\d+): ", region)
    return named is not None and named[1] not in names


def _begins(text: str, first: re.Match[str]) -> Iterator[str]:
    if '#include "' in text[: first.start()]:
        yield "It is written in the library that it includes."
        return
    yield (
        f"The kernels begin {text.count(chr(10), 0, first.start())} lines below, at "
        f"`{first[0].strip()}`; "
        "what stands before them is the library that they are written in."
    )


def _measured(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None or not verdict.accepted or verdict.time_s is None:
        yield "Measured: nothing."
        return
    limit = f", {verdict.of_limit:.0%} of the physical limit" if verdict.of_limit else ""
    yield f"Measured: {verdict.time_s * 1e3:.4g} ms a call{limit}; evidence.json has every sample."
    for row in verdict.comparisons:
        yield (
            f"  {row.speedup:.2f}x as fast as {row.baseline} ({row.confidence:.0%} interval "
            f"{row.low:.2f} to {row.high:.2f}): {row.outcome}"
        )
    worst = max(verdict.errors, key=lambda row: _share(row.error, row.limit), default=None)
    if worst is not None:
        yield (
            f"  largest error against float64, as a part of what is allowed: {worst.error:.2g} of "
            f"{worst.limit:.2g} ({worst.distribution})"
        )


def _share(error: float, limit: float) -> float:
    """The part of what is allowed; of nothing, which exact results are allowed, all or none."""
    return error / limit if limit > 0 else float(error > 0)


def _decided(candidate: Candidate, text: str, starts: list[int]) -> Iterator[str]:
    """The decisions that show in each region, with what they mean."""
    from epitaxy.proposers.grower.genome import DECISIONS

    genome = dict(re.findall(r"(\w+)\(([^)]*)\)", candidate.genome))
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        name = text[start:].split(" ", 2)[1]
        choices = dict(pair.split("=", 1) for pair in genome.get(name, "").split())
        shown = [x for x in choices if x in DECISIONS and _shows(x, choices[x], text[start:end])]
        if shown:
            yield f"Why so: what was decided for {name}, from facts of the chip or by search."
            yield from (f"  {x} = {choices[x]}  ({DECISIONS[x]})" for x in shown)


def _shows(decision: str, value: str, text: str) -> bool:
    if decision in _IF_TAKEN:
        return value != "0"
    called = [key for key in _USED if key.startswith(("epx::c", "epx::a", "epx::R", "epx::rec"))]
    whole = any(key in text for key in called)
    return any(
        decision in words.split() and key in text and not (whole and words == _OF_LOOPS)
        for key, words in _USED.items()
    )
