"""Python sources as syntax trees, for the checks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from epitaxy.parsing import parsed

KERNEL_LANGUAGES = ("triton.language", "nki.language", "nki.isa")
"""Modules whose operations exist in kernels alone."""


def tree_of(text: str) -> ast.Module | None:
    """The syntax tree; None where the text is not Python (the check `sources` says so)."""
    try:
        return parsed(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def imported(node: ast.AST) -> Iterator[list[str]]:
    """The dotted names that an import statement asks for, as their parts."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        source = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            yield [*source.split("."), *alias.name.split(".")] if source else alias.name.split(".")


def path_of(node: ast.expr) -> list[str]:
    """`torch.nn.functional.relu` as its parts; empty when it does not start from a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def root_of(node: ast.expr) -> str:
    """The name that an attribute is reached from; "" when it starts from none."""
    return next(iter(path_of(node)), "")


def languages(tree: ast.AST) -> frozenset[str]:
    """Names that mean a module of KERNEL_LANGUAGES wherever they stand: imported as that, bound
    to nothing else."""
    made: set[str] = set()
    other: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                kernel = f"{source}{alias.name}" in KERNEL_LANGUAGES and alias.asname
                (made if kernel else other).add(name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            other.add(node.id)
        elif isinstance(node, ast.arg):
            other.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            other.add(node.name)
    return frozenset(made - other)


def pallas_kernels(tree: ast.AST) -> frozenset[ast.AST]:
    """All nodes of the functions that are given to `pallas_call`, of those that they call, and of
    what says which block is next, which runs with them."""
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    waiting = [
        node.args[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and path_of(node.func)[-1:] == ["pallas_call"]
        if node.args and isinstance(node.args[0], ast.Name)
    ]
    found = {
        inside
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and path_of(node.func)[-1:] == ["BlockSpec"]
        for argument in node.args
        if isinstance(argument, ast.Lambda)
        for inside in ast.walk(argument)
    }
    while waiting:
        kernel = functions.pop(waiting.pop(), None)
        for node in ast.walk(kernel) if kernel is not None else ():
            found.add(node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                waiting.append(node.func.id)
    return frozenset(found)
