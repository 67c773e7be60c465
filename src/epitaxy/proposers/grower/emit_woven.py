"""Element-wise kernels whose results come in pairs along an axis of two, side by side in memory:
both of a pair are computed together and woven, so that whole vectors are written."""

from __future__ import annotations

from dataclasses import replace

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Guard,
    Index,
    Load,
    Reduce,
    Scan,
    Value,
)
from epitaxy.proposers.grower.emit_expr import Scope
from epitaxy.proposers.grower.emit_loops import RowWriter
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import rebuild
from epitaxy.proposers.grower.schedule import Kernel, Target

PAIR = 2


def paired_axis(kernel: Kernel, lane: Axis | None) -> Axis | None:
    """The axis of two along which neighbouring results lie side by side, those of neighbouring
    lanes a pair apart; None where there is none."""
    if lane is None or kernel.inner or any(isinstance(v, Reduce | Scan) for v in kernel.values):
        return None
    for axis in kernel.outer:
        if (
            axis.size == PAIR
            and axis != lane
            and all(_pairs(t, lane, axis) for t in kernel.targets)
        ):
            return axis
    return None


def _pairs(target: Target, lane: Axis, axis: Axis) -> bool:
    index = target.index
    both = {lane, axis} <= {*target.axes} and target.dtype == "float32"
    return both and index.coefficient(axis) == 1 and index.coefficient(lane) == PAIR


def _member(kernel: Kernel, axis: Axis, number: int) -> Kernel:
    """What computes one member of every pair."""
    memo: dict[Value, Value] = {}

    def fixed(f: Affine) -> Affine:
        terms = tuple((a, c) for a, c in f.terms if a != axis)
        return Affine(f.offset + number * f.coefficient(axis), terms)

    def leaf(value: Value) -> Value | None:
        if isinstance(value, Index):
            return Index(fixed(value.index), value.dtype)
        if not isinstance(value, Load):
            return None
        guards = tuple(Guard(fixed(g.index), g.size) for g in value.guards)
        indirect = tuple((rebuild(v, leaf, memo), s) for v, s in value.indirect)
        return replace(value, index=fixed(value.index), guards=guards, indirect=indirect)

    targets = tuple(
        replace(
            t,
            index=fixed(t.index),
            axes=tuple(a for a in t.axes if a != axis),
            value=rebuild(t.value, leaf, memo),
        )
        for t in kernel.targets
    )
    return replace(kernel, targets=targets, outer=tuple(a for a in kernel.outer if a != axis))


def _side_by_side(values: list[Value], lane: Axis) -> dict[Value, tuple[Load, int]]:
    """Loads of every other number that together read all of them: that which begins, and which of
    the two it is."""
    found: dict[Value, tuple[Load, int]] = {}
    plain = {
        v: None
        for v in values
        if isinstance(v, Load) and v.dtype == "float32" and not (v.guards or v.indirect)
        if v.index.coefficient(lane) == PAIR
    }
    for load in sorted(plain, key=lambda v: v.index.offset):
        after = replace(load, index=Affine(load.index.offset + 1, load.index.terms))
        if after in plain and load not in found:
            found |= {load: (load, 0), after: (load, 1)}
    return found


class WovenWriter(RowWriter):
    """A task is a row of pairs; vectors run along the first ones and the second ones of them."""

    def __init__(
        self, kernel: Kernel, choices: Choices, buffers: dict[int, tuple[str, str]],
        lane: Axis, axis: Axis,
    ) -> None:  # fmt: skip
        first, second = (_member(kernel, axis, number) for number in range(PAIR))
        super().__init__(first, choices, buffers, lane)
        self.second = [t.value for t in second.targets]
        self.shared = _side_by_side([*first.values, *second.values], lane)

    def body(self, number: int, scopes: list[Scope]) -> Scope:
        """The innermost block."""
        self.current, self.scopes = number, scopes
        self.stems: dict[Load, str] = {}
        body = scopes[-1]
        for target, second in zip(self.kernel.targets, self.second, strict=True):
            values = f"{self.vector(target.value)}, {self.vector(second)}"
            pointer = f"{target.buffer} + {self.address(target.index)}"
            past = self.choices.stream and target.buffer.startswith("y")
            self.streams |= bool(past)
            truth = "true" if past else "false"
            body.lines.append(f"epx::put_pairs<{truth}>({self.tail}, {pointer}, {values}, n);")
        if self.choices.ahead and number == self.fetching():
            body.lines += self.next_row()
        return body

    def use(self, value: Value) -> str:
        """The C++ name of `value`: numbers side by side in memory are read together."""
        if value in self.shared and self.find(value) is None:
            start, number = self.shared[value]
            names = self.find_pair(start)
            self.scopes[-1].memo[value] = names[number]
        return super().use(value)

    def find_pair(self, start: Load) -> tuple[str, str]:
        """The names of what `start` reads and of what lies beside it, read where they are not yet."""
        stem = self.stems.get(start)
        if stem is None:
            stem = self.stems[start] = self.fresh("p")
            pointer = f"{self.buffers[start.buffer][0]} + {self.address(start.index)}"
            self.scopes[-1].lines += [
                f"V {stem}a, {stem}b;",
                f"epx::get_pairs({self.tail}, {pointer}, {stem}a, {stem}b, {self.lanes});",
            ]
        return f"{stem}a", f"{stem}b"
