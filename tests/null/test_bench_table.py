"""The table of a suite, made from verdict documents alone."""

from __future__ import annotations

import fake_records
import pytest
from test_report import Page

from epitaxy.bench_report import cells, fast_p_chart, headline, html, markdown
from epitaxy.bench_table import (
    BEST,
    ERROR,
    FASTER,
    LEFT,
    empty_row,
    handed_back,
    ratio,
    row_of,
    tabulate,
)
from epitaxy.report import verdict_json
from epitaxy.verdict import Finding


def row(name, speedups, algebra=False):
    """The row of a made-up problem."""
    run = fake_records.run(count=1, speedups=speedups)
    candidate, verdict = run.best
    if algebra:
        found = Finding(check="algebra", severity="note", message="less arithmetic")
        verdict = verdict.replace(findings=(found,))
    document = verdict_json(fake_records.Run(problem=run.problem, best=(candidate, verdict)))
    document["problem"]["name"] = name
    return row_of(document, "level1")


WON = row("won", {"eager": 4.0, "compile": 3.0, "max_autotune+mkl": 2.0})
SLOW = row("slow", {"eager": 2.0, "max_autotune+mkl": 0.5})
CLEVER = row("clever", {"eager": 80.0, "max_autotune+mkl": 50.0}, algebra=True)
BROKEN = empty_row("broken", "level2", ERROR, "it raises — mend it")
UNKNOWN = empty_row("lstm", "level3", LEFT, "nothing can be grown")
ROWS = [WON, SLOW, CLEVER, BROKEN, UNKNOWN]


def test_a_row_says_what_became_of_a_problem():
    assert (WON["status"], SLOW["status"]) == (FASTER, LEFT)
    assert "slower than max_autotune+mkl" in SLOW["reason"]
    assert ratio(WON, BEST) == 2.0
    assert ratio(WON, "torch.compile") == 3.0
    assert ratio(SLOW, "torch.compile") is None
    assert [handed_back(r, BEST) for r in ROWS] == [2.0, 1.0, 50.0, None, 1.0]


def test_means_keep_algebra_apart_and_show_what_is_slower():
    means = tabulate(ROWS)["means"][BEST]
    assert means["as judged, without algebra"] == {"mean": pytest.approx(1.0), "problems": 2}
    assert means["as judged"]["mean"] == pytest.approx(50 ** (1 / 3))
    assert means["handed back, without algebra"] == {
        "mean": pytest.approx(2 ** (1 / 3)), "problems": 3,
    }  # fmt: skip


def test_what_the_floor_allows_stands_beside_what_was_reached():
    table = tabulate([{**WON, "of_limit": 0.5}, {**SLOW, "of_limit": 0.25}, UNKNOWN])
    assert table["means"][BEST]["the floor allows"] == {
        "mean": pytest.approx(((2 / 0.5) * (0.5 / 0.25)) ** 0.5), "problems": 2,
    }  # fmt: skip
    assert "the floor allows" in markdown(table)


def test_fast_p_counts_every_problem():
    table = tabulate(ROWS)
    assert table["fast_p"][BEST] == {"0": 0.6, "1": 0.4, "1.5": 0.4, "2": 0.2, "3": 0.2}
    assert table["worst"] == {"problem": "level1/slow", "speedup": 0.5}
    assert table["count"] == {
        "problems": 5, "judged": 3, FASTER: 2, LEFT: 2, ERROR: 1, "algebra": 1,
    }  # fmt: skip


def test_no_row_at_all_is_a_table_too():
    table = tabulate([])
    assert table["geometric_mean"] is None
    assert "0 problems" in headline(table)
    assert fast_p_chart([]) is None


def test_markdown_and_page_show_each_row_with_its_reason():
    table = tabulate(ROWS)
    page = Page(html(table, {"cpu": "<AMD>"}))
    for text in (markdown(table), page.text):
        for wanted in ("level1/won", "2.00x", "faster (algebra)", "it raises", "nothing can be",
                       "max_autotune+mkl",
                       "Worst ratio as judged: 0.50x (level1/slow)"):  # fmt: skip
            assert wanted in text
    assert not {tag for tag, _ in page.seen} & {"script", "link", "img"}
    assert "<AMD>" in page.text


def test_every_row_has_as_many_cells_as_the_header():
    table = tabulate(ROWS)
    lines = [line for line in markdown(table).splitlines() if line.startswith("| level")]
    assert len(lines) == len(ROWS)
    assert len({line.count("|") for line in lines}) == 1
    assert len({len(cells(r, ["eager"])) for r in ROWS}) == 1


def test_the_curve_falls_from_the_share_that_is_correct():
    chart = fast_p_chart(ROWS)
    curves = [m for m in chart.marks if m["kind"] == "path"]
    assert len(curves) == 2
    for curve in curves:
        heights = [float(p.split(",")[1]) for p in curve["points"].split()]
        assert heights == sorted(heights), "down the page is a smaller share"
