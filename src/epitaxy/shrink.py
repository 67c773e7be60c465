"""Shrink: a problem file with smaller sizes, for suites whose shapes were made for GPUs.

Sizes are the integers that a file gives names to at its top (`N = 4096`, `shape = (32768,)`).
Kernel sizes, strides, channels, heads and the like say what is computed and stay as they are.
"""

from __future__ import annotations

import ast
import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from epitaxy.errors import BadInput, BadProblem
from epitaxy.memory import total_bytes
from epitaxy.parsing import parsed, source_lines

AUTO = "auto"
SMALLEST, MULTIPLE = 16, 32
"""A size is never made smaller than SMALLEST, and keeps its power of two up to MULTIPLE."""
ENOUGH_S = 0.02
"""`auto` stops shrinking when PyTorch would take about this long on a CPU."""
FLOPS_PER_S, BYTES_PER_S = 2e11, 2e10
"""What a CPU does in PyTorch, roughly: only for deciding how far to shrink."""
MEMORY_SHARE = 96
"""`auto` goes on while inputs, outputs and the largest value between them take more than this part
of all memory: a judgement holds them for ten processes, and exact outputs besides."""
MOST_CALLS = 20_000
"""Operators of one forward pass after which a problem counts as too large."""
FACTORS = tuple(0.5**n for n in range(0, 9))
_STAYS = re.compile(
    r"kernel|stride|pad|dilat|group|head|channel|class|pool|factor|scal|window|patch|growth"
    r"|cluster|rank|expert|divisor",
    re.IGNORECASE,
)
_BATCH = re.compile(r"batch|^b$|^n_?samples$", re.IGNORECASE)


@dataclass(frozen=True)
class Shrunk:
    """A smaller problem's source, and what was changed: `N: 4096 to 1024`."""

    source: str
    changes: tuple[str, ...]


def parse(text: str) -> float | str:
    """The argument of --scale: a number above 0 and at most 1, or `auto`. Raises BadInput."""
    if text == AUTO:
        return AUTO
    with contextlib.suppress(ValueError):
        number = float(text)
        if 0 < number <= 1:
            return number
    raise BadInput(f"scale {text!r} is not understood", "give auto, or a number like 0.25")


def shrink(source: str, scale: float | str, name: str) -> Shrunk:
    """`source` with its sizes scaled; `auto` takes the largest that a CPU handles quickly.

    Raises BadProblem for a file that is not Python, and where nothing tells how large it is.
    """
    try:
        tree = parsed(source)
    except (SyntaxError, ValueError) as error:
        raise BadProblem(f"{name} is not valid Python: {error}", "mend the file") from None
    if scale != AUTO:
        return _scaled(source, tree, float(scale), _any_size)
    return _fitting(source, tree, name)


def _fitting(source: str, tree: ast.Module, name: str) -> Shrunk:
    smallest: Shrunk | None = None
    reason, room = "", total_bytes() // MEMORY_SHARE
    for factor in FACTORS:
        for kind in (_any_size, _only_batch):
            made = _scaled(source, tree, factor, kind)
            needs = _estimate(made.source)
            if isinstance(needs, str):
                reason = reason or needs  # of the file as it is
                continue
            smallest = made
            if needs[0] <= ENOUGH_S and needs[1] <= room:
                return made
            break  # it runs when all sizes shrink, so go on that way
    if smallest is None:
        raise BadProblem(
            f"{name}: how large it is cannot be told without running it: {reason}",
            "mend the file or install what it needs; else give --scale a number, or leave it out",
        )
    return smallest


def _any_size(name: str, value: int) -> int | None:
    """The least that a constant may become; None when it is no size."""
    if _BATCH.search(name):
        return 1
    return None if _STAYS.search(name) or value <= 2 * SMALLEST else SMALLEST


def _only_batch(name: str, value: int) -> int | None:
    return 1 if _BATCH.search(name) else None


