"""Budgets of the source: short files, short signatures, every public name explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import epitaxy

ROOT = Path(epitaxy.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LINES = 400
PARAMETERS = 8
OPTIONS = (
    "commands/search.py",
    "commands/records.py",
    "commands/learning.py",
    "commands/porting.py",
    "commands/serving.py",
    "serve/tools.py",
)
"""Where parameters are the options of a command, or a tool's arguments, one each: that is how typer
and the protocol declare them."""
INHERITED = {"validate", "axes"}
"""Overrides whose documentation stands at the base class."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def public(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef, bool]]:
    """(name, node, whether it is a method) of what others may use: no underscore anywhere."""
    stack: list[tuple[str, ast.Module | ast.ClassDef]] = [("", tree)]
    while stack:
        prefix, parent = stack.pop()
        for node in parent.body:
            if not isinstance(node, Function | ast.ClassDef):
                continue
            if node.name.startswith("_") and node.name != "__init__":
                continue
            name = f"{prefix}{node.name}"
            yield name, node, isinstance(parent, ast.ClassDef)
            if isinstance(node, ast.ClassDef):
                stack.append((f"{name}.", node))


def parameters(function: Function, method: bool) -> int:
    """How many values a caller may give, `self` and `cls` apart."""
    a = function.args
    count = len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs)
    static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
    return count - (method and not static)


def long_signatures(text: str) -> list[str]:
    return [
        name
        for name, node, method in public(ast.parse(text))
        if isinstance(node, Function) and parameters(node, method) >= PARAMETERS
    ]


def unexplained(text: str) -> list[str]:
    tree = ast.parse(text)
    names = [] if ast.get_docstring(tree) else ["the module"]
    for name, node, method in public(tree):
        own = name.rpartition(".")[2]
        inherited = method and (own in INHERITED or own == "__init__")
        if not ast.get_docstring(node) and not inherited:
            names.append(name)
    return names


@EACH_FILE
def test_files_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES


@EACH_FILE
def test_signatures_are_short(path):
    if path.relative_to(ROOT).as_posix() not in OPTIONS:
        assert long_signatures(path.read_text(encoding="utf-8")) == []


@EACH_FILE
def test_public_names_are_explained(path):
    assert unexplained(path.read_text(encoding="utf-8")) == []


def test_the_checks_can_fail():
    assert long_signatures("def f(a, b, c, d, *, e, f, g, h): ...") == ["f"]
    assert long_signatures("class A:\n def f(self, a, b, c, d, e, f, g): ...") == []
    assert long_signatures("class A:\n def __init__(self, a, b, c, d, e, f, g, h): ...")
    assert unexplained("'''A.'''\ndef f(): ...\ndef _g(): ...") == ["f"]
    assert unexplained("'''A.'''\nclass A:\n '''B.'''\n def m(self): ...") == ["A.m"]
    assert unexplained("x = 1") == ["the module"]
