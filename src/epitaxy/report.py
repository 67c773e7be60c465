"""Reports made from records alone: the final table, verdict.json and the HTML page."""

from __future__ import annotations

import collections
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.problem import Problem
from epitaxy.progress import milliseconds
from epitaxy.record import encode
from epitaxy.verdict import BASES, DETERMINISM, STATUSES, Comparison, Finding, Verdict

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

SCHEMA = 1
LONGEST_COMPARED = 40_000
"""Lines of a file and its other that are compared: that takes the square of them."""
NO_EVIDENCE = "no evidence of improvement"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What a search left behind: every judged candidate in order, and the best accepted one."""

    problem: Problem
    judged: Sequence[tuple[Candidate, Verdict]] = ()
    best: tuple[Candidate, Verdict] | None = None
    chip: Chip | None = None
    stop_reason: str = ""
    notes: Sequence[Finding] = ()
    fingerprint: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """How long each phase took: capture, baselines, search, final."""

    @property
    def counts(self) -> dict[str, int]:
        """How many candidates ended with each status."""
        found = collections.Counter(verdict.status for _, verdict in self.judged)
        return {status: found[status] for status in STATUSES if found[status]}


def headline(run: Run) -> str:
    """The result in one sentence, never better than the evidence."""
    if run.best is None:
        return "no candidate was accepted"
    if run.best[1].basis != "measured":
        chip = run.chip.name if run.chip else "its chip"
        return f"{run.best[1].basis} for {chip}: {BASES[run.best[1].basis]}"
    best = run.best[1].strongest
    if best is None:
        return f"{NO_EVIDENCE}: no baseline could be timed"
    interval = f"{best.confidence * 100:g} % interval {best.low:.2f}–{best.high:.2f}"
    if best.outcome == "faster":
        return (
            f"{best.speedup:.2f}x as fast as {best.baseline}, the strongest baseline ({interval})"
        )
    figures = f"{best.baseline} ({best.speedup:.2f}x, {interval})"
    if best.outcome == "slower":
        return f"{NO_EVIDENCE}: slower than {figures}"
    return f"{NO_EVIDENCE} over {figures}; {detectable(best)}"


def detectable(row: Comparison) -> str:
    """What a comparison without evidence could have shown."""
    return f"an effect of {percent(row.detectable)} would have been found"


def percent(share: float) -> str:
    """0.031 as `3.1 %`, 4.383 as `438 %`."""
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.2g} %"


def verdict_json(run: Run) -> dict[str, Any]:
    """The result as JSON data: headline figures first, then problem, candidate and full verdict."""
    candidate, verdict = run.best or (None, None)
    strongest = verdict.strongest if verdict else None
    return {
        "schema": SCHEMA,
        "headline": headline(run),
        "basis": verdict.basis if verdict else None,
        "outcome": strongest.outcome
        if strongest
        else "none accepted"
        if verdict is None
        else "no evidence",
        "speedup": strongest.speedup if strongest else None,
        "low": strongest.low if strongest else None,
        "high": strongest.high if strongest else None,
        "confidence": strongest.confidence if strongest else None,
        "detectable": strongest.detectable if strongest else None,
        "strongest": strongest.baseline if strongest else None,
        "time_s": verdict.time_s if verdict else None,
        "condition": verdict.condition if verdict else None,
        "threads": verdict.threads if verdict else None,
        "baselines": {c.baseline: c.time_s for c in verdict.comparisons} if verdict else {},
        "floor_s": verdict.floor.time_s if verdict and verdict.floor else None,
        "limit": verdict.floor.limit if verdict and verdict.floor else None,
        "of_limit": verdict.of_limit if verdict else None,
        "algebra": verdict.algebra if verdict else None,
        "silicon": verdict.silicon if verdict else None,
        "stop_reason": run.stop_reason,
        "notes": [note.message for note in notes(run)],
        "judged": {"total": len(run.judged), **run.counts},
        "problem": _with_digest(run.problem),
        "candidate": _with_digest(candidate) if candidate else None,
        "verdict": _with_digest(verdict) if verdict else None,
        "chip": encode(run.chip) if run.chip else None,
        "machine": dict(run.fingerprint),
        "seconds": dict(run.seconds),
    }


def _with_digest(item: Problem | Candidate | Verdict) -> dict[str, Any]:
    return {"id": item.id, "digest": item.digest, **item.to_dict()}


def comparison_rows(verdict: Verdict) -> list[Comparison]:
    """The baselines, strongest first."""
    return sorted(verdict.comparisons, key=lambda c: c.time_s)


def fact_rows(run: Run) -> list[tuple[str, str]]:
    """Everything about the result that is not a comparison or an error, as name and text."""
    rows = []
    if run.best is not None:
        candidate, verdict = run.best
        rows.append(("candidate", f"{candidate.id} by {candidate.proposer}: {candidate.intent}"))
        rows.append(("grown", ", ".join(candidate.regions) or "nothing"))
        rows.append(("left with PyTorch", ", ".join(candidate.left) or "nothing"))
        rows.append(("precision", run.problem.policy.precision))
        if verdict.determinism:
            rows.append(("determinism", DETERMINISM[verdict.determinism]))
        if verdict.floor is not None:
            basis = "measured" if verdict.floor.measured else "datasheet"
            limit = f"{milliseconds(verdict.floor.time_s)}, set by {verdict.floor.limit} ({basis})"
            rows.append(("physical floor", limit))
        if verdict.of_limit is not None:
            rows.append(("of the limit", f"{verdict.of_limit:.0%}"))
        if verdict.basis != "measured":
            rows += static_rows(verdict)
        if verdict.algebra > 1 or candidate.algebra:
            rows.append(("algebra", algebra_text(candidate, verdict)))
        if verdict.condition != "warm" or verdict.threads:
            count = str(verdict.threads or "all")
            rows.append(("condition", f"{verdict.condition} caches, {count} threads"))
        if verdict.energy_j is not None:
            rows.append(("energy", f"{verdict.energy_j:.4g} J per call"))
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in run.counts.items())
    rows.append(("judged", f"{len(run.judged)} candidates ({counts})" if counts else "none"))
    rows += [("commonest refusal", text) for text in common_reasons(run)[:1] if run.best is None]
    rows.append(("stopped because", run.stop_reason or "not said"))
    return rows


def static_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """What is known of a kernel that was not timed: counts, and a prediction called one."""
    found = verdict.metrics
    rows = [("basis", BASES[verdict.basis])]
    if "registers" in found:
        spilled = f"{found.get('spill_bytes', 0):.0f} bytes spilled"
        rows.append(("registers", f"{found['registers']:.0f} per lane, {spilled}"))
    if "shared_bytes" in found:
        rows.append(("local memory", f"{found['shared_bytes']:.0f} bytes per block"))
    held = {k.removeprefix("blocks_by_"): v for k, v in found.items() if "blocks_by_" in k}
    if "occupancy" in found and held:
        limiter = min(held, key=lambda k: (held[k], k)).replace("_", " ")
        rows.append(("occupancy", f"{found['occupancy']:.0%}, limited by {limiter}"))
    counts = [f"{v:.0f} {k.removeprefix('count_').replace('_', ' ')}" for k, v in found.items()
              if k.startswith("count_")]  # fmt: skip
    if "instructions" in found:
        matrix = f"{found.get('matrix_instructions', 0):.0f} of them matrix"
        total = f"{found['instructions']:.0f} in the text, {matrix}"
        rows.append(("instructions", "; ".join([total, *counts])))
    if "bytes_least" in found:
        least = f"{found['bytes_least'] / 1e6:.4g} MB at least"
        rows.append(("memory traffic", f"{least}, {found.get('intensity', 0):.3g} flop/byte"))
    if found.get("predicted_cost"):
        text = f"{found['predicted_cost']:.2f} of the floor, for ranking candidates only"
        rows.append(("prediction, not measured", text))
    return rows


def algebra_text(candidate: Candidate, verdict: Verdict) -> str:
    """What better algebra brought, apart from what better code did, and the rules used."""
    gain = f"{verdict.algebra:.3g}x less work than the reference at the roofline"
    parts = [gain if verdict.algebra >= 1.01 else "no less work at the roofline"]
    if verdict.silicon is not None and verdict.algebra >= 1.01:
        parts.append(f"without it {verdict.silicon:.2f}x")
    rules = f"; rules: {', '.join(candidate.algebra)}" if candidate.algebra else ""
    return f"{'; '.join(parts)}{rules}"


def notes(run: Run) -> list[Finding]:
    """The judge's remarks on this run, then those on the best candidate; each once."""
    best = run.best[1].findings if run.best else ()
    return list(dict.fromkeys((*run.notes, *best)))


