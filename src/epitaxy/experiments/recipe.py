"""Experiments as data: one TOML each, in the catalogue or of the user's own (docs/explore.md)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from epitaxy.errors import BadInput, UnknownName
from epitaxy.record import Record, printable, record

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{2,60}")
_FLAG = re.compile(r"-[fmDO][\w.=+-]*")
_UNTAMED, _REPEAT, MOST_REPEATS = re.compile(r"\)\s*[*+{]"), re.compile(r"(?<!\\)[*+{]"), 6
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|L1|L2|LLC|size|threads)")
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
MOST_POINTS, MOST_BYTES, MOST_TEXT = 64, 1 << 32, 400
LANGUAGES = ("cpp", "cuda")


@record
class Variant(Record):
    """One kernel: its body in C++, what its loops must hold (`contains`) and nothing in it may be
    (`lacks`), as regular expressions over AT&T assembly, and the `pages` under its memory. In
    CUDA they are of SASS, and it is launched as `blocks` of `block` threads."""

    name: str
    code: str
    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    pages: str = "huge"
    blocks: int = 1024
    block: int = 256

    def validate(self) -> None:
        if self.pages not in ("huge", "small"):
            raise BadInput(f"pages {self.pages!r} are not known", 'use "huge" or "small"')
        if not (1 <= self.blocks < 1 << 31 and 1 <= self.block <= 1024):
            raise BadInput("a grid that no GPU takes", "blocks from 1, block from 1 to 1024")
        for pattern in (*self.contains, *self.lacks):
            if len(pattern) > MOST_TEXT:
                raise BadInput("a pattern is too long", f"{MOST_TEXT} characters at most")
            if _UNTAMED.search(pattern) or len(_REPEAT.findall(pattern)) > MOST_REPEATS:
                raise BadInput(
                    f"pattern {pattern!r} may take for ever",
                    f"repeat no group, and at most {MOST_REPEATS} things",
                )
            try:
                re.compile(pattern)
            except re.error as error:
                raise BadInput(f"pattern {pattern!r} is broken: {error}", "mend it") from None


@record
class Claim(Record):
    """What the hypothesis says of time(a)/time(b), for some values of `x` and some `sizes` (none:
    for all): `at_least`, `at_most` or both. 0: no such bound."""

    at_least: float = 0.0
    at_most: float = 0.0
    x: tuple[float, ...] = ()
    sizes: tuple[str, ...] = ()

    def validate(self) -> None:
        if not (0 < self.at_least < 1e6 or 0 < self.at_most < 1e6):
            raise BadInput("a claim without a bound", "give at_least, at_most or both")
        if 0 < self.at_most < self.at_least:
            raise BadInput("a claim that nothing can meet", "at_most is below at_least")

    def covers(self, size: str, x: float) -> bool:
        """Whether it speaks of that point."""
        return (not self.x or x in self.x) and (not self.sizes or size in self.sizes)


@record
class Experiment(Record):
    """A hypothesis and the pair of kernels that can refute it.

    `sizes` are bytes of the sets, with units B, KiB, MiB, L1, L2 or LLC (of this machine); `x` is
    swept, at run time or, when `compiled`, as the macro X. `out` and `input` are bytes of memory,
    also in units of "size" and "threads". Outputs are equal to the bit, or within `tolerance` of
    |value| + rms as float32. `every` point that a claim covers must hold, or else one. `find` is
    "best" (the x with the best ratio) or "enough" (the least x within 5 % of it).
    """

    name: str
    hypothesis: str
    mechanism: str = ""
    source: str = ""
    language: str = "cpp"
    needs: tuple[str, ...] = ()
    threads: int = 1
    sizes: tuple[str, ...] = ("64 KiB",)
    x: tuple[float, ...] = (0.0,)
    x_name: str = "x"
    compiled: bool = False
    out: str = "1 size"
    input: str = "1 size"
    tolerance: float = 0.0
    flags: tuple[str, ...] = ()
    every: bool = True
    find: str = ""
    common: str = ""
    setup: str = ""
    a: Variant
    b: Variant
    claims: tuple[Claim, ...]
    origin: str = "catalogue"

    def validate(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"name {self.name!r} will not do", "use a-z, 0-9 and -, from 3 to 61")
        if self.language not in LANGUAGES:
            raise UnknownName.of("language", self.language, LANGUAGES)
        if self.find not in ("", "best", "enough"):
            raise UnknownName.of("find", self.find, ("best", "enough"))
        if not self.claims or not self.hypothesis.strip():
            raise BadInput(f"{self.name} claims nothing", "give a hypothesis and [[claims]]")
        if not 0 <= self.tolerance <= 0.1:
            raise BadInput(f"tolerance {self.tolerance} will not do", "use 0 to 0.1")
        if not 1 <= self.threads <= 1024:
            raise BadInput(f"{self.threads} threads will not do", "use 1 or more")
        if not 1 <= len(self.sizes) * len(self.x) <= MOST_POINTS:
            raise BadInput(f"{self.name} has no or too many points", f"at most {MOST_POINTS}")
        self._validate_text()
        for claim in self.claims:
            if not any(claim.covers(size, x) for size in self.sizes for x in self.x):
                raise BadInput("a claim that covers no point", "use values of x and sizes")

    def _validate_text(self) -> None:
        for text in (*self.sizes, self.out, self.input):
            parse_size(text)
        for flag in self.flags:
            if not _FLAG.fullmatch(flag):
                raise BadInput(f"flag {flag!r} is not allowed", "use -f..., -m..., -D... or -O...")
        for text in (self.hypothesis, self.mechanism, self.source, self.a.name, self.b.name):
            if len(text) > MOST_TEXT or text != printable(text) or "\n" in text:
                raise BadInput(
                    f"a text of {self.name} will not do",
                    f"one line of at most {MOST_TEXT} printable characters",
                )


def parse_size(text: str) -> tuple[float, str]:
    """(number, unit) of a size such as "0.5 LLC". Raises BadInput."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise BadInput(
            f"size {text!r} is not understood", 'write "64 KiB", "0.5 L2", "2 LLC" or "1 size"'
        )
    return float(match[1]), match[2]


