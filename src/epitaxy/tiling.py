"""Tiling: what a kernel's decisions mean whatever its language, read from its genome or source.

Of a kernel that people wrote only constants can be read: numbers that are assigned to names, given
as defaults or passed by name, `constexpr` and `#define` in C++. A name that `tiling.toml` knows
says what the number means; the others are left alone.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from epitaxy.parsing import parsed
from epitaxy.record import FrozenDict, Record, record

KINDS = ("product", "attention", "rows", "elements")
"""What a region mainly is: decisions of one name mean different things in each."""
_CONSTANT = re.compile(
    r"\b(?:constexpr|const)\s+(?:static\s+)?[\w:]+\s+(\w+)\s*=\s*(\d+)\s*[;,]"
    r"|^\s*#\s*define\s+(\w+)\s+\(?(\d+)\)?\s*$",
    re.MULTILINE,
)


@record
class Tiling(Record):
    """The decisions of one region of a kernel, or of a whole kernel that people wrote.

    `region` holds the operators that the region replaces, "" for all of them. `values` are the
    decisions as the kernel's language names them, `means` what they mean: by decision where the
    source tells, else by kind of region and decision.
    """

    region: str
    values: FrozenDict[int]
    means: FrozenDict[FrozenDict[str]]

    def meant(self, kind: str) -> Mapping[str, str]:
        """Meaning by decision, for a region of that kind."""
        return self.means.get(kind, FrozenDict())


@cache
def words() -> Mapping[str, Any]:
    """The file `tiling.toml`."""
    path = Path(__file__).with_name("tiling.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def describe(meaning: str) -> str:
    """What a meaning is, for people."""
    return str(words()["meanings"].get(meaning, meaning))


def read_constants(files: Mapping[str, str], lanes: int = 1) -> Tiling | None:
    """What the constants of a kernel's files tell; None where nothing can be read.

    `lanes` are those of one warp, for kernels that count warps. Where a name has several numbers
    (an autotuned kernel) the first counts.
    """
    found: dict[str, tuple[str, int]] = {}
    for name, text in files.items():
        for constant, value in _constants(name, text):
            meaning = _known(constant)
            if meaning and meaning not in found and value > 0:
                found[meaning] = constant, value
    if "warps" in found:
        constant, value = found.pop("warps")
        found.setdefault("lanes", (f"{constant} of {lanes} lanes", value * lanes))
    if not found:
        return None
    values = FrozenDict[int](dict(found.values()))
    means = FrozenDict[str]({constant: meaning for meaning, (constant, _) in found.items()})
    return Tiling(region="", values=values, means=FrozenDict(dict.fromkeys(KINDS, means)))


def _known(constant: str) -> str:
    plain = constant.lower().replace("_", "")
    named: Mapping[str, list[str]] = words()["names"]
    return next((m for m, all_ in named.items() if plain in (n.replace("_", "") for n in all_)), "")


def _constants(name: str, text: str) -> Iterator[tuple[str, int]]:
    if not name.endswith(".py"):
        for match in _CONSTANT.finditer(text):
            yield match[1] or match[3], int(match[2] or match[4])
        return
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        for constant, value in _python(node):
            if isinstance(value, ast.Constant) and type(value.value) is int:
                yield constant, value.value


def _python(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Names with what they are given."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                yield from ((t.id, v) for t, v in pairs if isinstance(t, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, node.value
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.FunctionDef):
        given = [*node.args.posonlyargs, *node.args.args]
        yield from (
            (a.arg, d) for a, d in zip(reversed(given), reversed(node.args.defaults), strict=False)
        )
        both = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        yield from ((a.arg, d) for a, d in both)
