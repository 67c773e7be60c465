"""The suites are problems in KernelBench's format: what can be told without running them."""

import ast
from pathlib import Path

import pytest

from epitaxy.errors import BadInput
from epitaxy.suites import find

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


def write(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1\n")


def test_shipped_suites_are_found_by_name():
    assert [e.path.name for e in find(["level3"])] == [f.name for f in FILES if "level3" in str(f)]
    assert len(find(["all"])) == len(FILES)
    assert {e.level for e in find(["all"])} == {"level1", "level2", "level3"}


def test_a_checkout_is_read_by_its_levels_alone(tmp_path):
    write(tmp_path, "setup.py", "src/eval.py", "KernelBench/level1/10_b.py",
          "KernelBench/level1/2_a.py", "KernelBench/level2/1_c.py", "KernelBench/level1/_x.py",
          "KernelBench/.cache/old.py")  # fmt: skip
    names = [e.name for e in find([str(tmp_path)])]
    assert names == ["level1/2_a", "level1/10_b", "level2/1_c"]
    assert [e.name for e in find([str(tmp_path / "KernelBench" / "level2")])] == ["level2/1_c"]


def test_any_folder_is_searched_and_each_file_taken_once(tmp_path):
    write(tmp_path, "a.py", "deep/er/b.py")
    found = find([str(tmp_path), str(tmp_path / "a.py")])
    assert [e.name for e in found] == [f"{tmp_path.name}/a", "deep/er/b"]


def test_what_is_missing_or_empty_or_double_is_said(tmp_path):
    with pytest.raises(BadInput, match=r"does not exist \(give .*level1"):
        find([str(tmp_path / "nothing")])
    with pytest.raises(BadInput, match="no problem files"):
        find([str(tmp_path)])
    write(tmp_path, "one/level/a.py", "two/level/a.py")
    with pytest.raises(BadInput, match="two problems are called"):
        find([str(tmp_path / "one" / "level"), str(tmp_path / "two" / "level")])
