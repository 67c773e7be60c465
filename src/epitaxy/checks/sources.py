"""Refuse sources that reach for more than computing: the system, other code, the harness.

The sandbox confines what runs; this check says early, and by name, what has no place in a kernel.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache

from epitaxy.candidate import Candidate
from epitaxy.checks._cpp import includes, plain, words
from epitaxy.checks._py import imported, languages, path_of
from epitaxy.checks._words import listed, table
from epitaxy.parsing import parsed
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.verdict import Finding

_SPECIAL = re.compile(r"__(?!init__)\w+__")
"""Methods that Python calls by itself, some of them long after the call that they belong to."""
IMPORTS = listed("python", "imports")
CALLS = "|".join(sorted(listed("cpp", "calls")))
_CALL = re.compile(rf"(?:(?<![\w.>:])|(?<!\w)(?:std)?\s*::\s*)({CALLS})\s*\(")
_TAKEN = re.compile(rf"(?<![\w>])::\s*({CALLS})\b|&\s*({CALLS})\b")


def plugin() -> Sources:
    """The check named `sources`."""
    return Sources()


class Sources:
    """Looks at Python as a syntax tree and at C++ as words outside comments and strings."""

    name = "sources"

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """A refusal for the first thing that a kernel has no use for."""
        for name, text in candidate.files.items():
            found = next(_python(text) if name.endswith(".py") else _cpp(text, candidate), "")
            if found:
                return [Finding(check=self.name, severity="refusal", message=f"{name}: {found}",
                                mend="compute with the inputs alone")]  # fmt: skip
        return []


def _python(text: str) -> Iterator[str]:
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        yield f"not Python: {error}"
        return
    kernels = languages(tree)
    for node in ast.walk(tree):
        yield from _python_node(node, kernels)


def _python_node(node: ast.AST, kernels: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _imported(node)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        if _SPECIAL.fullmatch(node.name):
            yield f"defines {node.name}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if _SPECIAL.fullmatch(node.value):
            yield f"names {node.value}"
    elif (
        isinstance(node, ast.Name)
        and not isinstance(node.ctx, ast.Load)
        and _SPECIAL.fullmatch(node.id)
    ):
        yield f"defines {node.id}"
    elif isinstance(node, ast.Name) and node.id in listed("python", "names"):
        yield f"uses {node.id}"
    elif isinstance(node, ast.Name) and node.id.lower().startswith("_epitaxy"):
        if node.id not in listed("python", "loader") or not isinstance(node.ctx, ast.Load):
            yield f"uses {node.id} of the loader"
    elif isinstance(node, ast.Attribute):
        path = path_of(node)
        root = path[0] if path else ""
        own = root == "self" or (root in kernels and len(path) == 2)
        door = node.attr in listed("python", "doors") and not own
        if root == "jax" and path[1] not in listed("python", "jax"):
            yield f"reaches for jax.{path[1]}"
        if root == "triton" and path[1] not in listed("python", "triton"):
            yield f"reaches for triton.{path[1]}"
        if root in kernels and path[1] in listed("python", "triton_language_opaque"):
            yield f"reaches for {'.'.join(path)}"
        inside = node.attr in listed("python", "insides")
        if door or inside or _SPECIAL.fullmatch(node.attr):
            yield f"reaches for {node.attr}"


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.level:
        yield "imports from beside itself"
    bad = listed("python", "doors") | listed("python", "insides") | {"*"}
    for parts in imported(node):
        known = parts[0] in IMPORTS or parts[0] in listed("python", "clocks")
        if parts[0] in ("triton", "jax", "nki"):
            known = ".".join(parts) in listed("python", "kernel_modules")
        if not known or bad & set(parts):
            yield f"imports {'.'.join(parts)}"


def _cpp(text: str, candidate: Candidate) -> Iterator[str]:
    for directive, what in includes(text):
        if directive != "include" or not _may_include(what, candidate):
            yield f"includes {what}"
    code = plain(text)
    for found in sorted(words(text) & listed("cpp", "never")):
        yield f"calls {found}"
    for call in _CALL.finditer(code):
        yield f"calls {call[1]}"
    for taken in _TAKEN.finditer(code):
        yield f"takes {taken[1] or taken[2]}"


def _may_include(what: str, candidate: Candidate) -> bool:
    name = what[1:-1]
    if what[:1] == what[-1:] == '"':
        return name in candidate.files
    if (what[:1], what[-1:]) != ("<", ">") or name.startswith("/") or ".." in name.split("/"):
        return False
    # Some headers are for other checks to judge: those of libraries and of clocks.
    known = listed("cpp", "headers") | listed("cpp", "clock_headers") | _own(candidate.toolchain)
    return name in known or name.split("/")[0] in table()["libraries"]["headers"]


@cache
def _own(toolchain: str) -> frozenset[str]:
    """Headers of the language that a toolchain takes."""
    known = plugins("toolchains")
    found = known.get(toolchain) if toolchain in known.names() or ":" in toolchain else None
    return frozenset(getattr(found, "headers", ()))
