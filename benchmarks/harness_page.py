"""The page of a comparison with and without the harness: rows, means, and what they stand on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from epitaxy.timing import median

WITH, WITHOUT, GROWER = "with", "without", "grower"
ARMS = (WITH, WITHOUT, GROWER)
TEXTS = Path(__file__).parent / "harness"
STAND_IN = "scripted server, not a model"


@dataclass(frozen=True)
class Limits:
    """What one run may use: judged candidates, minutes, tokens read and written."""

    candidates: int = 16
    minutes: float = 15.0
    tokens: int = 300_000


@dataclass(frozen=True)
class Row:
    """One run: a problem one way. `speedup` over `strongest`, in [low, high], None without an
    accepted answer; tokens and `usd` are None where nobody told them; `by` wrote the answer;
    `digest` is the problem's; `remarks` say what broke the protocol."""

    problem: str
    arm: str
    run: int
    status: str
    judged: int
    wall_s: float
    ended: str
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    strongest: str = ""
    time_s: float | None = None
    by: str = ""
    candidate: str = ""
    read_tokens: int | None = None
    cached_tokens: int | None = None
    written_tokens: int | None = None
    usd: float | None = None
    remarks: list[str] = field(default_factory=list)
    digest: str = ""

    @property
    def counted(self) -> float:
        """The ratio that a user gets, who stays with PyTorch where that is faster."""
        return max(1.0, self.speedup or 1.0)


@dataclass(frozen=True)
class Series:
    """All runs of one agent: `stand_in` says that a script plays its part."""

    agent: str
    machine: str
    day: str
    limits: Limits
    stand_in: bool
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Series:
        """The series of such data."""
        rows = [Row(**row) for row in data["rows"]]
        return cls(**{**data, "limits": Limits(**data["limits"]), "rows": rows})


def page(series: Series) -> str:
    """Markdown: means, ratios, effort, protocol."""
    title = "With and without the harness: " + series.agent
    lines = [f"# {title}", ""]
    if series.stand_in:
        lines += [f"**{STAND_IN}: this page shows that the script works, and nothing else.**", ""]
    runs = 1 + max((row.run for row in series.rows), default=0)
    lines += [
        f"{series.day}, {series.machine}; {runs} run{'s' if runs > 1 else ''} of each. What a "
        "language model answers differs from run to run: what few runs show may be chance.",
        "",
        *_ratios(series.rows),
        "",
        _means(series.rows),
        "",
        "## Effort",
        "",
        *_effort(series.rows),
        "",
        "## Protocol",
        "",
        _protocol(series.limits),
    ]
    return "\n".join(lines)


def _ratios(rows: list[Row]) -> list[str]:
    lines = ["| problem | with | without | grower alone |", "|---|---|---|---|"]
    for problem in dict.fromkeys(row.problem for row in rows):
        cells = [_cell([r for r in rows if (r.problem, r.arm) == (problem, arm)]) for arm in ARMS]
        lines.append(f"| {problem} | {' | '.join(cells)} |")
    return lines


def _cell(rows: list[Row]) -> str:
    return "; ".join(map(_told, rows)) or "not run"


def _told(row: Row) -> str:
    if row.speedup is None:
        return row.status
    by = f", by the {row.by}" if row.by == GROWER and row.arm != GROWER else ""
    out = ", left out" if row.remarks else ""
    return f"{row.speedup:.2f}x {row.strongest} ({row.low:.2f}–{row.high:.2f}{by}{out})"


def _means(rows: list[Row]) -> str:
    """Geometric means over problems of the median run, and how the two ways compare where both
    have one; without what broke the protocol."""
    kept = [r for r in rows if not r.remarks]
    found = {arm: _mean([r for r in kept if r.arm == arm]) for arm in ARMS}
    told = [f"{arm} {mean:.2f}x" for arm, mean in found.items() if mean]
    text = f"Geometric means over the strongest baseline: {', '.join(told) or 'nothing was run'}."
    if out := len(rows) - len(kept):
        text += f" Left out of them, since they broke the protocol: {out} of {len(rows)} runs."
    pair = [{r.problem for r in kept if r.arm == arm} for arm in (WITH, WITHOUT)]
    both = pair[0] & pair[1]
    one, other = (_mean([r for r in kept if r.arm == a and r.problem in both]) for a in ARMS[:2])
    if not one or not other:
        return text
    where = "" if pair[0] == pair[1] else f", on the {len(both)} problems that have both"
    return f"{text} With over without{where}: {one / other:.2f}."


def _mean(rows: list[Row]) -> float | None:
    if not rows:
        return None
    problems = dict.fromkeys(row.problem for row in rows)
    each = [median([r.counted for r in rows if r.problem == name]) for name in problems]
    return math.exp(sum(map(math.log, each)) / len(each))


def _effort(rows: list[Row]) -> list[str]:
    lines = [
        "| problem | way | judged | minutes | tokens read (cached) | written | USD | ended |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        read = "–" if row.read_tokens is None else f"{row.read_tokens} ({row.cached_tokens or 0})"
        written = "–" if row.written_tokens is None else str(row.written_tokens)
        usd = "–" if row.usd is None else f"{row.usd:.3f}"
        ended = "; ".join([row.ended, *row.remarks])
        lines.append(
            f"| {row.problem} | {row.arm} | {row.judged} | {row.wall_s / 60:.1f} | {read} "
            f"| {written} | {usd} | {ended.replace('|', '/')} |"
        )
    return lines


def _protocol(limits: Limits) -> str:
    text = (TEXTS / "protocol.md").read_text(encoding="utf-8")
    return text.format(**asdict(limits))
