"""Imports at module level point one way. Imports inside functions are lazy, and free."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import epitaxy

ROOT = Path(epitaxy.__file__).parent
LAYERS = (
    "errors parsing",
    "record",
    "precision problem chip candidate verdict metric budget",
    "plugin toolchain machine check proposer reader",
    "timing race paired sequential natives quiet roofline mutate"
    " seccomp sandbox compiler product evidence worker probe chip_facts suites shrink"
    " graphs ahead memory predict trim handmade expression rulebook tiling",
    "toolchains machines checks proposers references baselines readers",
    "experiments cases guards reload correct lint chain measure onchip judge checked ledger study"
    " view replay reports diagnose",
    "report report_charts report_page chip_report progress doctor bench_table bench_report compare"
    " cards exporting profiled unvouched facing searching growing desk services insight profiling"
    " guides guide_numbers knowledge knowledge_files lesson lessons port porting",
    "cli commands known backend optimized watched testing attacks serve __init__",
)
"""From the bottom to the top; parts of one layer may import one another, plugin folders not."""
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts.split()}
FOLDERS = frozenset(LAYERS[5].split())
HEAVY = {"torch", "jax", "numpy", "rich", "typer", "jinja2", "onnx", "onnxruntime", "openvino"}
HEAVY |= {"mcp", "mcp_types", "pydantic", "anyio", "pydantic_ai", "anthropic", "openai"}
MAY_BE_HEAVY = {
    "references": {"torch"},
    "worker": {"torch"},
    "machines": {"torch"},
    "baselines": {"torch", "onnx", "onnxruntime", "openvino"},
    "commands": {"rich", "typer"},
    "serve/server.py": {"mcp", "mcp_types", "pydantic", "anyio"},
    "serve/schema.py": {"pydantic"},
    "proposers/grower": {"torch"},
    "toolchains/_triton_interpreter.py": {"numpy"},
    "toolchains/_nki_model.py": {"numpy"},
}
FORBIDDEN = {
    "judge", "checked", "timing", "checks", "ledger", "study", "replay", "machines", "desk",
    "facing",
}  # fmt: skip
"""What a proposer never imports, not even lazily."""
FILES = sorted(ROOT.rglob("*.py"))


def module_level(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the module does: not in functions, nor under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from module_level(node)


def modules(text: str, all_levels: bool = False) -> Iterator[str]:
    """Dotted names that a file imports."""
    tree = ast.parse(text)
    nodes = ast.walk(tree) if all_levels else module_level(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path: Path) -> str:
    """`judge` for judge.py, `machines` for machines/local.py."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def broken(text: str, mine: str) -> list[str]:
    """Imports in `text`, a file of the part `mine`, that point up."""
    bad = []
    for name in modules(text):
        names = name.split(".")
        theirs = names[1] if names[0] == "epitaxy" and len(names) > 1 else mine
        if theirs not in RANK:
            theirs = "__init__"  # a public name taken from the package itself
        across = theirs != mine and {theirs, mine} <= FOLDERS
        if RANK[theirs] > RANK[mine] or across:
            bad.append(name)
    return bad


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    assert part(path) in RANK, f"give {part(path)} a place in LAYERS"
    assert broken(path.read_text(encoding="utf-8"), part(path)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_imports_stay_where_they_belong(path):
    text = path.read_text(encoding="utf-8")
    inner = path.relative_to(ROOT).as_posix()
    allowed = set().union(*(v for k, v in MAY_BE_HEAVY.items() if f"{inner}/".startswith(f"{k}/")))
    found = {name.split(".")[0] for name in modules(text)} & HEAVY
    assert found <= allowed


@pytest.mark.parametrize(
    "path", [p for p in FILES if part(p) == "proposers"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_proposers_never_reach_the_judge(path):
    """Not even lazily: a proposer sees only the view that it is given."""
    text = path.read_text(encoding="utf-8")
    found = {n.split(".")[1] for n in modules(text, all_levels=True) if n.startswith("epitaxy.")}
    assert not found & FORBIDDEN


def test_the_check_can_fail():
    assert broken("from epitaxy.judge import Judge", "timing")
    assert broken("from epitaxy import judge", "timing")
    assert broken("from epitaxy import Judge", "proposers")
    assert broken("import epitaxy.cli", "ledger")
    assert broken("if True:\n    from epitaxy.study import Study", "machines")
    assert broken("class A:\n    from epitaxy.study import Study", "machines")
    assert broken("from epitaxy.checks import sources", "proposers")
    assert not broken("def f():\n    from epitaxy.study import Study", "machines")
    assert not broken("from epitaxy.machines import local", "machines")


def test_the_tests_have_names_of_their_own():
    """pytest puts every folder on the path: a name twice, or a conftest imported, is another's."""
    tests = Path(__file__).parents[1]
    names = [p.name for p in tests.rglob("*.py") if p.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
    for path in tests.rglob("*.py"):
        imported = {n.split(".")[0] for n in modules(path.read_text(encoding="utf-8"), True)}
        assert "conftest" not in imported, path
