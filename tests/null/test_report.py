"""The HTML page, the final table and verdict.json, made from records alone."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import fake_records
import pytest
from rich.console import Console

from epitaxy.report import Run, diff, headline, html, percent, summary_table, verdict_json
from epitaxy.report_page import size

HOSTILE = """int x; // </pre></div><script>alert("owned")</script><img src=http://evil/x onerror=alert(1)>"""  # noqa: E501
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Refuses tags that do not nest; collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


RUNS = {
    "bandwidth": fake_records.run(),
    "roofline": fake_records.run(flops=8e9),
    "slower": fake_records.run(speedups={"eager": 0.9}),
    "no baseline": fake_records.run(speedups={}),
    "one candidate": fake_records.run(count=1),
    "nothing judged": fake_records.run(count=0),
    "no chip": Run(problem=fake_records.problem()),
}


def refused_only() -> Run:
    of = fake_records.problem()
    pairs = [(c, fake_records.refused(c)) for c in (fake_records.candidate(of, n) for n in (1, 2))]
    return Run(problem=of, judged=pairs, stop_reason="budget spent")


@pytest.mark.parametrize("name", RUNS)
def test_page_nests_and_loads_nothing(name: str) -> None:
    text = html(RUNS[name])
    page = Page(text)
    tags = {tag for tag, _ in page.seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    loads = ("src", "href", "srcset", "xlink:href", "action", "data", "background")
    assert not [(tag, a) for tag, attrs in page.seen for a in attrs if a in loads]
    assert not re.search(r"@import|url\(", text)
    assert RUNS[name].problem.name in page.text
    assert headline(RUNS[name]) in page.text


@pytest.mark.parametrize("name", RUNS)
def test_every_picture_is_well_formed_and_within_its_frame(name: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", html(RUNS[name]), flags=re.DOTALL)
    assert bool(pictures) == bool(RUNS[name].judged)
    for picture in map(ElementTree.fromstring, pictures):
        _, _, width, height = map(float, picture.attrib["viewBox"].split())
        for mark in picture.iter():
            for key, most in {"x": width, "cx": width, "x1": width, "x2": width}.items():
                assert -1 <= float(mark.get(key, 0)) <= most + 1, mark.attrib
            for key in ("y", "cy", "y1", "y2"):
                assert -1 <= float(mark.get(key, 0)) <= height + 1, mark.attrib


def test_page_shows_the_evidence() -> None:
    run = RUNS["bandwidth"]
    assert run.best is not None
    text = Page(html(run)).text
    for wanted in (
        "compile max-autotune",
        "no move helps",
        "one round was dropped",
        "large",
        "unroll=12",
        "std::exp",
        "writes outside its output (2 times)",
        "g++ 12.2",
        "AMD EPYC <4 cores>",
        run.best[0].id,
    ):
        assert wanted in text


def test_page_shows_the_difference_from_the_parent() -> None:
    text = Page(html(RUNS["bandwidth"])).text
    assert "-  for (long i = 0; i < 2048L * 4096; i += 11)" in text
    assert "+  for (long i = 0; i < 2048L * 4096; i += 12)" in text


def test_hostile_texts_stay_texts() -> None:
    of = fake_records.problem(name=HOSTILE, source=HOSTILE)
    new = fake_records.candidate(of, 1, kernel=HOSTILE).replace(
        intent=HOSTILE, genome=HOSTILE, regions=(HOSTILE,), proposer=HOSTILE
    )
    won = fake_records.accepted(new, 1e-3, {HOSTILE: 1.5}).replace(build_log=HOSTILE)
    bad = fake_records.candidate(of, 2)
    run = Run(
        problem=of,
        judged=[(new, won), (bad, fake_records.refused(bad, HOSTILE))],
        best=(new, won),
        chip=fake_records.CHIP.replace(name=HOSTILE),
        stop_reason=HOSTILE,
        fingerprint={HOSTILE: HOSTILE},
    )
    page = Page(html(run))
    assert not {tag for tag, _ in page.seen} & {"script", "img"}
    assert not [attrs for _, attrs in page.seen if "onerror" in attrs]
    assert page.text.count('<script>alert("owned")</script>') > 5


def test_headline_claims_only_what_was_shown() -> None:
    assert headline(RUNS["bandwidth"]).startswith("1.80x as fast as compile max-autotune")
    for name in ("slower", "no baseline"):
        assert headline(RUNS[name]).startswith("no evidence of improvement")
    even = fake_records.run(speedups={"eager": 1.01, "compile": 3.0})
    assert headline(even).startswith("no evidence of improvement over eager")
    assert headline(refused_only()) == "no candidate was accepted"


def test_final_table_names_all_baselines_errors_and_the_stop_reason() -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(summary_table(RUNS["bandwidth"]))
    text = stream.getvalue()
    for wanted in ("eager", "compile max-autotune", "2.04–2.16", "large", "74%", "set by memory"):
        assert wanted in text
    for wanted in ("softmax", "view", "no move helps", "10 accepted, 2 refused"):
        assert wanted in text


def test_final_table_without_an_accepted_candidate_says_why() -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(summary_table(refused_only()))
    assert "writes outside its output (2 times)" in stream.getvalue()
    assert "budget spent" in stream.getvalue()


@pytest.mark.parametrize("name", RUNS)
def test_verdict_json_is_plain_json_with_the_same_keys(name: str) -> None:
    document = verdict_json(RUNS[name])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document) == set(verdict_json(RUNS["nothing judged"]))


def test_verdict_json_figures() -> None:
    document = verdict_json(RUNS["bandwidth"])
    assert document["outcome"] == "faster"
    assert document["strongest"] == "compile max-autotune"
    assert document["low"] < document["speedup"] < document["high"]
    assert document["judged"] == {"total": 12, "accepted": 10, "refused": 2}
    assert len(document["verdict"]["samples"]["candidate"]) == 200


def test_algebra_and_silicon_are_told_apart() -> None:
    plain = fake_records.run(flops=8e9)
    candidate, verdict = plain.best
    rules = ("sum of a product with a factor that does not vary",)
    clever = dataclasses.replace(
        plain, best=(candidate.replace(algebra=rules), verdict.replace(algebra=4.0))
    )
    document = verdict_json(clever)
    assert document["algebra"] == 4
    assert document["silicon"] == pytest.approx(document["speedup"] / 4)
    text, other = (_printed(run) for run in (clever, plain))
    assert "4x less work" in text
    assert rules[0] in text
    assert "less work" not in other


def _printed(run: Run) -> str:
    stream = io.StringIO()
    Console(file=stream, width=300).print(summary_table(run))
    return stream.getvalue()


def test_diff_covers_added_and_removed_files() -> None:
    of = fake_records.problem()
    old = fake_records.candidate(of, 1)
    new = old.replace(files={"forward.py": old.files["forward.py"], "more.h": "int a;\n"})
    assert "+int a;" in diff(new, old)
    assert "-#include <cmath>" in diff(new, old)
    assert diff(old, old) == ""


@pytest.mark.parametrize(("share", "text"), [(0.031, "3.1 %"), (0.15, "15 %"), (4.383, "438 %")])
def test_shares_are_written_plainly(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(512, "512 B"), (32 << 10, "32 KiB"), (33 << 20, "33 MiB"), (24 << 30, "24 GiB")],
)
def test_sizes_are_written_plainly(count, text):
    assert size(count) == text