def _scaled(
    source: str, tree: ast.Module, factor: float, kind: Callable[[str, int], int | None]
) -> Shrunk:
    lines = source_lines(source)
    changes: list[str] = []
    for node, names in sorted(_constants(tree), key=lambda p: _place(p[0]), reverse=True):
        value = _value(node)
        least = kind(names[0], value) if value is not None else None
        if value is None or least is None:
            continue
        smaller = _smaller(value, factor, least)
        if smaller != value and node.lineno == node.end_lineno:
            line = lines[node.lineno - 1].encode()
            new = line[: node.col_offset] + str(smaller).encode() + line[node.end_col_offset :]
            lines[node.lineno - 1] = new.decode()
            changes.append(f"{'='.join(names)}: {value} to {smaller}")
    return Shrunk("".join(lines), tuple(reversed(changes)))


def _place(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _constants(tree: ast.Module) -> Iterator[tuple[ast.expr, list[str]]]:
    """Expressions at the top of a file that may be sizes, with the names that they get."""
    for statement in tree.body:
        if not isinstance(statement, ast.Assign):
            continue
        target, value = statement.targets[0], statement.value
        parts = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
        if isinstance(target, ast.Tuple):
            yield from ((v, [ast.unparse(t)]) for t, v in zip(target.elts, parts, strict=False))
            continue
        names = [t.id for t in statement.targets if isinstance(t, ast.Name)]
        if names:
            yield from ((v, names) for v in parts)


def _value(node: ast.expr) -> int | None:
    """The integer that a literal, or arithmetic on literals, stands for."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Add | ast.Pow):
        left, right = _value(node.left), _value(node.right)
        if left is None or right is None or (isinstance(node.op, ast.Pow) and right > 64):
            return None
        if isinstance(node.op, ast.Pow):
            return int(left**right)
        return left * right if isinstance(node.op, ast.Mult) else left + right
    return None


def _smaller(value: int, factor: float, least: int) -> int:
    """`value` times `factor`, still a multiple of its power of two (up to MULTIPLE), so that
    strides, groups and heads divide what they divided."""
    if factor == 1 or value <= least:
        return value
    power = math.gcd(value, MULTIPLE) if least > 1 else 1
    return min(value, max(least, round(value * factor / power) * power))


class _TooLarge(Exception):
    """More operators than anybody wants to count."""


def _estimate(source: str) -> tuple[float, float] | str:
    """Seconds that PyTorch would take, and bytes of inputs, outputs and the largest value between
    them, told from shapes alone; why it cannot be run so."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    moved, calls, largest = [0], [0], [0]

    def size(tree: Any) -> int:
        leaves = tree_leaves(tree)
        return sum(x.numel() * x.element_size() for x in leaves if isinstance(x, torch.Tensor))

    class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            calls[0] += 1
            made = size(result)
            moved[0] += size(args) + made
            largest[0] = max(largest[0], made)
            if calls[0] > MOST_CALLS:
                raise _TooLarge
            return result

    space: dict[str, Any] = {"__name__": "epitaxy_shrunk"}
    try:
        with torch.device("meta"), torch.no_grad():
            exec(compile(source, "<shrunk>", "exec"), space)
            model = _without_memory(space)
            inputs = space["get_inputs"]()
            counter = FlopCounterMode(display=False)
            with counter, Moved():  # type: ignore[no-untyped-call]
                outputs = model(*inputs)
    except _TooLarge:
        return math.inf, math.inf
    except Exception as error:  # a problem's own code may raise anything
        said = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {said[0][:200]}".rstrip(": ")
    seconds = counter.get_total_flops() / FLOPS_PER_S + moved[0] / BYTES_PER_S
    return float(seconds), float(size(inputs) + max(size(outputs), largest[0]))


def _without_memory(space: dict[str, Any]) -> Any:
    """The file's module with tensors that have shapes alone. One whose constructor reads values of
    tensors is made in full first."""
    import torch

    try:
        return space["Model"](*space["get_init_inputs"]()).eval()
    except RuntimeError:
        with torch.device("cpu"):
            return space["Model"](*space["get_init_inputs"]()).eval().to("meta")
