"""Refuse Python that changes what is not its own: functions of torch, classes, modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from epitaxy.candidate import Candidate
from epitaxy.checks._py import path_of, root_of, tree_of
from epitaxy.problem import Problem
from epitaxy.verdict import Finding


def plugin() -> Patches:
    """The check named `patches`."""
    return Patches()


class Patches:
    """Attributes may be set on `self`, and on modules that the same file makes."""

    name = "patches"

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """A refusal for the first attribute set on anything else."""
        for name, text in candidate.files.items():
            found = next(_python(text), "") if name.endswith(".py") else ""
            if found:
                return [Finding(check=self.name, severity="refusal", message=f"{name}: {found}",
                                mend="set attributes of self only")]  # fmt: skip
        return []


def _python(text: str) -> Iterator[str]:
    tree = tree_of(text)
    if tree is None:
        return
    own = {"self", *_made(tree)}
    for node in ast.walk(tree):
        stored = isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
        if stored and root_of(node) not in own:  # type: ignore[arg-type]
            yield f"changes {ast.unparse(node)}"


def _made(tree: ast.Module) -> set[str]:
    """Names bound to nothing but new modules and parameters of torch.nn."""
    made: set[str] = set()
    other: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            path = path_of(node.value.func)
            fresh = path[:1] == ["nn"] or path[:2] == ["torch", "nn"]
            fresh = fresh and "functional" not in path and path[-1][:1].isupper()
            names = {t.id for t in node.targets if isinstance(t, ast.Name)}
            (made if fresh else other).update(names)
            continue
        for child in ast.walk(node) if isinstance(node, _BINDING) else ():
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                other.add(child.id)
        if isinstance(node, ast.arg):
            other.add(node.arg)
    return made - other


_BINDING = (
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr, ast.For, ast.With, ast.comprehension,
)  # fmt: skip
