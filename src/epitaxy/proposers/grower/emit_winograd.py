"""Convolutions with windows of 3 x 3 and steps of 1 by Winograd's transform, as C++."""

from __future__ import annotations

from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import Affine, Axis, Load
from epitaxy.proposers.grower.contract import Contraction, load_of, size_of, step
from epitaxy.proposers.grower.emit_conv import ConvWriter
from epitaxy.proposers.grower.emit_expr import indent
from epitaxy.proposers.grower.emit_gemm import function

WINDOW = 3
WINOGRAD = "3 x 3 windows by Winograd's transform: fewer products"


@dataclass(frozen=True)
class Window:
    """One direction: `size` pixels of the image, `pad` zeros before them, `stride` elements apart."""

    size: int
    pad: int
    stride: int
    guarded: bool


def windows_of(what: Contraction) -> tuple[Window, Window] | None:
    """The two directions of a convolution that Winograd's transform can do; None for others."""
    load = what.right
    if not isinstance(load, Load) or len(what.columns) < 2 or len(what.inner) != 3:
        return None
    if what.batch:
        return None  # groups: each has filters of its own
    pixels = what.columns[-2:]
    found = [_window(load, *pair) for pair in zip(pixels, what.inner[1:], strict=True)]
    if load.index.coefficient(pixels[1]) != 1 or found[0] is None or found[1] is None:
        return None
    if len(load.guards) > sum(w.guarded for w in (found[0], found[1])):
        return None
    return found[0], found[1]


def _window(load: Load, pixel: Axis, tap: Axis) -> Window | None:
    stride = load.index.coefficient(pixel)
    if tap.size != WINDOW or load.index.coefficient(tap) != stride:
        return None
    guards = [g for g in load.guards if g.index.coefficient(pixel)]
    if not guards:
        return Window(pixel.size + WINDOW - 1, 0, stride, False)
    (guard, *others) = guards
    if others or set(guard.index.terms) != {(pixel, 1), (tap, 1)}:
        return None
    return Window(guard.size, -guard.index.offset, stride, True)


class WinogradWriter(ConvWriter):
    """Filters and squares of pixels are transformed, multiplied point by point, and turned back."""

    def write(self) -> list[str]:
        """The block of C++."""
        what = self.what
        load = what.right
        assert isinstance(load, Load)
        down, across = self._windows()
        source, _ = self.buffers[load.buffer]
        offset = load.index.offset + down.pad * down.stride + across.pad
        terms = tuple((a, c) for a, c in load.index.terms if a in what.columns[:-2])
        left = load_of(what.left)
        weights, _ = self.buffers[left.buffer]
        finish = self._finish()
        image = [
            *self._places(("t", what.columns[:-2])),
            f"return {source} + {self.address(Affine(offset, terms))};",
        ]
        begin = [
            self._sizes(),
            "using Q = epx::Squares<Shape>;",
            f"const float* const a = {weights} + {left.index.offset};",
        ]
        lines = [
            *begin,
            *self._filters(begin, left.buffer),
            *function("image", "t", image),
            *function("finish", "tail, t, i, row, x, sum, n", finish),
            *self._run("epx::convolve_winograd<Shape>(a, image, filters, finish);"),
        ]
        return ["{", *indent(lines), "}"]

    def _filters(self, begin: list[str], buffer: int) -> list[str]:
        """Memory for the transformed filters."""
        if self._kept():
            make = "epx::transform_filters<Shape>({}, a)"
            return self.keeper.keep("filters", buffer, "Q::filter_floats", begin, make)
        return [
            "const epx::Scratch<float> filters_(Q::filter_floats);",
            "float* const filters = filters_.data;",
        ]

    def _windows(self) -> tuple[Window, Window]:
        found = windows_of(self.what)
        assert found is not None
        return found

    def _shape(self) -> dict[str, int]:
        """Sizes of the image and the result, strides of the image and the filters, and decisions."""
        what, chosen = self.what, self.choices
        a, image = load_of(what.left).index, what.right.index  # type: ignore[union-attr]
        (down, across), (*images, y, x) = self._windows(), what.columns
        channel, tap_y, tap_x = what.inner
        m = size_of(what.rows)
        return {
            "N": self.N, "MR": min(chosen.tile_m, m), "NV": chosen.tile_n,
            "BATCH": size_of(images), "M": m, "K": channel.size, "JC": chosen.squares,
            "WINOGRAD": chosen.winograd, "Y": y.size, "X": x.size, "H": down.size, "W": across.size,
            "PY": down.pad, "PX": across.pad,
            "TK": image.coefficient(channel), "TY": down.stride,
            "AI": step(a, what.rows) or 0, "AK": a.coefficient(channel),
            "AY": a.coefficient(tap_y), "AX": a.coefficient(tap_x), "DYNAMIC": chosen.dynamic, "KEPT": self._kept(),
        }  # fmt: skip
