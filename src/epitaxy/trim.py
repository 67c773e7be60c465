"""A compiler's message cut to what its reader can act on."""

from __future__ import annotations

import re

ERRORS = 4
"""Errors shown: the rest mostly follow from the first ones."""
AROUND = 4
"""Lines shown after an error: its source line, its caret, a suggestion."""
LONGEST = 300
"""Characters of one line: a template's arguments can fill pages."""
_ERROR = re.compile(
    r"\b(?:fatal )?error:|undefined reference|undefined symbol|^\w*(?:Error|Exception)\b"
)
_NEXT = re.compile(
    r": (?:warning|note|error|fatal error):|^In file included|In function|instantiat"
)
_PATH = re.compile(r"(?:/[\w.+-]+)+/(?=[\w.+-]+)")


def compiler(log: str) -> str:
    """The first errors of a build's log with the lines that explain each, folders left out; the
    log's end where no line names an error. "" stays "".
    """
    lines = [_PATH.sub("", line.rstrip())[:LONGEST] for line in log.splitlines() if line.strip()]
    at = [i for i, line in enumerate(lines) if _ERROR.search(line)]
    if not at:
        return "\n".join(lines[-AROUND - 1 :])
    shown: list[str] = []
    for i in at[:ERRORS]:
        shown.append(lines[i])
        for line in lines[i + 1 : i + 1 + AROUND]:
            if _NEXT.search(line) and ": note:" not in line:
                break
            shown.append(line)
    more = len(at) - ERRORS
    return "\n".join([*shown, *([f"and {more} more errors"] if more > 0 else [])])


def telling(text: str) -> str:
    """The line of a failure that says most: the last that names an error, or the last."""
    lines = text.strip().splitlines() or ["no reason given"]
    return next((line.strip() for line in reversed(lines) if "rror:" in line), lines[-1])
