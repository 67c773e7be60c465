"""Windows that weigh the pixels of a plane of their own (depthwise convolutions) as C++: what
planes.h works from."""

from __future__ import annotations

from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import Affine, Axis, Load, Map, Reduce, Scan, walk
from epitaxy.proposers.grower.emit_expr import Scope
from epitaxy.proposers.grower.emit_gemm import function
from epitaxy.proposers.grower.emit_kernel import KernelWriter
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.image import LINE
from epitaxy.proposers.grower.schedule import Kernel

IN_PLANES = 3
"""The decision `windows`: from a padded copy of each plane, several rows at a time."""
MOST_TAPS = 64
"""Taps of a window, all of which are written out."""
COPY_BYTES = 24 << 10
"""Bytes of the copy of a block of lines: about half of a first cache."""


@dataclass(frozen=True)
class Plane:
    """`total` over the taps `down` and `along` of a window at `row` and `lane`, of `image` weighed
    with `taps`; the plane has `size` lines and pixels, and the first that are met lie `first` from
    its beginning."""

    total: Reduce
    image: Load
    taps: Load
    row: Axis
    down: Axis
    along: Axis
    first: tuple[int, int]
    size: tuple[int, int]


def plane_of(kernel: Kernel, lane: Axis | None) -> Plane | None:
    """What planes.h can compute of `kernel`, whose vectors run along `lane`; None for nothing."""
    if len(kernel.targets) != 1 or len(kernel.inner) != 2 or lane not in kernel.outer:
        return None
    target = kernel.targets[0]
    nodes = [v for v in walk((target.value,)) if isinstance(v, Reduce | Scan)]
    if len(nodes) != 1 or not isinstance(nodes[0], Reduce) or nodes[0].kind != "sum":
        return None
    total, product = nodes[0], nodes[0].arg
    if set(total.over) != set(kernel.inner) or not isinstance(product, Map):
        return None
    if product.fn != "mul" or total.dtype != "float32" or target.index.coefficient(lane) != 1:
        return None
    taps, image = sorted(product.args, key=lambda v: lane in v.axes)
    if not (isinstance(taps, Load) and isinstance(image, Load)) or lane in taps.axes:
        return None
    if taps.indirect or image.indirect or taps.guards or image.fill != 0.0:
        return None
    return _placed(kernel, lane, total, image, taps)


def _placed(kernel: Kernel, lane: Axis, total: Reduce, image: Load, taps: Load) -> Plane | None:
    """Which axes are rows and taps."""
    strides = {a: image.index.coefficient(a) for a in (*kernel.outer, *kernel.inner)}
    along, down = sorted(kernel.inner, key=lambda a: strides[a])
    rows = [a for a in kernel.outer if strides[a] == strides[down] and a != lane]
    if strides[lane] != 1 or strides[along] < 1 or strides[down] < lane.size or not rows:
        return None
    row = next((a for a in rows if any(g.index.coefficient(a) for g in image.guards)), rows[0])
    if row in taps.axes or along.size * down.size > MOST_TAPS:
        return None
    if len({frozenset(g.index.terms) for g in image.guards}) < len(image.guards):
        return None  # bounded twice the same way
    first, size = [0, 0], [row.size + down.size - 1, lane.size + strides[along] * (along.size - 1)]
    for guard in image.guards:
        terms = dict(guard.index.terms)
        if terms == {row: 1, down: 1}:
            way = 0
        elif terms == {lane: 1, along: strides[along]}:
            way = 1
        else:
            return None
        first[way], size[way] = guard.index.offset, guard.size
    if max(first) > 0:
        return None
    return Plane(total, image, taps, row, down, along, (first[0], first[1]), (size[0], size[1]))


def gathers(kernel: Kernel, plane: Plane, lane: Axis) -> bool:
    """Whether rows of results follow one another in memory, as floats of the region's result."""
    (target,) = kernel.targets
    near = target.index.coefficient(lane) == 1
    follow = target.index.coefficient(plane.row) == lane.size
    return near and follow and target.dtype == "float32" and target.buffer.startswith("y")


