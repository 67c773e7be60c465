"""Convolutions with lanes along the filters as C++: what filters.h works from."""

from __future__ import annotations

from dataclasses import replace

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Guard,
    Index,
    Load,
    Map,
    Reduce,
    Region,
    Scan,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.contract import Contraction, load_of, size_of, step
from epitaxy.proposers.grower.emit_conv import ConvWriter, among
from epitaxy.proposers.grower.emit_gemm import even, function
from epitaxy.proposers.grower.emit_thin import FILTERS
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.image import LINE, MISSED, edges, lacking, missed, whole_steps
from epitaxy.proposers.grower.patch import Patch, ask_lines, copy_lines, elements, patch_of, runs_of
from epitaxy.proposers.grower.rewrite import map_axes, rebuild
from epitaxy.proposers.grower.schedule import Kernel, Target

MOST_WRITTEN = 8
"""Steps of the sum that are written out at most: with more, gcc moves sums about (9 steps: 12 of 108
multiply-adds beside memory)."""
FEW_WRITTEN = 4
"""With fewer steps to a group its address costs as much as a pixel."""
PHASES = 2
"""Phases of a stride whose pixels are put between each other in registers."""
MOST_TILES = 8
"""Register tiles of a row at most that are each compiled for the pixels at which they lie."""
FEW_READ = 512
"""Multiply-adds for each element of the image after which asking for it early costs more than it
brings (864 of them: 1.02 of the time; 128 to 512: 0.94 to 0.97, four cores, Zen 5)."""
NOTHING = Const(0.0, "float32")
UNIT = 16
"""Pixels of a row are cut at whole cache lines of the result."""


