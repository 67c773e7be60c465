"""Arithmetic over metric names, for rules: a small part of Python's grammar, evaluated here.

Names are metric ids as their source writes them, dots included; one that is no Python name stands
in quotes: "L1-dcache-load-misses". Functions: min, max, abs, floor, ceil, mean, `first(a, b)` (the
first that is known), `has(a)` (whether it is known). Nothing else can be said.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.parsing import parsed_expression

LONGEST = 2000
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[[list[float]], float]] = {
    "min": min, "max": max, "abs": lambda v: abs(v[0]), "floor": lambda v: math.floor(v[0]),
    "ceil": lambda v: math.ceil(v[0]), "mean": lambda v: sum(v) / len(v),
}  # fmt: skip
_LAZY = ("first", "has")
_ONE = ("abs", "floor", "ceil", "has")


class Missing(Exception):
    """An expression needs metrics that are not there; `names` says which."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class Undefined(Exception):
    """An expression has no value for these numbers, e.g. it divides by zero."""


@cache
def parse(text: str) -> ast.expr:
    """The checked tree of an expression. Raises BadInput with the part that is not allowed."""
    if len(text) > LONGEST:
        raise BadInput(f"an expression of {len(text)} characters", f"at most {LONGEST}")
    try:
        tree = parsed_expression(text.strip())
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BadInput(
            f"cannot read the expression {text!r}: {error}", "see rules/*.toml"
        ) from None
    _check(tree, text)
    return tree


def names(text: str) -> tuple[str, ...]:
    """Every name that an expression mentions, in order."""
    found: list[str] = []
    _collect(parse(text), found)
    return tuple(dict.fromkeys(found))


class Evaluation:
    """One set of numbers, and the definitions (`let`) that may stand for expressions over them.

    `read` collects the metrics that were looked at, in order.
    """

    def __init__(self, values: Mapping[str, float], let: Mapping[str, str] | None = None) -> None:
        self.values = values
        self.let = let or {}
        self.read: dict[str, float] = {}
        self._inside: list[str] = []

    def value(self, text: str) -> float:
        """The number. Raises Missing, Undefined, BadInput."""
        try:
            found = float(self._of(parse(text)))
        except ZeroDivisionError:
            raise Undefined(f"{text} divides by zero") from None
        except OverflowError:
            raise Undefined(f"{text} is too large") from None
        if not math.isfinite(found):
            raise Undefined(f"{text} is {found}")
        return found

    def holds(self, text: str) -> bool:
        """Whether the condition is true. Raises Missing, Undefined, BadInput."""
        return bool(self.value(text))

    def _of(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and not isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.Constant | ast.Name | ast.Attribute):
            return self._look_up(_name(node))
        if isinstance(node, ast.BinOp):
            return _BINARY[type(node.op)](self._of(node.left), self._of(node.right))
        if isinstance(node, ast.UnaryOp):
            inner = self._of(node.operand)
            return not inner if isinstance(node.op, ast.Not) else -inner
        if isinstance(node, ast.IfExp):
            return self._of(node.body if self._of(node.test) else node.orelse)
        if isinstance(node, ast.BoolOp):
            return self._either(node)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        assert isinstance(node, ast.Call)
        return self._called(node)

    def _either(self, node: ast.BoolOp) -> bool:
        """`and`, `or`: an unknown part does not matter where the others decide alone."""
        decides = isinstance(node.op, ast.Or)
        missing: list[str] = []
        for part in node.values:
            try:
                if bool(self._of(part)) is decides:
                    return decides
            except Missing as error:
                missing += error.names
        if missing:
            raise Missing(tuple(dict.fromkeys(missing)))
        return not decides

    def _compared(self, node: ast.Compare) -> bool:
        values = [self._of(node.left), *(self._of(part) for part in node.comparators)]
        pairs = zip(values, values[1:], strict=False)
        return all(_COMPARE[type(op)](a, b) for op, (a, b) in zip(node.ops, pairs, strict=True))

    def _called(self, node: ast.Call) -> float:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name not in _LAZY:
            return _FUNCTIONS[name]([self._of(part) for part in node.args])
        missing: list[str] = []
        for part in node.args:
            try:
                return True if name == "has" and self._of(part) is not None else self._of(part)
            except Missing as error:
                missing += error.names
        if name == "has":
            return False
        raise Missing(tuple(dict.fromkeys(missing)))

    def _look_up(self, name: str) -> float:
        if name in self.values:
            self.read[name] = self.values[name]
            return self.values[name]
        if name not in self.let:
            raise Missing((name,))
        if name in self._inside:
            raise BadInput(f"the definition of {name} needs itself", "mend its rules file")
        self._inside.append(name)
        try:
            return float(self._of(parse(self.let[name])))
        finally:
            self._inside.pop()


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return node.id
    assert isinstance(node, ast.Attribute)
    return f"{_name(node.value)}.{node.attr}"


def _check(node: ast.expr, text: str) -> None:
    """Raise BadInput unless the tree is made of the parts above alone."""
    if not _allowed(node):
        raise BadInput(
            f"{ast.unparse(node)!r} is not allowed in {text!r}",
            f"numbers, metric names, comparisons and {', '.join((*_FUNCTIONS, *_LAZY))}",
        )
    for part in _parts(node):
        _check(part, text)


def _allowed(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float | str)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name | ast.Attribute)
    if isinstance(node, ast.BinOp):
        return type(node.op) in _BINARY
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not | ast.USub)
    if isinstance(node, ast.Compare):
        return all(type(op) in _COMPARE for op in node.ops)
    if isinstance(node, ast.Call):
        return _callable(node)
    return isinstance(node, ast.Name | ast.BoolOp | ast.IfExp)


def _callable(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name) or node.keywords or not node.args:
        return False
    if any(isinstance(part, ast.Starred) for part in node.args):
        return False
    known = node.func.id in _FUNCTIONS or node.func.id in _LAZY
    return known and (node.func.id not in _ONE or len(node.args) == 1)


def _parts(node: ast.expr) -> list[ast.expr]:
    """What is inside, the name of a called function apart."""
    if isinstance(node, ast.Call):
        return list(node.args)
    return [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]


def _collect(node: ast.expr, found: list[str]) -> None:
    if isinstance(node, ast.Name | ast.Attribute) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        found.append(_name(node))
        return
    for part in _parts(node):
        _collect(part, found)
