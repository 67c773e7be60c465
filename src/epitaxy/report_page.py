"""The HTML report: geometry from `report_charts`, layout from `report_templates`.

Every text goes through Jinja2's escaping or pygments' own: a candidate's source is hostile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from epitaxy import report
from epitaxy.progress import milliseconds
from epitaxy.report_charts import interval_chart, limit_chart, sample_chart, search_chart

if TYPE_CHECKING:
    from markupsafe import Markup

    from epitaxy.report import Run

REASONS = 8
"""How many of the commonest reasons for refusal are listed."""


def render(run: Run) -> str:
    """The page as text."""
    return filled("report.html.j2", run=run, **_frame(run), **_evidence(run))


def filled(template: str, **values: Any) -> str:
    """A page of `report_templates`: values are escaped, and one that is missing is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("epitaxy", "report_templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"ms": milliseconds, "percent": report.percent}
    return environment.get_template(template).render(**values)


def _frame(run: Run) -> dict[str, Any]:
    """What the page shows with or without an accepted candidate."""
    return {
        "headline": report.headline(run),
        "won": report.won(run),
        "facts": report.fact_rows(run),
        "tiles": _tiles(run),
        "search": search_chart(run),
        "limit": limit_chart(run),
        "notes": report.notes(run),
        "reasons": report.common_reasons(run)[:REASONS],
        "problem_code": highlight("problem.py", run.problem.source),
        "machine": _machine(run),
        "code_style": code_style(),
    }


def _evidence(run: Run) -> dict[str, Any]:
    """What the page shows about the best candidate."""
    if run.best is None:
        return {"verdict": None}
    candidate, verdict = run.best
    parent = report.parent_of(run, candidate)
    changes = report.diff(candidate, parent) if parent else ""
    return {
        "candidate": candidate,
        "verdict": verdict,
        "comparisons": report.comparison_rows(verdict),
        "intervals": interval_chart(report.comparison_rows(verdict)),
        "samples": sample_chart(verdict),
        "sources": [(name, highlight(name, text)) for name, text in candidate.files.items()],
        "parent": parent,
        "diff": highlight("change.diff", changes) if changes else "",
    }


def _tiles(run: Run) -> list[tuple[str, str]]:
    tiles = [("candidates judged", str(len(run.judged)))]
    if run.best is None:
        return tiles
    verdict = run.best[1]
    if verdict.of_limit is not None:
        tiles.insert(0, ("of the physical limit", f"{verdict.of_limit:.0%}"))
    if verdict.strongest is not None:
        tiles.insert(0, (f"over {verdict.strongest.baseline}", f"{verdict.strongest.speedup:.2f}x"))
    return [("ours", milliseconds(verdict.time_s)), *tiles]


def _machine(run: Run) -> list[tuple[str, str]]:
    rows = [(name, str(value)) for name, value in run.fingerprint.items()]
    if run.best is not None:
        rows.append(("machine record", run.best[1].machine))
        rows.append(("measuring plan", run.best[1].plan))
    if run.chip is not None:
        rows.append(
            ("chip", f"{run.chip.name} ({'measured' if run.chip.measured else 'datasheet'})")
        )
        peaks = run.chip.peak_flops_per_s.items()
        rows += [(f"peak {name}", f"{rate / 1e9:.4g} GFLOP/s") for name, rate in peaks]
        for level in run.chip.levels:
            reads = f"reads {level.read_bytes_per_s / 1e9:.4g} GB/s"
            rows.append((level.name, f"{size(level.bytes)}, {reads}"))
    return rows


def size(count: int) -> str:
    """A number of bytes as a person writes it: `32 KiB`, `24.1 GiB`."""
    scaled, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while scaled >= 1024 and unit != "GiB":
        scaled, unit = scaled / 1024, next(units)
    return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:.0f} {unit}"


def highlight(name: str, text: str) -> Markup:
    """`text` as highlighted HTML; the language is told by the file's name."""
    import pygments
    import pygments.lexers
    from markupsafe import Markup
    from pygments.formatters import HtmlFormatter
    from pygments.util import ClassNotFound

    try:
        lexer = pygments.lexers.get_lexer_for_filename(name)
    except ClassNotFound:
        lexer = pygments.lexers.get_lexer_by_name("text")
    return Markup(pygments.highlight(text, lexer, HtmlFormatter(nowrap=False)))


def code_style() -> Markup:
    """Colours for highlighted code, light and dark."""
    from markupsafe import Markup
    from pygments.formatters import HtmlFormatter

    # The page's own panel is the background: a style's would not follow the colour scheme.
    light, dark = (
        HtmlFormatter(style=style, nobackground=True).get_style_defs(".code")
        for style in ("default", "github-dark")
    )
    return Markup(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}")
