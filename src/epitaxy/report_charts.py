"""Charts as lists of marks in pixels; `report_templates/chart.j2` draws them as SVG."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epitaxy.chip import Chip
    from epitaxy.report import Run
    from epitaxy.verdict import Comparison, Verdict

WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 76, 196, 16, 44
LABEL_GAP = 14
MOST_SAMPLES = 160
"""Samples drawn for each party; all of them are in verdict.json."""


@dataclasses.dataclass
class Chart:
    """One SVG picture. `label` is what a screen reader says."""

    label: str
    height: int = 340
    width: int = WIDTH
    marks: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, kind: str, style: str, title: str = "", **numbers: Any) -> None:
        """Append a mark: line, dot, cross, rect, path or text; `style` is its CSS class."""
        rounded = {k: round(v, 1) if isinstance(v, float) else v for k, v in numbers.items()}
        self.marks.append({"kind": kind, "style": style, "title": title, **rounded})

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """Append a text; `y` is its baseline."""
        self.add("text", style, x=x, y=y, text=text, anchor=anchor)


@dataclasses.dataclass(frozen=True)
class Scale:
    """Values `low`..`high` onto pixels `start`..`end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(max(value, self.low * 1e-9)) if self.log else value
        return self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values within the scale."""
        if self.log:
            steps = (1, 2, 5) if self.high / self.low < 300 else (1,)
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**d for d in decades for m in steps]
        else:
            raw = (self.high - self.low) / count or 1.0
            unit = 10.0 ** math.floor(math.log10(raw))
            step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)
            first = math.ceil(self.low / step)
            found = [step * n for n in range(first, math.floor(self.high / step) + 1)]
        return [v for v in found if self.low <= v * (1 + 1e-9) and v <= self.high * (1 + 1e-9)]


def log_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale with some air around positive `values`."""
    return Scale(min(values) / 1.25, max(values) * 1.25, start, end, log=True)


def search_chart(run: Run) -> Chart | None:
    """Time of each judged candidate in order, best so far, baselines and floor; None if empty."""
    if not run.judged:
        return None
    chart = Chart("Time of each judged candidate, in the order judged")
    times = [v.time_s for _, v in run.judged if v.time_s]
    lines = _reference_times(run)
    bottom = chart.height - BOTTOM
    x = Scale(0.5, len(run.judged) + 0.5, LEFT, WIDTH - RIGHT)
    if times:
        y = log_scale([*times, *(t for _, t, _ in lines)], bottom - 18, TOP)
        _y_axis(chart, y, lambda v: f"{v * 1e3:.3g}", "ms")
        _reference_lines(chart, y, lines)
        _best_so_far(chart, run, x, y)
    for order, (candidate, verdict) in enumerate(run.judged, 1):
        if verdict.time_s:
            what = f"{order}: {candidate.id} {verdict.time_s * 1e3:.4g} ms {candidate.intent}"
            is_best = run.best is not None and candidate.digest == run.best[0].digest
            chart.add(
                "dot", "best" if is_best else "ours", what, x=x(order), y=y(verdict.time_s), r=4
            )
        else:
            what = f"{order}: {candidate.id} {verdict.status}: {verdict.reason}"
            chart.add("cross", "refused", what, x=x(order), y=float(bottom - 7), r=3.5)
    chart.add("line", "axis", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom)
    for order in {1, len(run.judged), *(round(t) for t in x.ticks() if 1 <= t <= len(run.judged))}:
        chart.text(x(order), bottom + 16, str(order), "tick", "middle")
    chart.text(
        (LEFT + WIDTH - RIGHT) / 2,
        chart.height - 8,
        "candidate, in the order judged",
        "name",
        "middle",
    )
    return chart


def _reference_times(run: Run) -> list[tuple[str, float, str]]:
    """(name, time_s, css class) of the baselines and the floor."""
    if run.best is None:
        return []
    verdict = run.best[1]
    lines = [(c.baseline, c.time_s, "base") for c in verdict.comparisons]
    return lines + (
        [("floor", verdict.floor.time_s, "floor")] if verdict.floor and verdict.floor.time_s else []
    )


def _reference_lines(chart: Chart, y: Scale, lines: Sequence[tuple[str, float, str]]) -> None:
    last = -1e9
    for name, time_s, style in sorted(lines, key=lambda line: y(line[1])):
        at = y(time_s)
        last = max(at + 4, last + LABEL_GAP)
        chart.add(
            "line", style, f"{name}: {time_s * 1e3:.4g} ms", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at
        )
        chart.text(WIDTH - RIGHT + 8, last, f"{name} {time_s * 1e3:.3g}", f"label {style}")


def _best_so_far(chart: Chart, run: Run, x: Scale, y: Scale) -> None:
    path: list[Any] = []
    best = math.inf
    for order, (_, verdict) in enumerate(run.judged, 1):
        if verdict.time_s and verdict.time_s < best:
            if path:
                path.append((x(order), y(best)))
            best = verdict.time_s
            path.append((x(order), y(best)))
    path.append((x(len(run.judged) + 0.5), y(best)))
    chart.add("path", "best", "best so far", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in path))


def _y_axis(chart: Chart, y: Scale, form: Any, name: str, right: int = WIDTH - RIGHT) -> None:
    for value in y.ticks():
        chart.add("line", "grid", x1=LEFT, x2=right, y1=y(value), y2=y(value))
        chart.text(LEFT - 8, y(value) + 4, form(value), "tick", "end")
    chart.text(14, TOP + 4, name, "name")


def grid(chart: Chart, x: Scale, y: Scale, form: str = "g") -> None:
    """Lines across a chart at round values of both scales, with those of `y` written by `form`."""
    for value in y.ticks():
        chart.add("line", "grid", x1=x.start, x2=x.end, y1=y(value), y2=y(value))
        chart.text(x.start - 8, y(value) + 4, f"{value:{form}}", "tick", "end")
    for value in x.ticks():
        chart.add("line", "grid", x1=x(value), x2=x(value), y1=y.end, y2=y.start)
        chart.text(x(value), y.start + 16, f"{value:g}", "tick", "middle")


def limit_chart(run: Run) -> Chart | None:
    """The roofline if the problem counts flops, else achieved bandwidth; None if unknown."""
    if run.best is None or run.best[1].time_s is None:
        return None
    work = run.problem.work
    if (
        work.flops > 0
        and work.bytes > 0
        and run.chip
        and run.chip.levels
        and run.chip.peak_flops_per_s
    ):
        return _roofline(run, run.chip)
    return _bandwidth(run) if work.bytes > 0 else None


def _roofline(run: Run, chip: Chip) -> Chart:
    chart = Chart("Roofline: flop/s over flops per byte", height=380)
    work, bottom, right = run.problem.work, chart.height - BOTTOM, WIDTH - RIGHT
    intensity = work.flops / work.bytes
    peaks = {k: v for k, v in chip.peak_flops_per_s.items() if v > 0}
    top = max(peaks.values())
    levels = [level for level in chip.levels if level.read_bytes_per_s > 0]
    ridges = [top / level.read_bytes_per_s for level in levels]
    parties = _parties(run)
    x = log_scale([intensity / 4, intensity * 4, *ridges], LEFT, right)
    y = log_scale([top, *(work.flops / t for _, t, _ in parties)], bottom, TOP)
    _y_axis(chart, y, lambda v: f"{v / 1e9:.3g}", "GFLOP/s")
    for value in x.ticks():
        chart.text(x(value), bottom + 16, f"{value:.3g}", "tick", "middle")
    chart.text((LEFT + right) / 2, chart.height - 8, "flops per byte", "name", "middle")
    used = [-1e9]
    for name, peak in sorted(peaks.items(), key=lambda p: -p[1]):
        if peak > y.low:
            chart.add(
                "line",
                "roof",
                f"{name} {peak / 1e9:.4g} GFLOP/s",
                x1=LEFT,
                x2=right,
                y1=y(peak),
                y2=y(peak),
            )
            used.append(max(y(peak) + 4, used[-1] + LABEL_GAP))
            chart.text(right + 8, used[-1], f"{name} {peak / 1e9:.4g} GFLOP/s", "label")
    for level in levels:
        _slope(chart, x, y, level.name, level.read_bytes_per_s, top)
    chart.add("line", "grid", x1=x(intensity), x2=x(intensity), y1=TOP, y2=bottom)
    for name, time_s, style in parties:
        rate = work.flops / time_s
        chart.add("dot", style, f"{name}: {rate / 1e9:.4g} GFLOP/s", x=x(intensity), y=y(rate), r=4)
    return chart


def _slope(chart: Chart, x: Scale, y: Scale, name: str, bytes_per_s: float, top: float) -> None:
    """One memory level's diagonal, clipped to the picture."""
    start = max(x.low, y.low / bytes_per_s)
    stop = min(x.high, top / bytes_per_s)
    if start >= stop:
        return
    title = f"{name} {bytes_per_s / 1e9:.4g} GB/s"
    ends = {
        "x1": x(start),
        "y1": y(start * bytes_per_s),
        "x2": x(stop),
        "y2": y(stop * bytes_per_s),
    }
    chart.add("line", "roof", title, **ends)
    chart.text(ends["x1"] + 6, ends["y1"] - 6, f"{name} {bytes_per_s / 1e9:.3g} GB/s", "label")


def _parties(run: Run) -> list[tuple[str, float, str]]:
    """(name, time_s, css class): other accepted candidates, the baselines, the best on top."""
    assert run.best is not None
    best, verdict = run.best
    others = [
        (c.id, v.time_s, "ours") for c, v in run.judged if v.time_s and c.digest != best.digest
    ]
    bases = [(c.baseline, c.time_s, "base") for c in verdict.comparisons]
    return [*others, *bases, ("ours", verdict.time_s or 0.0, "best")]


def _bandwidth(run: Run) -> Chart:
    """Bars of least bytes over time, against the measured bandwidth of each memory level."""
    assert run.best is not None
    verdict, total = run.best[1], run.problem.work.bytes
    bars = [("ours", verdict.time_s or 1.0, "best")]
    bars += [
        (c.baseline, c.time_s, "base") for c in sorted(verdict.comparisons, key=lambda c: c.time_s)
    ]
    fastest = max(total / t for _, t, _ in bars)
    levels = [v for v in (run.chip.levels if run.chip else ()) if v.read_bytes_per_s > 0]
    near = [v for v in levels if v.read_bytes_per_s <= 2 * fastest] or levels[-1:]
    chart = Chart("Achieved bandwidth of the least traffic", height=48 + 26 * len(bars) + BOTTOM)
    left, bottom = 230, chart.height - BOTTOM
    high = max([fastest, *(v.read_bytes_per_s for v in near)]) / 1e9 * 1.08
    x = Scale(0.0, high, left, WIDTH - 70)
    for value in x.ticks():
        chart.add("line", "grid", x1=x(value), x2=x(value), y1=44, y2=bottom)
        chart.text(x(value), bottom + 16, f"{value:.4g}", "tick", "middle")
    for row, (name, time_s, style) in enumerate(bars):
        rate = total / time_s / 1e9
        y = 48.0 + 26 * row
        title = f"{name}: {rate:.4g} GB/s"
        chart.add("rect", style, title, x=left, y=y, width=max(x(rate) - left, 1.0), height=18)
        chart.text(left - 8, y + 13, name, "row", "end")
        chart.text(x(rate) + 5, y + 13, f"{rate:.3g}", "value")
    for number, level in enumerate(near):
        rate, label_y = level.read_bytes_per_s / 1e9, 14 + 14 * (number % 2)
        chart.add(
            "line",
            "floor",
            f"{level.name}: {rate:.4g} GB/s",
            x1=x(rate),
            x2=x(rate),
            y1=label_y + 4,
            y2=bottom,
        )
        anchor = "end" if x(rate) > WIDTH - 200 else "middle"
        chart.text(x(rate), label_y, f"{level.name} reads {rate:.4g}", "label floor", anchor)
    chart.text(
        (left + WIDTH) / 2,
        chart.height - 8,
        "GB/s (bytes that must move once ÷ time)",
        "name",
        "middle",
    )
    return chart


def interval_chart(comparisons: Sequence[Comparison]) -> Chart | None:
    """Speed-up over each baseline with its interval, against 1."""
    if not comparisons:
        return None
    chart = Chart(
        "Speed-up over each baseline with its interval", height=26 * len(comparisons) + BOTTOM + 10
    )
    left, bottom = 230, chart.height - BOTTOM
    bounds = [1.0, *(c.low for c in comparisons), *(c.high for c in comparisons)]
    x = log_scale([b for b in bounds if b > 0], left, WIDTH - 90)
    for value in x.ticks():
        chart.add("line", "grid", x1=x(value), x2=x(value), y1=4, y2=bottom)
        chart.text(x(value), bottom + 16, f"{value:.3g}x", "tick", "middle")
    chart.add("line", "axis", x1=x(1.0), x2=x(1.0), y1=4, y2=bottom)
    for row, c in enumerate(comparisons):
        y, style = 17.0 + 26 * row, c.outcome.replace(" ", "-")
        title = f"{c.baseline}: {c.speedup:.3f}x ({c.low:.3f}–{c.high:.3f}), {c.outcome}"
        chart.add(
            "line", f"interval {style}", title, x1=x(c.low or x.low), x2=x(c.high), y1=y, y2=y
        )
        chart.add("dot", style, title, x=x(c.speedup), y=y, r=4.5)
        chart.text(left - 8, y + 4, c.baseline, "row", "end")
        chart.text(WIDTH - 82, y + 4, f"{c.speedup:.2f}x", "value")
    chart.text((left + WIDTH) / 2, chart.height - 8, "slower  ←  1x  →  faster", "name", "middle")
    return chart


def sample_chart(verdict: Verdict) -> Chart | None:
    """Every party's samples as a strip with its quartiles."""
    parties = {name: values for name, values in verdict.samples.items() if values}
    if not parties:
        return None
    chart = Chart("Raw time samples of each party", height=30 * len(parties) + BOTTOM + 10)
    left, bottom = 230, chart.height - BOTTOM
    kept = [v for values in parties.values() for v in (min(values), _quantile(values, 0.97))]
    x = log_scale([v for v in kept if v > 0] or [1.0], left, WIDTH - 90)
    for value in x.ticks():
        chart.add("line", "grid", x1=x(value), x2=x(value), y1=4, y2=bottom)
        chart.text(x(value), bottom + 16, f"{value * 1e3:.3g}", "tick", "middle")
    for row, (name, values) in enumerate(parties.items()):
        style = "best" if name == "candidate" else "base"
        _strip(chart, x, 20.0 + 30 * row, values, style)
        chart.text(left - 8, 24.0 + 30 * row, name, "row", "end")
        chart.text(
            WIDTH - 82, 24.0 + 30 * row, f"{statistics.median(values) * 1e3:.4g} ms", "value"
        )
    chart.text(
        (left + WIDTH) / 2,
        chart.height - 8,
        "ms (the slowest 3 % may lie outside)",
        "name",
        "middle",
    )
    return chart


def _strip(chart: Chart, x: Scale, y: float, values: Sequence[float], style: str) -> None:
    every = max(1, math.ceil(len(values) / MOST_SAMPLES))
    for number, value in enumerate(values[::every]):
        if 0 < value <= x.high:
            # A fixed zigzag keeps equal samples apart without a random number in the report.
            chart.add("dot", f"sample {style}", x=x(value), y=y + (number * 7 % 13 - 6), r=1.6)
    low, middle, high = (_quantile(values, q) for q in (0.25, 0.5, 0.75))
    title = (
        f"quartiles {low * 1e3:.4g}, {middle * 1e3:.4g}, {high * 1e3:.4g} ms; {len(values)} samples"
    )
    right = min(x(high), x.end)
    chart.add("rect", "box", title, x=x(low), y=y - 9, width=max(right - x(low), 1.0), height=18)
    chart.add("line", f"median {style}", title, x1=x(middle), x2=x(middle), y1=y - 9, y2=y + 9)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
