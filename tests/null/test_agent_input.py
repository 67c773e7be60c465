"""What an agent sends cannot stall, end or stand in for anything."""

from __future__ import annotations

import fake_records
import pytest

from epitaxy import facing
from epitaxy.errors import BadCandidate, BadInput
from epitaxy.experiments.recipe import Variant
from epitaxy.handmade import read_folder
from epitaxy.ledger import Ledger
from epitaxy.proposer import Tool
from epitaxy.proposers._unseen import MOST_LOOKS, unseen
from epitaxy.proposers.agent.calls import arguments
from epitaxy.proposers.agent.client import Call
from epitaxy.proposers.grower.genome import parse
from epitaxy.proposers.grower.sweep import LARGEST, sweep
from epitaxy.readers.perf_csv import _LINE
from epitaxy.report import LONGEST_COMPARED, diff


@pytest.mark.parametrize(
    "name",
    ["./model_new.py/x.cpp", ".", "a/./b.cpp", "\N{MATHEMATICAL SCRIPT CAPITAL X}" * 40 + ".cpp",
     "a/" * 9 + "x.cpp"],
)  # fmt: skip
def test_names_that_no_folder_can_hold_are_the_candidates_fault(name):
    candidate = fake_records.candidate(fake_records.problem(), 1)
    with pytest.raises(BadCandidate, match="file name"):
        candidate.replace(files={**candidate.files, name: "x"})


def test_long_genomes_and_reports_are_read_in_linear_time():
    text = "a" * 400_000
    with pytest.raises(BadInput):
        parse(text)
    assert not facing._DECISION.findall(text)
    assert _LINE.search("1,,a,1," + "1" * 4000 + "x") is None


@pytest.mark.parametrize("pattern", [r"(.+)*~", r"((\S+ *)+)+~", ".*" * 30 + "x", r"(a|a){20}b"])
def test_patterns_that_never_end_are_refused(pattern):
    with pytest.raises(BadInput, match="take for ever"):
        Variant(name="a", code="x", contains=(pattern,))


def test_a_sweep_has_an_end():
    spaces = {"region0": {"unroll": (1, 2, 4, 8), "width": (4, 8)}}
    start = parse("region0(unroll=4 width=8)")
    vary = {"unroll": [4] * 3000, "width": [8] * 3000}
    assert len(list(sweep("", vary, start, spaces, 0))) == 2
    wide = {"region0": {"unroll": tuple(range(70)), "width": tuple(range(70))}}
    with pytest.raises(BadInput, match=str(LARGEST)):
        list(sweep("", {"unroll": [], "width": []}, start, wide, 0))


def test_looking_for_something_new_has_an_end():
    made = fake_records.candidate(fake_records.problem(), 1)
    looks = []

    def forever():
        while True:
            looks.append(1)
            yield None, "again", ()

    assert unseen(forever(), lambda *_: made, str, [made], 1) == []
    assert len(looks) <= MOST_LOOKS + 1


def test_nested_arguments_are_an_answer_to_the_model():
    tool = Tool(name="show", about="", schema={"type": "object", "properties": {}}, call=str)
    with pytest.raises(BadInput, match="not JSON"):
        arguments(Call(id="1", tool="show", arguments="[" * 100_000), [tool])


def test_a_name_like_a_digest_does_not_stand_in_for_it(tmp_path):
    problem = fake_records.problem()
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.add_problem(problem)
        ledger.add_problem(problem.replace(name=problem.digest, source=problem.source + "# other"))
        assert ledger.problem(problem.digest) == problem


@pytest.mark.parametrize("name", [".env", "secrets.txt", ".hidden.py"])
def test_a_single_file_must_be_python_source(name, tmp_path):
    (tmp_path / name).write_text("KEY=1")
    with pytest.raises(BadCandidate, match="no Python source"):
        read_folder(tmp_path / name, fake_records.problem())


def test_huge_differences_are_only_said():
    one = fake_records.candidate(fake_records.problem(), 1)
    name = next(iter(one.files))
    many = "\n".join(str(n % 97) for n in range(LONGEST_COMPARED))
    other = one.replace(files={**one.files, name: many})
    assert f"{name} differs" in diff(one, other)
