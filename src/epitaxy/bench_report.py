"""The table of a suite as Markdown and as one self-contained HTML page with its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epitaxy.bench_table import BEST, ERROR, FASTER, PHASES, Row, name_of, won_ratios
from epitaxy.progress import duration, milliseconds
from epitaxy.report_charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Chart, Scale, grid
from epitaxy.report_page import filled

Table = Mapping[str, Any]


def baseline_names(rows: Sequence[Row]) -> list[str]:
    """Every baseline that some problem was timed with."""
    return sorted({name for r in rows for name in r["baselines"]})


def headline(table: Table) -> str:
    """The result in one sentence."""
    count, mean = table["count"], table["means"][BEST]["as judged, without algebra"]
    if mean["mean"] is None:
        return f"{count['problems']} problems, none with an accepted candidate"
    return (
        f"{mean['mean']:.2f}x the best of all baselines (geometric mean of {mean['problems']} "
        f"problems, algebra excluded); {count[FASTER]} of {count['problems']} faster"
    )


def markdown(table: Table) -> str:
    """The whole table as Markdown."""
    rows, names = table["rows"], baseline_names(table["rows"])
    header = [
        "problem",
        *names,
        "ours",
        "floor",
        "of limit",
        "speed-up",
        "interval",
        "silicon",
        "status",
    ]
    lines = [f"{headline(table)}.", "", _line(header), _line(["---"] * len(header))]
    lines += [_line([name_of(r), *cells(r, names)]) for r in rows]
    lines += ["", *_means(table), "", *_fast_p(table), "", *remarks(table), ""]
    return "\n".join(lines)


def cells(row: Row, names: Sequence[str]) -> list[str]:
    """Texts of one row after its name: each baseline, ours, floor, share of it, ratio, interval,
    the ratio without what better algebra brought, status.

    An algebraic win says so in its status; what was left or failed says why.
    """
    times = [milliseconds(row["baselines"].get(name)) for name in names]
    ours = [milliseconds(row["time_s"]), milliseconds(row["floor_s"])]
    ours.append("–" if row["of_limit"] is None else f"{row['of_limit']:.0%}")
    ratio = ["–", "–", "–"]
    if row["speedup"] is not None:
        silicon = row["silicon"] or row["speedup"]
        interval = f"{row['low']:.2f}–{row['high']:.2f}"
        ratio = [f"{row['speedup']:.2f}x", interval, f"{silicon:.2f}x"]
    return [*times, *ours, *ratio, status(row)]


def status(row: Row) -> str:
    """What became of a problem, in words."""
    text: str = row["status"] + (" (algebra)" if row["algebra"] else "")
    text += f": {row['reason']}" if row["reason"] else ""
    return text + (f" [scaled: {', '.join(row['scale'])}]" if row["scale"] else "")


def means_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of geometric means."""
    kinds = list(table["means"][BEST])
    rows = []
    for party, means in table["means"].items():
        found = [means[kind] for kind in kinds]
        rows.append([party, *("–" if m["mean"] is None else _count(m) for m in found)])
    return ["geometric mean against", *kinds], rows


def _count(mean: Mapping[str, Any]) -> str:
    return f"{mean['mean']:.2f}x ({mean['problems']})"


def _means(table: Table) -> list[str]:
    header, rows = means_rows(table)
    return [_line(header), _line(["---"] * len(header)), *map(_line, rows)]


def _fast_p(table: Table) -> list[str]:
    return [
        f"fast_p against {party}: "
        + ", ".join(f"fast_{p} {share:.0%}" for p, share in found.items())
        for party, found in table["fast_p"].items()
    ]


def remarks(table: Table) -> list[str]:
    """Lines on the whole run: worst ratio, algebra, where the time went."""
    lines = []
    if table["worst"]:
        worst = table["worst"]
        lines.append(f"Worst ratio as judged: {worst['speedup']:.2f}x ({worst['problem']}).")
    algebra = [r for r in table["rows"] if r["algebra"]]
    if algebra:
        wins = ", ".join(
            f"{name_of(r)} {r['speedup']:.2f}x ({r['silicon'] or r['speedup']:.2f}x without)"
            for r in algebra
            if r["speedup"]
        )
        lines.append(f"Less arithmetic than the reference (algebra, kept apart): {wins}.")
    if any(r["scale"] for r in table["rows"]):
        lines.append("Sizes were scaled down: these figures are not those of the published shapes.")
    lines.append(spent(table["seconds"], max(1, len(table["rows"]))))
    return lines


def spent(seconds: Mapping[str, float], problems: int = 1) -> str:
    """Where the time went; for many problems also that of one."""
    parts = ", ".join(f"{phase} {duration(seconds.get(phase, 0.0))}" for phase in PHASES)
    total = sum(seconds.get(phase, 0.0) for phase in PHASES)
    if problems == 1:
        return f"Spent {duration(total)}: {parts}."
    return f"Spent {duration(total)} ({duration(total / problems)} a problem): {parts}."


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(t.replace("|", "\\|").replace("\n", " ") for t in texts) + " |"


def fast_p_chart(rows: Sequence[Row]) -> Chart | None:
    """The share of problems more than p times as fast, over p; None before any was judged."""
    parties = {"eager": "base", BEST: "best"}
    ratios = {p: won_ratios(rows, p) for p in parties}
    found = [x for values in ratios.values() for x in values]
    if not found:
        return None
    chart = Chart("Share of problems that are more than p times as fast, over p")
    bottom, right = chart.height - BOTTOM, float(WIDTH - RIGHT)
    low, high = min(0.5, *found), max(2.0, *found) * 1.1
    x, y = Scale(low, high, LEFT, right, log=True), Scale(0.0, 1.0, bottom, TOP)
    grid(chart, x, y, ".0%")
    chart.text((LEFT + right) / 2, chart.height - 8, "p: times as fast", "name", "middle")
    for number, (party, style) in enumerate(parties.items()):
        chart.add("path", style, f"against {party}", points=_steps(ratios[party], len(rows), x, y))
        chart.text(right + 8, TOP + 14 + 18 * number, f"against {party}", f"label {style}")
    return chart


def _steps(values: Sequence[float], total: int, x: Scale, y: Scale) -> str:
    """Points of the falling stairs of fast_p."""
    points, left = [(x.low, len(values) / total)], len(values)
    for value in values:
        points.append((value, left / total))
        left -= 1
        points.append((value, left / total))
    points.append((x.high, left / total))
    return " ".join(f"{x(p):.1f},{y(share):.1f}" for p, share in points)


def html(table: Table, facts: Mapping[str, str]) -> str:
    """One page that opens offline: inline style and SVG, no script. `facts`: what was run."""
    rows, names = table["rows"], baseline_names(table["rows"])
    header, means = means_rows(table)
    return filled(
        "bench.html.j2",
        headline=headline(table),
        names=names,
        rows=[(r, name_of(r), cells(r, names)) for r in rows],
        means_header=header,
        means=means,
        fast_p=table["fast_p"],
        curve=fast_p_chart(rows),
        remarks=remarks(table),
        facts=facts,
        error=ERROR,
        faster=FASTER,
    )
