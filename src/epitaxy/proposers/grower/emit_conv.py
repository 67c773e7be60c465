"""Contractions whose right operand is read vector by vector as it is packed: convolutions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import Affine, Axis, Guard
from epitaxy.proposers.grower.contract import load_of, size_of
from epitaxy.proposers.grower.emit_expr import Scope, indent
from epitaxy.proposers.grower.emit_gemm import GemmWriter, Group, function
from epitaxy.proposers.grower.image import (
    Image,
    copy_lines,
    floats,
    image_of,
    lacking,
    whole_steps,
    worth,
)


class ConvWriter(GemmWriter):
    """Columns are vectors of neighbouring pixels; `fetch` reads one for one step of the sum."""

    handed = "tail, t, i, row, x, sum, n"
    """What the function that takes a vector of sums is given."""

    def write(self) -> list[str]:
        """The block of C++."""
        image = self._image()
        return self._packed() if image is None else self._direct(image)

    def _image(self) -> Image | None:
        """What the right operand is read from where it lies; None where it is packed."""
        image = None if self.choices.pack_b else image_of(self.what, self.N)
        return image if image is not None and worth(self.what, image) else None

    def _direct(self, image: Image) -> list[str]:
        """The right operand is read from the image, or from a padded copy of it."""
        what, source = self.what, self.buffers[image.load.buffer][0]
        batch, _, *pixels = self._groups()
        finish = self._finish()
        start = Affine(image.index.offset, among(image.index, (*what.batch, *what.columns)))
        places = [*self._places(batch, *pixels), f"return base + {self.address(start)};"]
        steps = self._places(("k", what.inner))
        step = self.address(Affine(0, among(image.index, what.inner)))
        if image.windows:
            across = self.address(Affine(0, image.windows))
            steps.append(f"const int64_t u = {across};")
            step += f" + u % {image.phases} * {image.phase} + u / {image.phases}"
        body = [
            f"const epx::Scratch<float> image({max(1, floats(image))});",
            f"const epx::Scratch<int32_t> offsets({size_of(what.inner)});",
            f"const float* const base = {'image.data' if image.planes else source};",
            *function("pixel", "t, row, x", places),
            f"for (int64_t k = 0; k < {size_of(what.inner)}; ++k) {{",
            *indent([*steps, f"offsets.data[k] = int32_t({step});"]),
            "}",
        ]
        copy = copy_lines(image, source) if image.planes else []
        more = self._there(body)
        call = f"epx::convolve_direct<Shape>(a, pixel, offsets.data, pa, finish{more});"
        return self._block(body, finish, *copy, call)

    def _packed(self) -> list[str]:
        """The right operand is read from the image as it is packed."""
        finish, fetch = self._finish(), self._fetch()
        body = function("fetch", "tail, t, k, row, x, n", fetch)
        return self._block(body, finish, "epx::convolve<Shape>(a, fetch, pa, finish);")

    def _block(self, body: list[str], finish: list[str], *calls: str) -> list[str]:
        """Everything that one convolution needs, and the calls."""
        lines = [
            *self._head(),
            "using G = epx::Gemm<Shape>;",
            *self._copy("pa", "Shape::BATCH * G::a_batch"),
            *body,
            *function("finish", self.handed, finish),
            *self._run(*calls),
        ]
        return ["{", *indent(lines), "}"]

    def _right(self) -> tuple[int, int]:
        """Of no use: the right operand is fetched."""
        return 1, 1

    def _converted(self) -> tuple[bool, bool]:
        """Both are copied anyway."""
        return True, True

    def _packed_ones(self) -> tuple[bool, bool]:
        """The left operand is copied; the right one is no memory."""
        return True, False

    def _kept(self) -> int:
        """The copy of the filters, where these are weights."""
        return int(load_of(self.what.left).buffer in self.keeper.weights)

    def _columns(self) -> int:
        """Lanes of all pixel vectors."""
        *rows, across = self.what.columns
        return size_of(rows) * -(-across.size // self.N) * self.N

    def _shape(self) -> dict[str, int]:
        """Those of a contraction, with the left operand always copied, and the pixels of a row."""
        across = self.what.columns[-1].size
        forced = {"PACK_A": 1, "PACK_B": 1, "PARTS": 1}
        row = {"X": across, "XV": -(-across // self.N), "TURNS": int(self._interleaved())}
        whole = {**super()._shape(), **forced, **row}
        return whole if self._image() is None else {**whole, **self._depths(1, whole["KC"])}

    def _depths(self, group: int, each: int) -> dict[str, int]:
        """Steps of the sum that are copied together (`each`, where all batches have all steps),
        that a batch has or lacks together, and that are done at once: whole groups of steps."""
        absent = self._absent()
        if not absent:
            return {"KC": each, "UNIT": each, "RUN": each}
        wanted, whole = self.choices.kc, size_of(whole_steps(self.what, absent))
        fits = [d for d in range(group, whole + 1, group) if whole % d == 0]
        unit = max((d for d in fits if d <= wanted), default=fits[0])
        run = wanted if lacking(self.what) else unit  # rows do not lack the same
        return {"KC": size_of(self.what.inner), "UNIT": unit, "RUN": run}

    def _absent(self) -> tuple[Guard, ...]:
        """What says which steps of the sum are left out."""
        return lacking(self.what)

    def _there(self, body: list[str], *pixels: Group) -> str:
        """Add to `body`, where steps of the sum are left out, whether batch t has those from k on,
        or its row of pixels; how to hand it on."""
        absent = self._absent()
        if not absent:
            return ""
        places = self._places(("t", self.what.batch), *pixels, ("k", self.what.inner))
        tests = [f"epx::within({self.address(g.index)}, {g.size})" for g in absent]
        test = f"return {' && '.join(tests)};"
        read = set(re.findall(r"\w+", test))
        used = [p for p in places if p.split()[2] in read]
        names = ", ".join(["t", *(name for name, _ in pixels), "k"])
        body += function("there", names, [*used, test])
        return ", there"

    def _interleaved(self) -> bool:
        """Whether results of different batches lie between each other: phases of a stride."""
        (target,) = self.kernel.targets
        across = target.index.coefficient(self.what.columns[0])
        return any(0 < target.index.coefficient(a) < across for a in self.what.batch)

    def _groups(self) -> tuple[Group, ...]:
        """Pixels are counted along and across rows."""
        *rows, across = self.what.columns
        return ("t", self.what.batch), ("i", self.what.rows), ("row", rows), ("x", (across,))

    def _fetch(self) -> list[str]:
        """One vector of the right operand."""
        what = self.what
        batch, _, *pixels = self._groups()
        axes = frozenset((*what.batch, *what.inner, *what.columns))
        scope = Scope(axes, self._places(batch, ("k", what.inner), *pixels))
        self.scopes, self.prefetch = [scope], 0
        value = self.vector(what.right)
        return [*scope.lines, f"return {value};"]


def among(index: Affine, axes: Sequence[Axis]) -> tuple[tuple[Axis, int], ...]:
    """The terms of `index` over `axes`."""
    return tuple((a, c) for a, c in index.terms if a in axes)
