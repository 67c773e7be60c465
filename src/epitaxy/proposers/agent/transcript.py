"""What was said, from the ledger's notes, as a page to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from epitaxy.record import printable

LONGEST = 4000
"""Characters shown of one text."""


def render(notes: Iterable[Mapping[str, Any]]) -> str:
    """Markdown of the conversations in `notes` (of one problem), in the order of what was said."""
    return printable("\n\n".join(block for note in notes for block in _blocks(note))) + "\n"


def _blocks(note: Mapping[str, Any]) -> Iterator[str]:
    where = f"island {note['island']}, chapter {note['chapter']}"
    if note["event"] == "ended":
        yield f"**{where} ended:** {note['reason']}"
        return
    who = "model" if note["event"] == "heard" else "epitaxy"
    yield f"### {who} ({where})"
    message = note["message"]
    if message.get("instructions"):
        yield f"System prompt:\n\n{_fenced(message['instructions'])}"
    for part in message.get("parts", ()):
        yield from _part(part)


def _part(part: Mapping[str, Any]) -> Iterator[str]:
    kind = part.get("part_kind")
    if kind == "text":
        yield str(part["content"])
    elif kind == "user-prompt":
        yield _fenced(str(part["content"]))
    elif kind == "tool-return":
        yield f"Result of `{part['tool_name']}`:\n\n{_fenced(str(part['content']))}"
    elif kind == "tool-call":
        yield f"Calls `{part['tool_name']}`:"
        yield from _arguments(part.get("args") or "{}")
    else:
        yield f"({kind})"


def _arguments(given: Any) -> Iterator[str]:
    """Files as texts of their own, the rest as JSON."""
    try:
        read = json.loads(given) if isinstance(given, str) else dict(given)
        files = {f["name"]: f["text"] for f in read.pop("files", ())}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield _fenced(str(given))
        return
    yield _fenced(json.dumps(read, indent=2))
    for name, text in files.items():
        yield f"`{name}`:\n\n{_fenced(text)}"


def _fenced(text: str) -> str:
    more = len(text) - LONGEST
    shown = text if more <= 0 else f"{text[:LONGEST]}\n... {more} more characters"
    fence = "`" * (max(3, 1 + _longest_run(shown)))
    return f"{fence}text\n{shown.strip(chr(10))}\n{fence}"


def _longest_run(text: str) -> int:
    longest = run = 0
    for c in text:
        run = run + 1 if c == "`" else 0
        longest = max(longest, run)
    return longest
