"""Python sources as syntax trees, one at a time: threads parse here side by side."""

from __future__ import annotations

import ast
import threading

_ALONE = threading.Lock()
"""CPython 3.11's parser keeps its recursion depth in one place for all threads."""


def parsed(text: str) -> ast.Module:
    """As `ast.parse`. Raises SyntaxError, ValueError and RecursionError."""
    with _ALONE:
        return ast.parse(text)


def parsed_expression(text: str) -> ast.expr:
    """The tree of one expression. Raises as `parsed`."""
    with _ALONE:
        return ast.parse(text, mode="eval").body
