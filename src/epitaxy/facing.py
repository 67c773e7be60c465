"""Records as cards: what a verdict, a candidate or a chip shows to whoever writes kernels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from epitaxy import cards, trim
from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.chip_report import ridges
from epitaxy.metric import Profiled
from epitaxy.record import FrozenDict
from epitaxy.report import diff
from epitaxy.verdict import Verdict

LONGEST_DIFF = 400
"""Lines of a difference that are shown."""
_DECISION = re.compile(r"(?<!\w)(\w+)\(([^()]*)\)")


def verdict_card(candidate: Candidate, verdict: Verdict, known: bool = False) -> cards.VerdictCard:
    """A verdict cut to what matters for the next step."""
    failed = verdict.status == "build_failed"
    return cards.VerdictCard(
        candidate=candidate.id,
        problem=verdict.problem[:12],
        status=verdict.status,
        accepted=verdict.accepted,
        plan=verdict.plan,
        basis=verdict.basis,
        reason=verdict.reason,
        mend=verdict.refusal.mend if verdict.refusal else "",
        compiler=trim.compiler(verdict.build_log) if failed else "",
        time_s=verdict.time_s,
        floor_s=verdict.floor.time_s if verdict.floor else None,
        limit=verdict.floor.limit if verdict.floor else "",
        of_limit=verdict.of_limit,
        algebra=verdict.algebra,
        determinism=verdict.determinism,
        worst_error=_worst(verdict),
        metrics=FrozenDict({k: v for k, v in verdict.metrics.items() if math.isfinite(v)}),
        remarks=tuple(f.message for f in verdict.findings if f.severity != "refusal"),
        known=known,
        **_comparison(verdict),
    )


def _worst(verdict: Verdict) -> cards.ErrorCard | None:
    rows = [row for row in verdict.errors if row.limit > 0]
    if not rows:
        return None
    # A NaN is worse than any number.
    worst = max(rows, key=lambda r: r.error / r.limit if r.error == r.error else float("inf"))
    error = worst.error if math.isfinite(worst.error) else None
    return cards.ErrorCard(distribution=worst.distribution, error=error, limit=worst.limit)


def _comparison(verdict: Verdict) -> dict[str, Any]:
    best = verdict.strongest
    if best is None:
        return {}
    rows = sorted(verdict.comparisons, key=lambda c: c.time_s)
    return {
        "strongest": best.baseline,
        "speedup": best.speedup,
        "low": best.low,
        "high": best.high,
        "outcome": best.outcome,
        "baselines": tuple(cards.Baseline(name=c.baseline, time_s=c.time_s) for c in rows),
    }


def candidate_card(candidate: Candidate, verdict: Verdict | None) -> cards.CandidateCard:
    """A candidate with its sources and its verdict."""
    return cards.CandidateCard(
        candidate=candidate.id,
        problem=candidate.problem[:12],
        toolchain=candidate.toolchain,
        proposer=candidate.proposer,
        intent=candidate.intent,
        genome=candidate.genome,
        parents=tuple(p[:12] for p in candidate.parents),
        regions=candidate.regions,
        left=candidate.left,
        files=candidate.files,
        verdict=verdict_card(candidate, verdict, known=True) if verdict else None,
    )


def chip_card(chip: Chip) -> cards.ChipCard:
    """A chip's figures, measured or from its datasheet."""
    return cards.ChipCard(
        chip=chip.id,
        name=chip.name,
        vendor=chip.vendor,
        kind=chip.kind,
        measured=chip.measured,
        cores=chip.cores,
        vector_bytes=chip.vector_bytes,
        vector_registers=chip.vector_registers,
        isa=chip.isa,
        peak_per_s=chip.peak_flops_per_s,
        peak_core_per_s=chip.peak_flops_per_s_core,
        memories=tuple(
            cards.Memory(
                name=v.name,
                bytes=v.bytes,
                read_bytes_per_s=v.read_bytes_per_s,
                write_bytes_per_s=v.write_bytes_per_s,
                stream_bytes_per_s=v.stream_bytes_per_s,
                latency_s=v.latency_s,
            )
            for v in chip.levels
        ),
        ridges=FrozenDict(ridges(chip)),
        barrier_s=chip.barrier_s,
        facts=FrozenDict(
            {n: f"{f.value} {f.unit} [{f.confidence}]" for n, f in chip.facts.items()}
        ),
        notes=chip.notes,
        unknown=chip.unknown,
    )


