"""Sources are parsed in one place, one at a time."""

from __future__ import annotations

import ast
import sys
import threading
from pathlib import Path

import epitaxy
from epitaxy import parsing
from epitaxy.parsing import parsed, source_lines
from epitaxy.serve.place import leave_path

ROOT = Path(epitaxy.__file__).parent


def test_nobody_else_parses():
    found = [p.name for p in ROOT.rglob("*.py") if "ast.parse(" in p.read_text(encoding="utf-8")]
    assert found == ["parsing.py"]


def test_lines_are_those_that_a_tree_counts():
    text = 'x = 1\r\n\x0c\r\ry = "a\u2028\x0b\x1d"\n\nz = 3'
    lines = source_lines(text)
    assert "".join(lines) == text
    for node in parsed(text).body:
        assert lines[node.lineno - 1].startswith(ast.unparse(node)[:3])
    assert source_lines("") == []


def test_threads_parse_side_by_side():
    deep = "x = " + "(" * 60 + "1" + ")" * 60
    faults = []

    def work():
        try:
            for _ in range(40):
                parsed(deep)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_server_imports_nothing_from_the_folder_of_its_agent(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    others = [p for p in sys.path if p]
    (tmp_path / "work" / "src" / "deep").mkdir(parents=True)
    below = str(tmp_path / "work" / "src" / "deep")
    link = tmp_path / "link"
    link.symlink_to(below)
    monkeypatch.setattr(
        sys, "path", ["", str(tmp_path), str(tmp_path / "work"), below, str(link), *others]
    )
    assert leave_path(tmp_path / "work") == []
    assert sys.path == others
    monkeypatch.chdir(ROOT.parent)
    monkeypatch.setattr(sys, "path", ["", "elsewhere"])
    leave_path(tmp_path)
    assert sys.path == [str(ROOT.parent), "elsewhere"], "the package itself stays where it is"


def test_an_environment_in_the_folder_of_the_agent_stays_and_is_told(monkeypatch, tmp_path):
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    paths = [str(tmp_path / "venv" / "lib"), str(tmp_path / "lib"), "/elsewhere"]
    monkeypatch.setattr(sys, "path", [*paths])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    assert leave_path(tmp_path) == [str(tmp_path / "venv")]
    assert sys.path == [paths[0], paths[2]]
    monkeypatch.setattr(sys, "path", [*paths])
    monkeypatch.setattr(sys, "prefix", str(tmp_path.parent))
    assert leave_path(tmp_path) == [], "a folder within the environment is the agent's alone"
    assert sys.path == [paths[2]]


def test_a_depth_that_another_thread_spoilt_is_tried_again(monkeypatch):
    answers = [SystemError("AST constructor recursion depth mismatch")] * 2
    real = ast.parse

    def parse(text, **options):
        if answers:
            raise answers.pop()
        return real(text, **options)

    monkeypatch.setattr(parsing.ast, "parse", parse)
    assert ast.unparse(parsing.parsed("x = 1")) == "x = 1"
    assert ast.unparse(parsing.parsed_expression("a + b")) == "a + b"