def blocks_of(what: Contraction, pixels: int) -> tuple[int, int]:
    """(rows, pixels of a row) of blocks of about `pixels`: rows divide those of one image."""
    *rows, across = what.columns
    if across.size > pixels or not rows:
        return 1, min(across.size, max(UNIT, even(across.size, pixels, UNIT)))
    wanted = max(1, pixels // across.size)
    return max(r for r in range(1, wanted + 1) if rows[-1].size % r == 0), across.size


def taps_of_row(what: Contraction) -> int:
    """Steps of the sum, one after the other, each of which reads the pixel that the step before read
    for the next result of the row."""
    assert isinstance(what.right, Load)
    index, tap = what.right.index, what.inner[-1]
    apart = index.coefficient(what.columns[-1])
    return tap.size if index.coefficient(tap) == apart else 1


def patch_for(what: Contraction, choices: Choices) -> Patch | None:
    """What a block reads, where `what` can be written in this form."""
    return patch_of(what, *blocks_of(what, choices.nc)) if what.fetched else None


def filters_first(what: Contraction, choices: Choices) -> bool:
    """Whether `choices` ask for lanes along the filters and `what` can be written so."""
    return choices.form == FILTERS and patch_for(what, choices) is not None


class FiltersWriter(ConvWriter):
    """Filters lie along the lanes, pixels of a patch of the image are broadcast."""

    handed = f"{ConvWriter.handed}, to"
    gathered = False
    """Whether results leave by way of a thread's own memory."""

    def write(self) -> list[str]:
        """The block of C++."""
        self.gathered = self._gathers()
        what, patch, group = self.what, self._patch(), self._group()
        finish, groups = self._finish(), size_of(what.inner) // group
        steps = self._places(("k", what.inner))
        at = self.address(Affine(0, among(patch.index, what.inner)))
        body = [
            f"const epx::Scratch<int32_t> offsets({groups});",
            *function("lay", "to, t, row, x", self._lay(patch)),
            *function("soon", "q, t, row, x", self._soon(patch)),
            f"for (int64_t g = 0; g < {groups}; ++g) {{",
            f"  const int64_t k = g * {group};",
            *(f"  {line}" for line in [*steps, f"offsets.data[g] = int32_t({at});"]),
            "}",
        ]
        body += function("place", "t, i, row, x", self._place())
        _, _, rows, _ = self._groups()
        more = self._there(body, rows)
        call = f"epx::convolve_filters<Shape>(a, lay, soon, offsets.data, pa, place, finish{more});"
        return self._block(body, finish, call)

    def _absent(self) -> tuple[Guard, ...]:
        """Taps that phases lack, or rows of pixels near the image's edges."""
        return lacking(self.what) or edges(self.what)

    def _finish(self) -> list[str]:
        """What happens to one vector of sums: where phases lie between each other, to one of both,
        as if they were pixels of a row twice as long."""
        pair = self._between()
        if pair is None:
            return super()._finish()
        held = self.kernel, self.what, self.lane
        phase, across = pair
        row = Axis(f"{across.name}{phase.name}", across.size * phase.size)
        self.names[row] = "x"
        self.kernel, self.what, self.lane = *joined(self.kernel, self.what, pair, row), row
        lines = super()._finish()
        self.kernel, self.what, self.lane = held
        return lines

    def put(self, target: Target, value: str, vector: bool) -> str:
        """The statement that stores one vector of results, where these are gathered beside others."""
        if not self.gathered:
            return super().put(target, value, vector)
        return f"epx::put({self.tail}, to, {value}, n);"

    def _gathers(self) -> bool:
        """Whether results that go past the caches begin and end amid lines: parts of a line are
        not streamed, so that a filter's results of a block are gathered first. They have to follow
        one another in memory."""
        (target,) = self.kernel.targets
        phases = PHASES if self._between() else 1
        *rows, across = self.what.columns
        deep, _ = blocks_of(self.what, self.choices.nc)
        index = target.index
        near = index.coefficient(across) == phases
        near &= deep == 1 or index.coefficient(rows[-1]) == across.size * phases
        between = {across, *self.what.batch[-1:]} if phases > 1 else {across}
        places = [index.offset, *(c for a, c in index.terms if a not in between)]
        return near and any(c % LINE for c in places) and self.leaves(target)

    def _between(self) -> tuple[Axis, Axis] | None:
        """The batches' last axis and the pixels of a row, where the former are two phases of a
        stride, and everything beside the sums lies along both as along one row."""
        what, (target,) = self.what, self.kernel.targets
        if not what.batch or what.batch[-1].size != PHASES:
            return None
        phase, across = what.batch[-1], what.columns[-1]
        after = rebuild(target.value, lambda v: NOTHING if v == what.total else None, {})
        values = [v for v in walk((after,)) if isinstance(v, Load | Index | Reduce | Scan)]
        if any(isinstance(v, Reduce | Scan) for v in values):
            return None
        values = [v for v in values if not of_phase(v, phase, across)]
        indices = [target.index, *(v.index for v in values if isinstance(v, Load | Index))]
        indices += [g.index for v in values if isinstance(v, Load) for g in v.guards]
        beside = all(f.coefficient(across) == PHASES * f.coefficient(phase) for f in indices)
        return (phase, across) if beside and target.index.coefficient(phase) == 1 else None

    def _patch(self) -> Patch:
        found = patch_for(self.what, self.choices)
        assert found is not None
        return found

    def _lay(self, patch: Patch) -> list[str]:
        """Copy what the block reads that begins at batch t, this row and pixel x."""
        places, source = self._begins(patch)
        start = [(a, self.names[a]) for a in (*self.what.batch, *self.what.columns)]
        return [*places, *copy_lines(patch, self.N, source, start)]

    def _soon(self, patch: Patch) -> list[str]:
        """Ask for the q-th piece of what the block reads that begins at batch t, row and pixel x."""
        places, source = self._begins(patch)
        return [*places, *ask_lines(patch, source)]

    def _begins(self, patch: Patch) -> tuple[list[str], str]:
        """Statements that name the places of a block, and where what it reads begins."""
        batch, _, *pixels = self._groups()
        places = self._places(batch, *pixels)
        source, _ = self.buffers[patch.load.buffer]
        outer = (*self.what.batch, *self.what.columns)
        index = Affine(patch.load.index.offset, among(patch.load.index, outer))
        return places, f"{source} + {self.address(index)}"

    def _asks(self, patch: Patch) -> int:
        """How often a block asks for lines of the next one: never where they are nothing beside
        what is computed from them, nor with vectors of less than a line (not measured)."""
        few = elements(patch) * FEW_READ < self.what.work // 2
        return 0 if few or self.N < LINE else runs_of(patch).asks

    def _asked(self) -> bool:
        """Whether results are asked for before they are written: lines of floats that go through
        the caches, a vector each."""
        (target,) = self.kernel.targets
        near = target.index.coefficient(self.what.columns[-1]) == (PHASES if self._between() else 1)
        whole = near and self.N >= LINE
        return whole and target.dtype == "float32" and not self.choices.stream

    def _group(self) -> int:
        """Steps of the sum that are written out: the innermost directions of the window, and some
        channels where these are few."""
        group = 1
        for axis in reversed(whole_steps(self.what, self._absent())):
            if axis.size * group > MOST_WRITTEN:
                fits = [d for d in range(1, axis.size + 1) if axis.size % d == 0]
                most = 2 * FEW_WRITTEN if group < FEW_WRITTEN else group
                return group * max(d for d in fits if d == 1 or d * group <= most)
            group *= axis.size
        return group

    def _sizes(self) -> str:
        """The shape, and where each step of a group lies."""
        what, text = self.what, []
        index, stride = self._patch().index, 1
        for axis in reversed(what.inner):
            if c := index.coefficient(axis):
                text.append(f"u / {stride} % {axis.size} * {c}")
            stride *= axis.size
        at = f"static constexpr int64_t at(int64_t u) {{ return {' + '.join(text) or '0 * u'}; }}"
        return f"{super()._sizes()[:-3]} {at}{self._meets()} }};"

    def _meets(self) -> str:
        """A constant function of the shape: whether step u of a group meets the image at pixel x of
        a row. Empty where nearly all do, where rows are cut, or long beside a tile."""
        what, across = self.what, self.what.columns[-1]
        whole, stride = {across: "x"}, 1
        for axis in reversed(what.inner):
            if stride * axis.size > self._group():
                break
            whole[axis] = f"u / {stride} % {axis.size}"
            stride *= axis.size
        cut = blocks_of(what, self.choices.nc)[1] < across.size
        cut |= across.size > MOST_TILES * self.choices.tile_m
        load = what.right
        assert isinstance(load, Load)
        found = [g for g in load.guards if g.index.coefficient(across)]
        if cut or len(found) != 1 or missed(found[0]) < MISSED:
            return ""
        terms = found[0].index.terms
        if not {a for a, _ in terms} <= set(whole):
            return ""
        at = " + ".join([str(found[0].index.offset), *(f"{whole[a]} * {c}" for a, c in terms)])
        test = f"const int64_t at = {at}; return at >= 0 && at < {found[0].size};"
        return f" static constexpr bool meets(int64_t u, int64_t x) {{ (void)u; {test} }}"

    def _shape(self) -> dict[str, int]:
        """Sizes of the operands, of blocks and of the patch, and decisions."""
        what, chosen, patch = self.what, self.choices, self._patch()
        m, k, lanes, group = size_of(what.rows), size_of(what.inner), self.N, self._group()
        *rows, across = what.columns
        deep, wide = blocks_of(what, chosen.nc)
        vectors = min(chosen.tile_n, -(-m // lanes))
        high = vectors * lanes
        a, down = load_of(what.left).index, rows[-1:]
        phases = PHASES if self._between() else 1
        tall = min(deep, chosen.tile_m // wide) if wide == across.size else 1
        return {
            "N": lanes, "MR": high, "NV": vectors, "BATCH": size_of(what.batch), "M": m, "K": k,
            "J": high, "JC": high, "MC": high, **self._depths(group, even(k, chosen.kc, group)), "PARTS": 1,
            "AI": step(a, what.rows) or 0, "AK": step(a, what.inner) or 0, "BK": 1, "BJ": 1,
            "DOT": 0, "PACK_A": 1, "PACK_B": 1, "KEPT": self._kept(), "DYNAMIC": chosen.dynamic,
            "ROWS": size_of(rows), "X": across.size, "RB": deep, "XB": wide, "PX": chosen.tile_m, "TALL": max(1, tall), "FAR": chosen.prefetch,
            "FB": max(1, min(chosen.mc, m) // high), "STEP": patch.index.coefficient(across),
            "PHASES": phases, "LAID": phases if len(set(what.batch[-1:]) & what.right.axes) else 1, "ASK": int(self._asked()), "GATHER": int(self.gathered), "ASKS": self._asks(patch), "DOWN": _first(patch.index, down), "PATCH": patch.floats, "GROUP": group,
        }  # fmt: skip


def joined(
    kernel: Kernel, what: Contraction, pair: tuple[Axis, Axis], row: Axis
) -> tuple[Kernel, Contraction]:
    """What follows the sums with the two axes of `pair` as the one axis `row`."""
    phase, across = pair
    turn = Map("odd", (Index(Affine(0, ((phase, 1),))),), "bool")  # of the row's pixels, then

    def affine(f: Affine) -> Affine:
        kept = tuple((a, c) for a, c in f.terms if a not in pair)
        c = f.coefficient(phase)
        return Affine(f.offset, (*kept, (row, c)) if c else kept)

    def axes(of: tuple[Axis, ...]) -> tuple[Axis, ...]:
        kept = tuple(a for a in of if a not in pair)
        return kept if kept == of else (*kept, row)

    def beside(v: Value) -> Value | None:
        if v == what.total:
            return total
        if not isinstance(v, Load) or not of_phase(v, phase, across):
            return None
        first, second = (replace(v, index=at_phase(v.index, phase, n)) for n in range(PHASES))
        return Map("where", (turn, second, first), v.dtype)

    (target,) = kernel.targets
    place = Load(-1, Affine(0, tuple((a, 1) for a in axes(target.axes))), what.total.dtype)
    total = Reduce("sum", (), place, what.total.dtype)
    value = rebuild(target.value, beside, {})
    store = Store(0, target.index, target.axes, value)
    (made,) = map_axes(Region("row", (), (), (store,)), affine, axes).stores
    new = replace(target, index=made.index, axes=made.axes, value=made.value)
    whole = next(v for v in walk((made.value,)) if isinstance(v, Reduce))
    return replace(kernel, targets=(new,), outer=axes(kernel.outer)), replace(what, total=whole)


def of_phase(value: Value, phase: Axis, across: Axis) -> bool:
    """Whether all pixels of a row read the same of `value`, those of each phase another."""
    if not isinstance(value, Load) or value.guards or value.indirect:
        return False
    return value.index.coefficient(phase) != 0 and value.index.coefficient(across) == 0


def at_phase(index: Affine, phase: Axis, number: int) -> Affine:
    """`index` where `phase` has come to `number`."""
    kept = tuple((a, c) for a, c in index.terms if a != phase)
    return Affine(index.offset + number * index.coefficient(phase), kept)


def _first(index: Affine, axes: list[Axis]) -> int:
    return index.coefficient(axes[0]) if axes else 0
