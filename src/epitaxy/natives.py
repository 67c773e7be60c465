"""What a built library asks of others: its undefined symbols, read from the ELF file.

ELF-64 by the System V gABI, chapters 4 (section header, symbol table) and 5 (dynamic linking).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

_DYNSYM = 11
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


def undefined(library: Path) -> list[str]:
    """Names that `library` needs from others, in order; empty for a file that is no ELF-64."""
    data = library.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return []
    start = struct.unpack_from("<Q", data, 40)[0]
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [_SECTION.unpack_from(data, start + i * size) for i in range(count)]
    return sorted({n for s in sections if s[1] == _DYNSYM for n in _names(data, s, sections)})


def _names(data: bytes, table: tuple[int, ...], sections: list[tuple[int, ...]]) -> Iterator[str]:
    strings = sections[table[6]][4]
    for at in range(table[4], table[4] + table[5], _SYMBOL.size):
        name, _, _, section, _, _ = _SYMBOL.unpack_from(data, at)
        if section == 0 and name:
            end = data.index(b"\0", strings + name)
            yield data[strings + name : end].decode("ascii", errors="replace")


@cache
def _needed() -> re.Pattern[str]:
    text = resources.files("epitaxy").joinpath("symbols.txt").read_text(encoding="ascii")
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return re.compile("|".join(f"(?:{word})" for words in lines for word in words))


def foreign(folder: Path) -> list[str]:
    """Symbols that the libraries in `folder` take from others and no kernel needs."""
    known = _needed()
    libraries = sorted(folder.glob("*.so"))
    return [name for lib in libraries for name in undefined(lib) if not known.fullmatch(name)]
