"""What the runs of `calibrate.py` amount to: JSON, a Markdown table and a picture."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
LIMITS = {"same": 0.01, "slower": 0.95}
"""Of "faster" against itself at most; of "slower" where a slowdown is planted at least."""
WIDTH, PANEL, GAP, TOP = 900, 120, 44, 64
COLOURS = {"faster": "#c2410c", "slower": "#1d4ed8", "no evidence": "#9ca3af"}


def binomial_bounds(hits: int, runs: int, error: float = 0.05) -> tuple[float, float]:
    """Least and greatest probabilities of a hit that explain as few and as many as were seen,
    each with chance `error`: Clopper, Pearson, 1934, by bisection."""

    def tail(p: float, least: int) -> float:
        terms = range(least, runs + 1)
        return sum(math.comb(runs, k) * p**k * (1 - p) ** (runs - k) for k in terms)

    def solve(chance: float, least: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, least) < chance else (low, middle)
        return (low + high) / 2

    return (
        solve(error, hits) if hits else 0.0,
        solve(1 - error, hits + 1) if hits < runs else 1.0,
    )


def median(values: Sequence[float]) -> float:
    """The middle value, the upper of two."""
    return sorted(values)[len(values) // 2]


def spread(rows: Sequence[Row]) -> float:
    """How much processes of one kernel differ, as a standard deviation of the logarithm: from
    the controls, whose two processes share everything else. What rounds add is still in it."""
    squares = [math.log(x) ** 2 / 2 for row in rows for x in row["twins"]]
    return math.sqrt(sum(squares) / len(squares)) if squares else 0.0


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry for each cell and kind, in the order first seen."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["cell"], row["kind"]), []).append(row)
    return [_entry(cell, kind, found) for (cell, kind), found in groups.items()]


def _entry(cell: str, kind: str, rows: Sequence[Row]) -> dict[str, Any]:
    count = len(rows)
    said = {o: sum(r["outcome"] == o for r in rows) for o in COLOURS}
    word = "faster" if kind == "same" else "slower"
    low, high = binomial_bounds(said[word], count)
    share = said[word] / count
    met = share <= LIMITS[kind] if kind == "same" else share >= LIMITS[kind]
    size, threads, condition = cell.split("/")
    return {
        "cell": cell, "size": size, "threads": int(threads), "condition": condition,
        "kind": kind, "runs": count, "said": said, "word": word, "share": share,
        "low": low, "high": high, "met": met, "time_s": median([r["time_s"] for r in rows]),
        "planted": median([r["planted"] for r in rows]),
        "half_width": median([(r["high"] - r["low"]) / 2 / r["speedup"] for r in rows]),
        "detectable": median([r["detectable"] for r in rows]), "process_sd": spread(rows),
        "busy_runs": sum((r["others_cores"] or 0) > 0.2 for r in rows),
        "seconds": median([r["seconds"] for r in rows]),
    }  # fmt: skip


def markdown(entries: Sequence[Mapping[str, Any]], machine: Mapping[str, str], picture: str) -> str:
    """The page for docs/results."""
    names = ("cpu", "cores_used", "kernel", "compiler", "torch", "realtime")
    told = ", ".join(f"{n.replace('_', ' ')} {machine[n]}" for n in names if n in machine)
    lines = [
        "# Calibration of the statistics", "",
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; {told}.", "",
        "Each run is a full judgement's measurement. *same*: a kernel against its own copy, which "
        "must not be called faster in more than 1 % of the runs. *slower*: a kernel with a planted "
        "slowdown, which must be found in 95 %. In brackets: one-sided 95 % bounds of the true "
        "share. *busy runs* had other processes on more than a fifth of a core.", "",
        "| size | threads | caches | time | kind | planted | runs | said | share | wanted | met "
        "| half-width | detectable | between processes | busy runs |",
        "|" + "---|" * 15,
    ]  # fmt: skip
    lines += [_line(e) for e in entries]
    return "\n".join([*lines, "", f"![intervals of all runs]({picture})", ""])


def _line(entry: Mapping[str, Any]) -> str:
    same = entry["kind"] == "same"
    bound = f"≤ {entry['high']:.1%}" if same else f"≥ {entry['low']:.1%}"
    cells = (
        entry["size"], entry["threads"] or "all", entry["condition"], human(entry["time_s"]),
        entry["kind"], "–" if same else f"{entry['planted']:.1%}", entry["runs"],
        f"{entry['word']} {entry['said'][entry['word']]}", f"{entry['share']:.1%} ({bound})",
        f"≤ {LIMITS['same']:.0%}" if same else f"≥ {LIMITS['slower']:.0%}",
        "yes" if entry["met"] else "NO", f"±{entry['half_width']:.2%}",
        f"{entry['detectable']:.2%}", f"{entry['process_sd']:.2%}", entry["busy_runs"],
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def human(seconds: float) -> str:
    """A time with a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def svg(rows: Sequence[Row], entries: Sequence[Mapping[str, Any]]) -> str:
    """Every run's interval, a panel for each cell and kind, sorted by ratio."""
    height = TOP + len(entries) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" role="img" '
        'aria-label="Intervals of all calibration runs">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(16, 24, "Ratio with its 99 % interval, each run one line", size=15),
    ]
    for number, (word, colour) in enumerate(COLOURS.items()):
        parts.append(f'<rect x="{16 + 130 * number}" y="36" width="10" height="10" ')
        parts[-1] += f'fill="{colour}"/>'
        parts.append(_text(32 + 130 * number, 45, f"says {word}"))
    for number, entry in enumerate(entries):
        own = [r for r in rows if (r["cell"], r["kind"]) == (entry["cell"], entry["kind"])]
        parts += _panel(own, entry, TOP + number * (PANEL + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _panel(rows: Sequence[Row], entry: Mapping[str, Any], top: float) -> list[str]:
    left, right = 64, WIDTH - 16
    bottom = top + GAP / 2 + PANEL
    truth = 1 / (1 + entry["planted"])
    reach = max(0.02, *(abs(math.log(r[e])) for r in rows for e in ("low", "high")))
    reach = min(reach, 0.25)

    def y(ratio: float) -> float:
        at = max(-reach, min(reach, math.log(ratio)))
        return bottom - PANEL / 2 - at / reach * PANEL / 2

    title = (
        f"{entry['size']}, {entry['threads'] or 'all'} threads, {entry['condition']} caches, "
        f"{human(entry['time_s'])}: {entry['kind']}"
        + (f" by {entry['planted']:.1%}" if entry["planted"] else "")
        + f"; {entry['said'][entry['word']]} of {entry['runs']} say {entry['word']}"
    )
    parts = [_text(left, top + 14, title)]
    for ratio, style in ((1.0, "#111"), (truth, "#16a34a")):
        parts.append(_stroke(left, y(ratio), right, y(ratio), style, 1, "4 3"))
    for ratio in (math.exp(reach), 1.0, math.exp(-reach)):
        parts.append(_text(left - 8, y(ratio) + 4, f"{ratio:.3f}", anchor="end"))
    step = (right - left) / max(len(rows), 1)
    for place, row in enumerate(sorted(rows, key=lambda r: r["speedup"])):
        x = left + (place + 0.5) * step
        width = max(0.8, min(4.0, step * 0.6))
        colour = COLOURS[row["outcome"]]
        parts.append(_stroke(x, y(row["low"]), x, y(row["high"]), colour, width))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y(row["speedup"]):.1f}" r="{width:.1f}" fill="#111"/>'
        )
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="#111">{escape(text)}</text>'
    )


def _stroke(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = ""
) -> str:
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:.1f}"{extra}/>'
    )


def write(rows: Sequence[Row], machine: Mapping[str, str], out: Path) -> str:
    """Write OUT.json, OUT.md and OUT.svg; the Markdown."""
    entries = summary(rows)
    page = markdown(entries, machine, f"{out.name}.svg")
    document = {"machine": dict(machine), "summary": entries, "runs": list(rows)}
    out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{out}.json").write_text(json.dumps(document, indent=1) + "\n")
    Path(f"{out}.md").write_text(page)
    Path(f"{out}.svg").write_text(svg(rows, entries))
    return page
