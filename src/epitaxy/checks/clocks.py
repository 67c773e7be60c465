"""Refuse sources that read a clock: what does not know the time cannot act on being timed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from epitaxy.candidate import Candidate
from epitaxy.checks._cpp import includes, plain, words
from epitaxy.checks._py import imported, root_of, tree_of
from epitaxy.checks._words import listed
from epitaxy.problem import Problem
from epitaxy.verdict import Finding

_CLOCK = re.compile(r"\bclock\b\s*\(")


def plugin() -> Clocks:
    """The check named `clocks`."""
    return Clocks()


class Clocks:
    """Looks for clocks, timers and cycle counters by name."""

    name = "clocks"

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """A refusal for the first clock."""
        for name, text in candidate.files.items():
            found = next(_python(text) if name.endswith(".py") else _cpp(text), "")
            if found:
                return [Finding(check=self.name, severity="refusal", message=f"{name}: {found}",
                                mend="leave timing to the judge")]  # fmt: skip
        return []


def _python(text: str) -> Iterator[str]:
    tree = tree_of(text)
    clocks = listed("python", "clocks")
    for node in ast.walk(tree) if tree else ():
        for parts in imported(node):
            if clocks & set(parts):
                yield f"imports {'.'.join(parts)}"
        if isinstance(node, ast.Attribute) and node.attr in clocks and root_of(node) != "self":
            yield f"reaches for {node.attr}"


def _cpp(text: str) -> Iterator[str]:
    for _, what in includes(text):
        if what.strip('<>"') in listed("cpp", "clock_headers"):
            yield f"includes {what}"
    for found in sorted(words(text) & listed("cpp", "clocks") - {"clock"}):
        yield f"calls {found}"
    if _CLOCK.search(plain(text)):
        yield "calls clock"