class PlaneWriter(KernelWriter):
    """A task is a block of rows of one plane; lanes run along its rows."""

    def __init__(
        self, kernel: Kernel, choices: Choices, buffers: dict[int, tuple[str, str]], lane: Axis,
        plane: Plane,
    ) -> None:  # fmt: skip
        super().__init__(kernel, choices, buffers, lane)
        self.plane, self.along = plane, lane

    def write(self) -> list[str]:
        """The block of C++."""
        plane, sizes = self.plane, self._sizes()
        text = ", ".join(f"{name} = {value}" for name, value in sizes.items())
        planes = [a for a in self.kernel.outer if a not in (plane.row, self.along)]
        tasks = [(self.names[a], a.size) for a in planes]
        tasks.append(("block", -(-plane.row.size // sizes["LINES"])))
        self.names |= {plane.row: "row", self.along: "x"}
        scope = Scope(frozenset(self.kernel.outer), [], {plane.total: "sum"})
        self.scopes, self.prefetch = [scope], 0
        floats = (sizes["LINES"] + sizes["KY"] - 1) * sizes["PITCH"]
        stored, out, more = self._stored(sizes)
        scope.lines.append(stored)
        down = plane.image.index.coefficient(plane.down)
        before = plane.first[0] * down + plane.first[1]
        at = self._at(plane.image, planes, -before)
        taps, across = plane.taps.index, plane.along.size
        places = f"k / {across} * {taps.coefficient(plane.down)} + k % {across} * "
        body = [
            f"struct Shape {{ enum : int64_t {{ {text} }}; }};",
            f"float taps[{across * plane.down.size}];",
            f"for (int64_t k = 0; k < {across * plane.down.size}; ++k)",
            f"  taps[k] = ({self._at(plane.taps, planes)})"
            f"[{places}{taps.coefficient(plane.along)}];",
            *([f"float* const held = copy.data + {floats};"] if out else []),
            *function("finish", "tail, row, x, sum, n", scope.lines),
            f"epx::weigh_plane<Shape>(copy.data, {at}, taps, block, finish);",
            *out,
        ]
        return self.task_loop(tasks, body, [f"const epx::Scratch<float> copy({floats + more});"])

    def _stored(self, sizes: dict[str, int]) -> tuple[str, list[str], int]:
        """The statement that stores one vector of results, what follows when a block's are there,
        and how many floats wait in `held` until then: results of whole rows, one after the other,
        go past the caches together, as lines of which no part is missing."""
        (target,) = self.kernel.targets
        value = self.vector(target.value)
        if not self.choices.stream or not gathers(self.kernel, self.plane, self.along):
            return self.put(target, value, vector=True), [], 0
        self.streams = True
        lines, across = sizes["LINES"], sizes["X"]
        held = f"held + (row - block * {lines}) * {across} + x"
        out = [
            f"const int64_t row = block * {lines}, x = 0;",
            f"const int64_t rows = epx::least({lines}, {sizes['Y']} - row);",
            f"epx::copy_past({target.buffer} + {self.address(target.index)}, held, rows * {across});",
        ]
        return f"epx::put({self.tail}, {held}, {value}, n);", out, lines * across

    def _at(self, load: Load, axes: list[Axis], more: int = 0) -> str:
        """Where what `load` reads begins for one plane."""
        terms = tuple((a, c) for a, c in load.index.terms if a in axes)
        place = self.address(Affine(load.index.offset + more, terms))
        return f"{self.buffers[load.buffer][0]} + {place}"

    def _next(self) -> int:
        """Elements from a plane to the next."""
        planes = [a for a in self.kernel.outer if a not in (self.plane.row, self.along)]
        near = [self.plane.image.index.coefficient(a) for a in planes if a.size > 1]
        return near[-1] if near else 0

    def _sizes(self) -> dict[str, int]:
        """Sizes and strides, by the names that planes.h gives them."""
        plane, lanes = self.plane, self.N
        gap = plane.image.index.coefficient(plane.along)
        wide = -(-self.along.size // lanes) * lanes + gap * (plane.along.size - 1)
        pitch = -(-wide // LINE) * LINE
        rows, taps = 8 if lanes >= LINE else 4, plane.down.size - 1
        lines = max(rows, COPY_BYTES // (4 * pitch) - taps)
        return {
            "N": lanes, "X": self.along.size, "Y": plane.row.size, "H": plane.size[0], "W": plane.size[1],
            "DOWN": plane.image.index.coefficient(plane.down), "TOP": plane.first[0], "LEFT": plane.first[1],
            "NEXT": self._next(), "KY": plane.down.size, "KX": plane.along.size, "GAP": gap, "PITCH": pitch,
            "LINES": min(plane.row.size, lines // rows * rows), "ROWS": rows,
        }  # fmt: skip
