"""Expressions of Python-like kernel languages as text: names, constants, when to name a value."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from epitaxy.proposers.grower.algebra import Affine, Axis, Const, Load, Value, operands, walk

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
INLINE = 44
"""Characters of an expression that is written where it is used, if it is used once."""
NUMBER = re.compile(r"(?<![\w.])\d[\d.]*(e[+-]?\d+)?")


class Statements:
    """Lines of a kernel's body, and the values that have a name or an expression by now."""

    joint = ""
    """What stands between a name and its number."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.memo: dict[Value, str] = {}
        self.helpers: set[str] = set()
        self.uses: Counter[Value] = Counter()
        self._count: Counter[str] = Counter()

    def count_uses(self, roots: Sequence[Value]) -> None:
        """How often each value is used, for deciding what to name."""
        for value in walk(tuple(roots)):
            self.uses.update(operands(value))

    def fresh(self, stem: str) -> str:
        """A new name."""
        self._count[stem] += 1
        number = self._count[stem]
        return stem if number == 1 else f"{stem}{self.joint}{number}"

    def use(self, value: Value) -> str:
        """An expression for `value`; what is long or used again gets a name first."""
        if value in self.memo:
            return self.memo[value]
        if isinstance(value, Const):
            return self.constant(value)
        made = self.expression(value)
        if isinstance(value, Load) or self.uses[value] > 1 or length(made) > INLINE:
            made = self._name(value, made)
        self.memo[value] = made
        return made

    def named(self, value: Value) -> str:
        """`value` under a name, or a constant."""
        made = self.use(value)
        if made.isidentifier() or isinstance(value, Const):
            return made
        self.memo[value] = name = self._name(value, made)
        return name

    def _name(self, value: Value, text: str) -> str:
        name = self.fresh(self.stem(value))
        self.lines.append(f"{name} = {text}")
        return name

    def constant(self, value: Const) -> str:
        """A constant as text of the language."""
        raise NotImplementedError

    def expression(self, value: Value) -> str:
        """The right-hand side for a value that is no constant. Raises Unsupported."""
        raise NotImplementedError

    def stem(self, value: Value) -> str:
        """What the name of a value begins with."""
        raise NotImplementedError


def literal(value: Const, nan: str, infinity: str) -> str:
    """A constant as Python text, with the language's words for what is no number."""
    if value.dtype == "bool":
        return "True" if value.value else "False"
    if value.dtype.startswith(("float", "bfloat")):
        number = float(value.value)
        if math.isnan(number):
            return nan
        if math.isinf(number):
            return infinity if number > 0 else f"-{infinity}"
        return repr(number)
    return str(int(value.value))


def placed(index: Affine, at: Mapping[Axis, str], bracketed: Callable[[str], str]) -> str:
    """An affine index where `at` says where each axis is; `bracketed` makes a factor of a text."""
    parts = []
    for axis, c in index.terms:
        if c:
            parts.append(at[axis] if c == 1 else f"{bracketed(at[axis])} * {c}")
    if index.offset or not parts:
        parts.append(str(index.offset))
    return " + ".join(parts).replace("+ -", "- ")


def length(text: str) -> int:
    """Characters of `text`, each number being one: the same for a kernel at other sizes."""
    return len(NUMBER.sub("0", text))


def chosen(file: Path, names: set[str], beginning: str = "") -> str:
    """The text of the functions `_name` in a file, in its order; each begins with the line
    `beginning`, or with its own `def`."""
    first = re.escape(beginning) if beginning else "def "
    parts = re.split(rf"(?m)^(?={first})", file.read_text(encoding="utf-8"))
    return "\n\n".join(
        p.strip() + "\n" for p in parts if (m := re.search(r"def _(\w+)\(", p)) and m[1] in names
    )
