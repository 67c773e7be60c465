"""Python sources as syntax trees, one at a time: threads parse here side by side."""

from __future__ import annotations

import ast
import contextlib
import re
import threading
from typing import Any

_ALONE = threading.Lock()
"""CPython 3.11's parser keeps its recursion depth in one place for all threads."""
TRIES = 8
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def parsed(text: str) -> ast.Module:
    """As `ast.parse`. Raises SyntaxError, ValueError and RecursionError."""
    return _tree(text, "exec")  # type: ignore[no-any-return]


def parsed_expression(text: str) -> ast.expr:
    """The tree of one expression. Raises as `parsed`."""
    return _tree(text, "eval").body  # type: ignore[no-any-return]


def source_lines(text: str) -> list[str]:
    """The lines that a tree's line numbers count, with their ends: a form feed or U+2028, at which
    `str.splitlines` splits too, ends none."""
    return _LINE.findall(text)


def _tree(text: str, mode: str) -> Any:
    """Libraries parse in their own threads, under no lock of ours: what a depth that does not match
    has spoilt is parsed again."""
    with _ALONE:
        for _ in range(TRIES - 1):
            with contextlib.suppress(SystemError):
                return ast.parse(text, mode=mode)
        return ast.parse(text, mode=mode)