Pair = tuple[Candidate, Verdict | None]


def contrast(
    one: Pair, other: Pair, profiles: Sequence[Sequence[Profiled]] = ((), ())
) -> cards.CompareCard:
    """Two candidates side by side, from the first to the second; `profiles` of each, the latest
    first: the latest two of one machine are compared."""
    lines = diff(other[0], one[0]).splitlines()
    kept, note = _alike(one[0], other[0], profiles)
    return cards.CompareCard(
        one=one[0].id,
        other=other[0].id,
        same_problem=one[0].problem == other[0].problem,
        diff="\n".join(lines[:LONGEST_DIFF]),
        shortened=max(0, len(lines) - LONGEST_DIFF),
        decisions=FrozenDict(decisions(one[0].genome, other[0].genome)),
        figures=_figures(one[1], other[1], kept),
        one_status=one[1].status if one[1] else "not judged",
        other_status=other[1].status if other[1] else "not judged",
        note=note,
    )


def _alike(
    one: Candidate, other: Candidate, profiles: Sequence[Sequence[Profiled]]
) -> tuple[Sequence[Profiled], str]:
    """The latest profiles of both on one machine; else why there are none to compare."""
    for first in profiles[0]:
        second = next((p for p in profiles[1] if p.machine == first.machine), None)
        if second is not None:
            return (first, second), ""
    bare = [c.id for c, kept in zip((one, other), profiles, strict=True) if not kept]
    if len(bare) == 1:
        return (), f"{bare[0]} was never profiled: no figures of profiles are compared"
    return (), "" if bare else "their profiles are of different machines: they are not compared"


def decisions(one: str, other: str) -> dict[str, str]:
    """The decisions in which two genomes differ, as "old -> new"; none where one has no genome."""
    if not one or not other:
        return {}
    before, after = _named(one), _named(other)
    return {
        name: f"{before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }


def _named(genome: str) -> dict[str, str]:
    found = {}
    for region, body in _DECISION.findall(genome):
        for item in body.split():
            decision, _, value = item.partition("=")
            found[f"{region} {decision}"] = value
    return found


def _figures(
    one: Verdict | None, other: Verdict | None, kept: Sequence[Profiled]
) -> tuple[cards.Row, ...]:
    before, after = _numbers(one), _numbers(other)
    if kept:
        before, after = before | _profiled(kept[0]), after | _profiled(kept[1])
    return tuple(
        _row(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])
    )


def _row(name: str, one: float | None, other: float | None) -> cards.Row:
    ratio = other / one if one and other is not None else None
    return cards.Row(name=name, one=one, other=other, ratio=ratio)


def _profiled(kept: Profiled) -> dict[str, float]:
    """A profile's metrics; of intervals only what lies in them."""
    found = {"profile.time_s": kept.profile.time_s, **kept.profile.values}
    return {
        name: value
        for name, value in found.items()
        if value is not None and not name.endswith((".low", ".high"))
    }


def _numbers(verdict: Verdict | None) -> dict[str, float]:
    if verdict is None:
        return {}
    worst = _worst(verdict)
    found = {
        "time_s": verdict.time_s,
        "speedup": verdict.speedup,
        "of_limit": verdict.of_limit,
        "algebra": verdict.algebra,
        "error_of_limit": worst.error / worst.limit if worst and worst.error is not None else None,
        **{name: value for name, value in verdict.metrics.items() if math.isfinite(value)},
    }
    return {name: float(value) for name, value in found.items() if value is not None}
