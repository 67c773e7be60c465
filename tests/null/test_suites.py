"""The suites are problems in KernelBench's format: what can be told without running them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "suites"
FILES = sorted(ROOT.glob("level*/*.py"))


def test_there_are_three_levels_with_many_problems():
    assert {f.parent.name for f in FILES} == {"level1", "level2", "level3"}
    assert len(FILES) >= 60
    assert len({f.stem for f in FILES}) == len(FILES), "a name means one problem"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_problem_says_what_it_is_and_defines_what_is_needed(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    names = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    assert {"Model", "get_inputs", "get_init_inputs"} <= names