def common_reasons(run: Run) -> list[str]:
    """Why candidates were not accepted, the commonest first, with how often."""
    texts = collections.Counter(
        v.refusal.message if v.refusal else v.reason for _, v in run.judged if not v.accepted
    )
    return [f"{text} ({count} times)" for text, count in texts.most_common()]


def parent_of(run: Run, candidate: Candidate) -> Candidate | None:
    """The first parent of `candidate` that was judged in this run."""
    known = {c.digest: c for c, _ in run.judged}
    return next((known[p] for p in candidate.parents if p in known), None)


def diff(new: Candidate, old: Candidate) -> str:
    """A unified diff of two candidates' files; "" when they are the same."""
    parts: list[str] = []
    for name in sorted({*new.files, *old.files}):
        before, after = (c.files.get(name, "").splitlines() for c in (old, new))
        if len(before) + len(after) > LONGEST_COMPARED:
            parts += [f"{name} differs"] if before != after else []
            continue
        parts += difflib.unified_diff(
            before, after, f"{old.id}/{name}", f"{new.id}/{name}", lineterm=""
        )
    return "\n".join(parts)


def summary_table(run: Run, paths: Mapping[str, Path] | None = None) -> Group:
    """The final table for a terminal (a rich renderable)."""
    from rich.console import Group
    from rich.text import Text

    style = "bold green" if won(run) else "bold yellow"
    parts: list[Any] = [Text(f"{run.problem.name}: {headline(run)}", style=style), Text("")]
    if run.best is not None:
        if run.best[1].comparisons:
            parts += [_comparison_table(run.best[1]), Text("")]
        if run.best[1].errors:
            parts += [_error_table(run.best[1]), Text("")]
    parts.append(
        _pairs(fact_rows(run) + [(name, str(path)) for name, path in (paths or {}).items()])
    )
    return Group(*parts)


