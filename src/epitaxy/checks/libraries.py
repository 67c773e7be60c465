"""Refuse calls into a library that the problem's policy does not list.

`libraries = ["torch"]`, the default, lets a candidate leave steps with PyTorch (it names them in
`left`). Without "torch" every step must be the candidate's own; allocating is always allowed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from epitaxy.candidate import Candidate
from epitaxy.checks._cpp import includes, words
from epitaxy.checks._py import languages, pallas_kernels, path_of, root_of, tree_of
from epitaxy.checks._words import listed, table
from epitaxy.problem import Problem
from epitaxy.verdict import Finding


def plugin() -> Libraries:
    """The check named `libraries`."""
    return Libraries()


class Libraries:
    """Compares what the sources call with the policy's list."""

    name = "libraries"

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """A refusal for the first call into a library that is not listed."""
        allowed = set(problem.policy.libraries)
        for name, text in candidate.files.items():
            for library, call in _python(text) if name.endswith(".py") else _cpp(text):
                if library not in allowed:
                    listed = ", ".join(sorted(allowed)) or "none"
                    return [Finding(
                        check=self.name, severity="refusal",
                        message=f"{name}: calls {call} of {library}; allowed libraries: {listed}",
                        mend=f"compute it yourself, or list {library!r} in the problem's policy",
                    )]  # fmt: skip
        return []


def _python(text: str) -> Iterator[tuple[str, str]]:
    tree = tree_of(text)
    if tree is None:
        return  # `sources` refuses it
    names, arrays = _imported(tree, "torch"), _imported(tree, "jax")
    kernels, own = languages(tree) | {"triton"}, pallas_kernels(tree)
    for node in ast.walk(tree):
        if node in own or (isinstance(node, ast.Call) and root_of(node.func) in kernels):
            continue  # a kernel's own operations
        if isinstance(node, ast.Call) and root_of(node.func) in arrays:
            path = path_of(node.func)
            if path[-1] not in listed("python", "jax_calls"):
                yield "jax", ".".join(path)
            continue
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield "torch", "@"
        elif isinstance(node, ast.ClassDef) and node.name == "ModelNew" and not _computes(node):
            yield "torch", "the forward that ModelNew inherits"
        elif isinstance(node, ast.Call):
            yield from _called(node, names)


def _imported(tree: ast.AST, package: str) -> set[str]:
    """The names that imports of a package bind."""
    return {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).split(".")[0] == package
    }


def _called(node: ast.Call, imported: set[str]) -> Iterator[tuple[str, str]]:
    path = path_of(node.func)
    if path and path[0] in imported:
        if path[-1] not in listed("python", "allocating"):
            yield "torch", ".".join(path)
    elif isinstance(node.func, ast.Attribute) and node.func.attr not in listed(
        "python", "harmless"
    ):
        own = len(path) == 2 and path[0] in ("self", "math", "operator")
        if path[:1] == ["Model"]:
            yield "torch", ".".join(path)
        elif not own:
            yield "torch", f"Tensor.{node.func.attr}"


def _computes(node: ast.ClassDef) -> bool:
    return any(isinstance(x, ast.FunctionDef) and x.name == "forward" for x in node.body)


def _cpp(text: str) -> Iterator[tuple[str, str]]:
    for _, what in includes(text):
        library = table()["libraries"]["headers"].get(what.strip('<>"').split("/")[0])
        if library:
            yield library, what
    for word in sorted(words(text)):
        for prefix, library in table()["libraries"]["prefixes"].items():
            if word.startswith(prefix):
                yield library, word
