"""Contractions whose right operand is read vector by vector as it is packed: convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import Affine, Axis
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit_expr import Scope, indent
from epitaxy.proposers.grower.emit_gemm import GemmWriter, decoded
from epitaxy.proposers.grower.image import Image, copy_lines, floats, image_of, worth


class ConvWriter(GemmWriter):
    """Columns are vectors of neighbouring pixels; `fetch` reads one for one step of the sum."""

    def write(self) -> list[str]:
        """The block of C++."""
        image = None if self.choices.pack_b else image_of(self.what, self.N)
        if image is not None and worth(self.what, image):
            return self._direct(image)
        return self._packed()

    def _direct(self, image: Image) -> list[str]:
        """The right operand is read from the image, or from a padded copy of it."""
        sizes = ", ".join(f"{name} = {value}" for name, value in self._shape().items())
        what, source = self.what, self.buffers[image.load.buffer][0]
        finish = self._finish()
        places = [("t", what.batch), ("row", what.columns[:-1]), ("x", what.columns[-1:])]
        pixel = self._places(*places)
        base = "image.data" if image.rows else source
        outer = Affine(image.index.offset, _among(image.index, (*what.batch, *what.columns)))
        at = self.address(outer)
        steps = self._places(("k", what.inner))
        step = self.address(Affine(0, _among(image.index, what.inner)))
        body = [
            f"struct Shape {{ enum : int64_t {{ {sizes} }}; }};",
            "using G = epx::Gemm<Shape>;",
            "const epx::Scratch<float> pa(Shape::BATCH * G::a_batch);",
            f"const epx::Scratch<float> image({max(1, floats(image))});",
            f"const epx::Scratch<int32_t> offsets({size_of(what.inner)});",
            f"const auto a = [=](int64_t t) {{ {self._operand(what.left)} }};",
            f"const float* const base = {base};",
            "const auto pixel = [=](int64_t t, int64_t row, int64_t x) EPX_BODY {",
            "  (void)t, (void)row, (void)x;",
            *indent(pixel),
            f"  return base + {at};",
            "};",
            *self._finisher(finish),
        ]
        fill = [
            f"for (int64_t k = 0; k < {size_of(what.inner)}; ++k) {{",
            *indent([*steps, f"offsets.data[k] = int32_t({step});"]),
            "}",
        ]
        copy = copy_lines(image, source) if image.rows else []
        call = "epx::convolve_direct<Shape>(a, pixel, offsets.data, pa.data, finish);"
        return ["{", *indent([*body, *fill, *self._run(*copy, call)]), "}"]

    def _packed(self) -> list[str]:
        """The right operand is read from the image as it is packed."""
        sizes = ", ".join(f"{name} = {value}" for name, value in self._shape().items())
        finish, fetch = self._finish(), self._fetch()
        body = [
            f"struct Shape {{ enum : int64_t {{ {sizes} }}; }};",
            "using G = epx::Gemm<Shape>;",
            "const epx::Scratch<float> pa(Shape::BATCH * G::a_batch);",
            f"const auto a = [=](int64_t t) {{ {self._operand(self.what.left)} }};",
            "const auto fetch = [=](auto tail, int64_t t, int64_t k, int64_t row, int64_t x, int n) "
            "EPX_BODY {",
            "  (void)t, (void)k, (void)row, (void)x, (void)n;",
            *indent(fetch),
            "};",
            *self._finisher(finish),
        ]
        return [
            "{",
            *indent(body + self._run("epx::convolve<Shape>(a, fetch, pa.data, finish);")),
            "}",
        ]

    def _right(self) -> tuple[int, int]:
        """Of no use: the right operand is fetched."""
        return 1, 1

    def _columns(self) -> int:
        """Lanes of all pixel vectors."""
        *rows, across = self.what.columns
        return size_of(rows) * -(-across.size // self.N) * self.N

    def _shape(self) -> dict[str, int]:
        """Those of a contraction, with the left operand always copied, and the pixels of a row."""
        across = self.what.columns[-1].size
        forced = {"PACK_A": 1, "PACK_B": 1, "PARTS": 1}
        return {**super()._shape(), **forced, "X": across, "XV": -(-across // self.N)}

    @staticmethod
    def _finisher(lines: list[str]) -> list[str]:
        """What is done with the sums, as a function."""
        return [
            "const auto finish = [=](auto tail, int64_t t, int64_t i, int64_t row, int64_t x, V sum, "
            "int n) EPX_BODY {",
            "  (void)t, (void)i, (void)row, (void)x, (void)n;",
            *indent(lines),
            "};",
        ]

    def _places(self, *groups: tuple[str, Sequence[Axis]]) -> list[str]:
        """Declarations of every axis' position, from that of its group."""
        lines = []
        for variable, axes in groups:
            for axis, text in decoded(variable, axes):
                if text == variable:
                    self.names[axis] = variable
                else:
                    lines.append(f"const int64_t {self.names[axis]} = {text};")
        return lines

    def _fetch(self) -> list[str]:
        """One vector of the right operand."""
        what = self.what
        axes = frozenset((*what.batch, *what.inner, *what.columns))
        places = self._places(
            ("t", what.batch),
            ("k", what.inner),
            ("row", what.columns[:-1]),
            ("x", what.columns[-1:]),
        )
        scope = Scope(axes, lines=places)
        self.scopes, self.prefetch = [scope], 0
        value = self.vector(what.right)
        return [*scope.lines, f"return {value};"]

    def _finish(self) -> list[str]:
        """What happens to one vector of sums."""
        what, (target,) = self.what, self.kernel.targets
        places = self._places(
            ("t", what.batch),
            ("i", what.rows),
            ("row", what.columns[:-1]),
            ("x", what.columns[-1:]),
        )
        scope = Scope(frozenset(self.kernel.outer), lines=places, memo={what.total: "sum"})
        self.scopes, self.prefetch = [scope], 0
        scope.lines.append(self.put(target, self.vector(target.value), vector=True))
        return scope.lines


def _among(index: Affine, axes: Sequence[Axis]) -> tuple[tuple[Axis, int], ...]:
    """The terms of `index` over `axes`."""
    return tuple((a, c) for a, c in index.terms if a in axes)