def parse(text: str, origin: str) -> Experiment:
    """The experiment in a TOML text. Raises BadInput."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{origin} is no TOML: {error}", "see docs/explore.md") from None
    data["origin"] = "catalogue" if origin == "catalogue" else "file"
    try:
        for key in ("a", "b"):
            data[key] = _table(data.get(key), key)
        data["claims"] = [_numbers(_table(claim, "claims")) for claim in data["claims"]]
        found = Experiment.from_dict(_numbers(data))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{origin} cannot be read: {error}", "see docs/explore.md") from None
    if found.origin == "file" and found.name in {e.name for e in catalogue()}:
        raise BadInput(f"{found.name} is in the catalogue", "give it a name of its own")
    return found


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"[{name}] is missing or no table", "see docs/explore.md")
    return value


def _numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    """Swept values as floats, also where the file has whole numbers."""
    more = {"x": [float(x) for x in data["x"]]} if "x" in data else {}
    return {**data, **more}


@cache
def catalogue() -> tuple[Experiment, ...]:
    """Every shipped experiment, by name. Raises BadInput when a file is broken."""
    folder = resources.files("epitaxy") / "experiments" / "catalogue"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".toml"))
    return tuple(parse((folder / f).read_text(encoding="utf-8"), "catalogue") for f in files)


def find(name: str) -> Experiment:
    """The experiment of that name, or in that .toml file. Raises UnknownName, BadInput."""
    if name.endswith(".toml"):
        try:
            return parse(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read {name}: {error}", "give a readable file") from None
    return find_listed(name)


def find_listed(name: str) -> Experiment:
    """The experiment of the catalogue. Raises UnknownName."""
    known = {e.name: e for e in catalogue()}
    if name not in known:
        raise UnknownName.of("experiment", name, known)
    return known[name]