def won(run: Run) -> bool:
    """Whether the best candidate is shown to be faster than the strongest baseline."""
    return run.best is not None and run.best[1].won


def _table(*header: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for position, name in enumerate(header):
        table.add_column(name, justify="right" if position else "left", header_style="bold")
    return table


def _comparison_table(verdict: Verdict) -> Table:
    from rich.text import Text

    confidence = max((c.confidence for c in verdict.comparisons), default=0.0) * 100
    table = _table("", "time", "ours is", f"{confidence:g} % interval", "outcome")
    table.add_row(Text("ours", style="bold"), milliseconds(verdict.time_s), "", "", "")
    for row in comparison_rows(verdict):
        interval = f"{row.low:.2f}–{row.high:.2f}"
        cells = (
            row.baseline,
            milliseconds(row.time_s),
            f"{row.speedup:.2f}x",
            interval,
            _outcome(row),
        )
        table.add_row(*map(Text, cells))
    return table


def _outcome(row: Comparison) -> str:
    if row.outcome != "no evidence":
        return row.outcome
    return f"no evidence (±{percent(row.detectable)} would have been found)"


def _error_table(verdict: Verdict) -> Table:
    from rich.text import Text

    table = _table("error against float64", "ours", "honest", "limit")
    for row in verdict.errors:
        numbers = (f"{v:.2e}" for v in (row.error, row.honest, row.limit))
        table.add_row(*map(Text, (row.distribution, *numbers)))
    return table


def _pairs(rows: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name, style="dim"), Text(text))
    return table


def html(run: Run) -> str:
    """One self-contained page: inline style and SVG, no script, nothing loaded from elsewhere."""
    from epitaxy.report_page import render

    return render(run)
