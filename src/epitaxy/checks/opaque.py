"""Refuse code that a reader of the source cannot see: assembly, machine code, disguised names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from epitaxy.candidate import Candidate
from epitaxy.checks._cpp import plain, spliced, words
from epitaxy.checks._words import listed
from epitaxy.problem import Problem
from epitaxy.verdict import Finding

_NO_INSTRUCTION = re.compile(r'\basm\(""[ ]*:[ ]*"\+[a-z]"\(\w+\)\)')
"""`asm("" : "+v"(x))`: x stays in a register here; nothing is executed."""
_SECTION = re.compile(r"\b_*section_*\s*\(\s*\"")
_PLACED = re.compile(r"#\s*pragma\s+(?:GCC|clang)\s+section\b")


def plugin() -> Opaque:
    """The check named `opaque`."""
    return Opaque()


class Opaque:
    """Looks at C++ sources as words outside comments and strings."""

    name = "opaque"

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """A refusal for the first thing that hides what it does."""
        for name, text in candidate.files.items():
            found = "" if name.endswith(".py") else next(_cpp(text), "")
            if found:
                mend = "write it in C++, or with the compiler's intrinsics"
                message = f"{name}: {found}"
                return [Finding(check=self.name, severity="refusal", message=message, mend=mend)]
        return []


def _cpp(text: str) -> Iterator[str]:
    code = plain(text)
    for found in sorted(words(_NO_INSTRUCTION.sub(" ", text)) & listed("cpp", "opaque")):
        yield f"uses {found}"
    if re.search(r"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}", code):
        yield "spells an identifier in escapes"
    if re.search(r'\b(?:u8|[uUL])?R\s*""', code):
        yield "holds a raw string"
    if ".incbin" in spliced(text):
        yield "uses .incbin"
    if _SECTION.search(code) or _PLACED.search(code):
        yield "places data in a section of its choice"
