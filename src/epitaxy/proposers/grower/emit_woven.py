"""Element-wise kernels whose results come in pairs along an axis of two, side by side in memory:
both of a pair are computed together and woven, so that whole vectors are written."""

from __future__ import annotations

from dataclasses import replace

from epitaxy.proposers.grower.algebra import Affine, Axis, Load, Reduce, Scan, Value
from epitaxy.proposers.grower.emit_loops import RowWriter
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import AtStep
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
    at = AtStep(axis, number)
    targets = tuple(
        replace(
            t,
            index=at.affine(t.index),
            axes=tuple(a for a in t.axes if a != axis),
            value=at(t.value),
        )
        for t in kernel.targets
    )
    return replace(kernel, targets=targets, outer=tuple(a for a in kernel.outer if a != axis))


def _side_by_side(values: list[Value], lane: Axis) -> dict[Value, tuple[Load, Load]]:
    """Loads of every other number that together read all of them, by either of the two."""
    found: dict[Value, tuple[Load, Load]] = {}
    plain = {
        v: None
        for v in values
        if isinstance(v, Load) and v.dtype == "float32" and not (v.guards or v.indirect)
        if v.index.coefficient(lane) == PAIR
    }
    for load in sorted(plain, key=lambda v: v.index.offset):
        after = replace(load, index=Affine(load.index.offset + 1, load.index.terms))
        if after in plain and load not in found:
            found[load] = found[after] = (load, after)
    return found


class WovenWriter(RowWriter):
    """A task is a row of pairs; vectors run along the first ones and the second ones of them."""

    def __init__(
        self, kernel: Kernel, choices: Choices, buffers: dict[int, tuple[str, str]],
        lane: Axis, axis: Axis,
    ) -> None:  # fmt: skip
        first, second = (_member(kernel, axis, number) for number in range(PAIR))
        super().__init__(first, choices, buffers, lane)
        self.second = dict(zip(first.targets, (t.value for t in second.targets), strict=True))
        self.shared = _side_by_side([*first.values, *second.values], lane)

    def put(self, target: Target, value: str, vector: bool) -> str:
        """The statement that stores `value` and the second ones of its pairs."""
        pointer = f"{target.buffer} + {self.address(target.index)}"
        past = "true" if self.leaves(target) else "false"
        second = self.vector(self.second[target])
        return f"epx::put_pairs<{past}>({self.tail}, {pointer}, {value}, {second}, n);"

    def use(self, value: Value) -> str:
        """The C++ name of `value`: numbers side by side in memory are read together."""
        if value in self.shared and self.find(value) is None:
            self._read(*self.shared[value])
        return super().use(value)

    def _read(self, first: Load, second: Load) -> None:
        body, a, b = self.scopes[-1], self.fresh(), self.fresh()
        pointer = f"{self.buffers[first.buffer][0]} + {self.address(first.index)}"
        body.lines += [
            f"V {a}, {b};",
            f"epx::get_pairs({self.tail}, {pointer}, {a}, {b}, {self.lanes});",
        ]
        body.memo |= {first: a, second: b}
