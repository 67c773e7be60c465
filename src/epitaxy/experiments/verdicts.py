"""From paired times to confirmed, refuted or inconclusive. No clock and no process here."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.experiments.recipe import Claim, Experiment
from epitaxy.paired import PRIOR, compare
from epitaxy.probe.explored import Measured
from epitaxy.timing import Taken

ENOUGH = 1.05
"""A value of x is enough when the best is no more than so many times as good."""


def measured(
    experiment: Experiment, size: str, size_bytes: int, x: float, taken: Sequence[Taken]
) -> Measured:
    """One point from the rounds of each fresh process; its interval allows for both kinds of
    chance, within and between processes (paired.py)."""
    times = [[t for each in taken for t in each.times[name]] for name in ("a", "candidate")]
    waits = [[w for each in taken for w in each.waits[name]] for name in ("a", "candidate")]
    found = compare(
        "a", *times, rounds=[each.rounds for each in taken], spread=PRIOR,
        waits=(waits[0], waits[1]),
    )  # fmt: skip
    covering = [c for c in experiment.claims if c.covers(size, x)]
    return Measured(
        size=size, bytes=size_bytes, x=x, time_a_s=found.time_s,
        time_b_s=found.time_s / found.speedup, ratio=found.speedup, low=found.low,
        high=found.high, pairs=found.pairs, says=judged(covering, found.low, found.high),
    )  # fmt: skip


def judged(claims: Sequence[Claim], low: float, high: float) -> str:
    """What an interval of time(a)/time(b) says of all `claims`: holds, fails, open, outside."""
    said = {_one(claim, low, high) for claim in claims}
    return next((s for s in ("fails", "open", "holds") if s in said), "outside")


def _one(claim: Claim, low: float, high: float) -> str:
    if high < claim.at_least or (claim.at_most and low > claim.at_most):
        return "fails"
    return "holds" if low >= claim.at_least and high <= (claim.at_most or high) else "open"


def verdict(points: Sequence[Measured], every: bool) -> str:
    """Of the whole hypothesis: `every` covered point must hold, or else one."""
    said = [p.says for p in points if p.says != "outside"]
    yes, no = ("holds", "fails") if every else ("fails", "holds")
    if no in said:
        return "refuted" if every else "confirmed"
    if said and all(s == yes for s in said):
        return "confirmed" if every else "refuted"
    return "inconclusive"


def found(experiment: Experiment, points: Sequence[Measured]) -> str:
    """The value of x that a sweep was for, at each size; "" for an experiment without `find`."""
    texts = []
    for size in dict.fromkeys(p.size for p in points) if experiment.find else ():
        mine = [p for p in points if p.size == size]
        best = max(mine, key=lambda p: p.ratio)
        if experiment.find == "enough":
            best = min((p for p in mine if p.ratio * ENOUGH >= best.ratio), key=lambda p: p.x)
        texts.append(f"{experiment.x_name} = {best.x:g} at {size}")
    return "; ".join(texts)


def effect(experiment: Experiment, points: Sequence[Measured]) -> str:
    """Ratios with their intervals, point by point, in one line."""
    swept = len(experiment.x) > 1
    sized = len(experiment.sizes) > 1
    texts = []
    for p in points:
        where = [p.size] * sized + [f"{experiment.x_name} {p.x:g}"] * swept
        text = f"{p.ratio:.3g}x ({p.low:.3g}–{p.high:.3g})"
        texts.append(f"{', '.join(where)}: {text}" if where else text)
    return "; ".join(texts)
