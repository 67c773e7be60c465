"""C++ sources as a compiler sees them: no comments, no literals, no continued lines."""

from __future__ import annotations

import re

# Words and numbers come before characters: the ' in 1'000 and in case'x' are different things.
_TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<word> [A-Za-z_]\w* | \.?[0-9](?:'\w|[eEpP][+-]|[\w.])* )
    | (?P<string> "(?:\\.|[^"\\\n])*" )
    | (?P<character> '(?:\\.|[^'\\\n])+' )
    """,
    re.S | re.X,
)
_INCLUDE = re.compile(r"^[ \t]*(?:\#|%:)[ \t]*(include(?:_next)?|import|embed)\b[ \t]*(.*)$", re.M)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SHOWN = {"comment": " ", "string": ' "" ', "character": " 0 "}


def spliced(text: str) -> str:
    """`text` with continued lines joined, as the compiler does before anything else."""
    return re.sub(r"\\[ \t]*\r?\n", "", text)


def plain(text: str) -> str:
    """`text` with comments and literals blanked. A raw string shows its prefix, such as R."""
    return _TOKEN.sub(lambda m: _SHOWN.get(m.lastgroup or "", m[0]), spliced(text))


def words(text: str) -> set[str]:
    """Every identifier outside comments and literals, also those that `##` would paste."""
    code = plain(text)
    return set(_WORD.findall(code)) | set(_WORD.findall(re.sub(r"\s*(?:##|%:%:)\s*", "", code)))


def includes(text: str) -> list[tuple[str, str]]:
    """(directive, what it names) of every directive that pulls in another file."""
    code = _TOKEN.sub(lambda m: " " if m.lastgroup == "comment" else m[0], spliced(text))
    return [(m[1], m[2].strip()) for m in _INCLUDE.finditer(code)]
