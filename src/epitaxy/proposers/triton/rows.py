"""Triton kernels for maps, reductions and scans: rows of a tile are folded along its columns.

One program has `block_m` rows and goes over the columns `block_n` at a time, once for every
reduction that needs another's result; where all columns fit, each value is read once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epitaxy.proposers.grower.algebra import Axis, Load, Map, Reduce, Scan, Value
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.emit_kernel import Passes, lane_axis
from epitaxy.proposers.grower.genome import Choices as Scalars
from epitaxy.proposers.grower.schedule import Kernel, Target
from epitaxy.proposers.triton.choices import Choices
from epitaxy.proposers.triton.expressions import FLOATS, Expressions, Written, indent, power
from epitaxy.proposers.triton.products import scaled

NEUTRAL = {"sum": "0", "prod": "1", "max": '-float("inf")', "min": 'float("inf")', "any": "0",
           "all": "1"}  # fmt: skip
LEAST_FLAT, MOST_FLAT = 256, 8192
"""Elements of one program of an element-wise kernel."""
LEAST_LANE = 16
"""A shorter axis does not fill the rows of a tile by itself."""


class RowWriter(Expressions):
    """Writes one kernel; `choices` hold the tile."""

    def __init__(
        self, kernel: Kernel, choices: Choices, buffers: Mapping[int, tuple[str, str, int]],
        like: RowWriter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(buffers)
        self.kernel, self.choices = kernel, choices
        self.passes = Passes(kernel)
        self.count_uses([t.value for t in kernel.targets])
        lane = lane_axis(kernel, Scalars(width=1)) if like is None else _named(kernel, like.lane)
        self.lane: str = lane.name if lane else ""
        self.flat = not kernel.inner
        last = [a for a in kernel.outer if a == lane]
        self.alone: bool = bool(last) and not self.flat and last[0].size >= LEAST_LANE
        if like is not None:
            self.alone = like.alone
        others = [a for a in kernel.outer if a != lane]
        self.group: list[Axis] = last if self.alone else [*others, *last]
        self.scalars: list[Axis] = others if self.alone else []
        self.rows = size_of(self.group)
        self.columns = size_of(kernel.inner)
        tile = choices.block_m
        if self.flat:  # one decision for all kernels of a region must not leave these without lanes
            tile = max(LEAST_FLAT, min(tile * choices.block_n, MOST_FLAT))
        self.bm = min(tile, power(self.rows))
        self.bn = min(choices.block_n, power(self.columns))
        if like is not None:
            self.bm, self.bn = self._scaled(like)
        self.tall = self.bm > 1 and not self.flat
        """Tiles have rows and columns; otherwise one of the two."""
        self.chunked = self.columns > self.bn
        self.axis = 1 if self.tall else 0
        self.carried: dict[Value, str] = {}
        self.current = -1

    def _scaled(self, like: RowWriter) -> tuple[int, int]:
        """The tile of the same kernel at larger sizes, cut down with them."""
        bm, bn = like.bm, power(self.columns)
        if bm > 1:
            bm = scaled(like.bm, self.rows, like.rows)
            bm = bm // 2 if self.rows // bm < 2 and like.rows > like.bm else bm
        if like.chunked:
            bn = scaled(like.bn, self.columns, like.columns)
        return bm, bn

    # -- the kernel ----------------------------------------------------------------------------

    def write(self, name: str) -> Written:
        """The whole kernel under that name. Raises Unsupported."""
        self._place_rows()
        if self.flat:
            for target in self.kernel.targets:
                self.put(target)
        elif self.chunked:
            self._by_chunks()
        else:
            self._place_columns("tl.arange(0, BLOCK_N)")
            for target in self.kernel.targets:
                self.put(target)
        used = self.used(self.kernel)
        constants = [("BLOCK_M", self.bm)] if self.bm > 1 or self.flat else []
        constants += [] if self.flat else [("BLOCK_N", self.bn)]
        signature = ", ".join([*used, *(f"{c}: tl.constexpr" for c, _ in constants)])
        text = "\n".join(
            ["@triton.jit", f"def {name}({signature}):", *indent(self._comment() + self.lines)]
        )
        blocks = -(-self.rows // self.bm)
        programs = blocks * size_of(self.scalars)
        options = (("num_warps", self.choices.warps),)
        return Written(
            name, text + "\n", used, tuple(constants), programs, options, frozenset(self.helpers)
        )

    def _comment(self) -> list[str]:
        def over(axes: Sequence[Axis]) -> str:
            return " x ".join(f"{a.name}:{a.size}" for a in axes) or "1"

        what = ", ".join(t.buffer for t in self.kernel.targets)
        folding = f", folding {over(self.kernel.inner)}" if self.kernel.inner else ""
        return [f"# {what} over {over(self.kernel.outer)}{folding}"]

    # -- positions -----------------------------------------------------------------------------

    def _place_rows(self) -> None:
        blocks = -(-self.rows // self.bm)
        self.lines.append("program = tl.program_id(0)")
        if max(n for _, _, n in self.buffers.values()) >= 2**31:
            self.lines[-1] += ".to(tl.int64)"
        first = "program"
        if self.scalars:
            self.decode(self.scalars, "program", blocks, "")
            first = f"program % {blocks}" if blocks > 1 else "0"
        if self.bm == 1 and not self.flat:
            self.decode(self.group, first, 1, "")
            return
        tail = "[:, None]" if self.tall else ""
        base = f"({first})" if " " in first else first
        self.lines.append(f"row = {base} * BLOCK_M + tl.arange(0, BLOCK_M){tail}")
        self.decode(self.group, "row", 1, "m")
        if self.rows % self.bm:
            self.lines.append(f"inside = row < {self.rows}")
            self.masks["m"] = "inside"

    def _place_columns(self, text: str) -> None:
        tail = "[None, :]" if self.tall else ""
        bracketed = f"({text}){tail}" if tail and " + " in text else f"{text}{tail}"
        self.lines.append(f"column = {bracketed}")
        self.decode(list(self.kernel.inner), "column", 1, "n")
        if self.columns % self.bn:
            self.lines.append(f"within = column < {self.columns}")
            self.masks["n"] = "within"

    # -- folding -------------------------------------------------------------------------------

    def node(self, value: Reduce | Scan) -> str:
        """A reduction or scan over the columns of the tile at hand."""
        if value in self.carried:
            return self.carried[value]
        if self.chunked:
            raise Unsupported(f"a {value.kind} that is not ready")
        if isinstance(value, Scan):
            return self._scan(value)
        return self._fold(value, self._operand(value))

    def _operand(self, value: Reduce) -> str:
        """What is folded, with the neutral element beyond the last column."""
        if "n" not in self.shape(value.arg):
            raise Unsupported(f"a {value.kind} of what does not vary")
        arg = self.use(value.arg)
        if value.arg.dtype == "bool":
            arg = f"({arg}).to(tl.int32)"
        if self.tall and "m" not in self.shape(value.arg):
            arg = f"tl.broadcast_to({arg}, [1, BLOCK_N])"
        if "n" in self.masks and not self._harmless(value):
            arg = f"tl.where({self.masks['n']}, {arg}, {self._neutral(value)})"
        return arg

    def _harmless(self, value: Reduce) -> bool:
        """Whether masked columns hold the neutral element already: zeros that are added up."""
        arg = value.arg
        while isinstance(arg, Map) and (arg.fn == "cast" or arg.fn == "mul"):
            arg = arg.args[0]
        return value.kind == "sum" and isinstance(arg, Load) and arg.fill == 0.0

    def _neutral(self, value: Reduce) -> str:
        kind = value.kind.removeprefix("arg")
        if value.arg.dtype in FLOATS or kind in ("any", "all", "sum", "prod"):
            number = NEUTRAL[kind]
            return f"{number}.0" if number.isdigit() and value.arg.dtype in FLOATS else number
        return str(-(2**31)) if kind == "max" else str(2**31 - 1)

    def _fold(self, value: Reduce, operand: str) -> str:
        kind, keep = value.kind, ", keep_dims=True" if self.tall else ""
        where = f"axis={self.axis}{keep}"
        if kind in ("any", "all"):
            return f"(tl.{'max' if kind == 'any' else 'min'}({operand}, {where}) != 0)"
        if kind in ("argmax", "argmin"):
            if tuple(value.over) != tuple(self.kernel.inner):
                raise Unsupported("positions along some of the folded axes")
            return f"tl.{kind}({operand}, {where})"
        if kind in ("sum", "max", "min"):
            return self._with_nan(value, operand, where)
        raise Unsupported(f"a reduction by {kind}")

    def _with_nan(self, value: Reduce, operand: str, where: str) -> str:
        """The hardware's max and min pass over NaN, PyTorch's do not."""
        plain = f"tl.{value.kind}({operand}, {where})"
        if value.kind == "sum" or value.arg.dtype not in FLOATS or self._only_shifts(value):
            return plain
        arg = self.named(value.arg)
        bad = f"tl.max(({arg} != {arg}).to(tl.int32), {where})"
        return f'tl.where({bad} != 0, float("nan"), {plain})'

    def _only_shifts(self, value: Reduce) -> bool:
        """Whether an extreme is only subtracted from its own operand, where NaN stays NaN."""
        users = [v for v in self.passes.values if value in getattr(v, "args", ())]
        roots = [t.value for t in self.kernel.targets]
        return (
            bool(users)
            and value not in roots
            and all(isinstance(u, Map) and u.fn == "sub" and u.args[0] == value.arg for u in users)
        )

    def _scan(self, value: Scan) -> str:
        if value.kind not in ("sum", "prod") or tuple(value.along) != tuple(self.kernel.inner):
            raise Unsupported(f"a running {value.kind}")
        arg = self.use(value.arg)
        if "n" in self.masks and value.reverse:
            arg = f"tl.where({self.masks['n']}, {arg}, {'0.0' if value.kind == 'sum' else '1.0'})"
        back = ", reverse=True" if value.reverse else ""
        return f"tl.cum{value.kind}({arg}, axis={self.axis}{back})"

    def _by_chunks(self) -> None:
        """One loop over the columns for every pass."""
        for number in range(self.passes.count):
            reduces = self.passes.reduces.get(number, [])
            stores = self.passes.stores.get(number, [])
            if reduces or stores:
                self._loop(reduces, stores)
        for target in self.passes.row_stores:
            self.put(target)

    def _loop(self, reduces: Sequence[Reduce], stores: Sequence[Target]) -> None:
        scans = self._scans(stores)
        back = {s.reverse for s in scans}
        if len(back) > 1:
            raise Unsupported("scans in both directions at once")
        kept = {v: self._begin(v) for v in reduces}
        carries = {s: self._carry(s) for s in scans}
        before, self.lines = self.lines, []
        memo, masks = dict(self.memo), dict(self.masks)
        start = f"{self.columns - self.bn} - start" if back == {True} else "start"
        if back == {True} and self.columns % self.bn:
            raise Unsupported("a scan from the end whose pieces are not equal")
        self._place_columns(f"{start} + tl.arange(0, BLOCK_N)")
        for value, name in kept.items():
            self._update(value, name)
        for scan, name in carries.items():
            made = self.fresh("running")
            arg = self.named(scan.arg)
            self.lines.append(f"{made} = {name} + {self._scan(scan)}")
            keep = ", keep_dims=True" if self.tall else ""
            self.lines.append(f"{name} += tl.sum({arg}, axis={self.axis}{keep})")
            self.memo[scan] = made
        for target in stores:
            self.put(target)
        body, self.lines, self.memo, self.masks = self.lines, before, memo, masks
        self.lines += [f"for start in range(0, {self.columns}, BLOCK_N):", *indent(body)]
        for value, name in kept.items():
            made = self.fresh("total" if value.kind == "sum" else "folded")
            self.lines.append(f"{made} = {self._end(value, name)}")
            self.carried[value] = self.memo[value] = made

    def _scans(self, stores: Sequence[Target]) -> list[Scan]:
        found: dict[Scan, None] = {}
        stack: list[Value] = [t.value for t in stores]
        while stack:
            v = stack.pop()
            if isinstance(v, Scan):
                if v.kind != "sum":
                    raise Unsupported(f"a running {v.kind} in pieces")
                found[v] = None
            elif isinstance(v, Map):
                stack.extend(v.args)
        return list(found)

    def _tile(self) -> str:
        return "[BLOCK_M, BLOCK_N]" if self.tall else "[BLOCK_N]"

    def _begin(self, value: Reduce) -> str:
        """The accumulator of one reduction, declared before the loop."""
        if value.kind not in ("sum", "max", "min", "any", "all"):
            raise Unsupported(f"{value.kind} in pieces")
        name = self.fresh("partial")
        of = "float32" if value.arg.dtype in FLOATS else "int32"
        if value.dtype == "int64" and value.kind == "sum":
            of = "int64"
        self.lines.append(f"{name} = tl.full({self._tile()}, {self._neutral(value)}, tl.{of})")
        return name

    def _update(self, value: Reduce, name: str) -> None:
        operand = self._operand(value)
        if value.kind == "sum":
            self.lines.append(f"{name} += {operand}")
            return
        fn = "maximum" if value.kind in ("max", "any") else "minimum"
        nan = ", propagate_nan=tl.PropagateNan.ALL" if value.arg.dtype in FLOATS else ""
        self.lines.append(f"{name} = tl.{fn}({name}, {operand}{nan})")

    def _end(self, value: Reduce, name: str) -> str:
        keep = ", keep_dims=True" if self.tall else ""
        where = f"axis={self.axis}{keep}"
        if value.kind in ("any", "all"):
            return f"(tl.{'max' if value.kind == 'any' else 'min'}({name}, {where}) != 0)"
        plain = f"tl.{value.kind}({name}, {where})"
        if value.kind == "sum" or value.arg.dtype not in FLOATS or self._only_shifts(value):
            return plain
        bad = f"tl.max(({name} != {name}).to(tl.int32), {where})"
        return f'tl.where({bad} != 0, float("nan"), {plain})'

    def _carry(self, scan: Scan) -> str:
        name = self.fresh("before")
        shape = "[BLOCK_M, 1]" if self.tall else "[1]"
        of = "float32" if scan.dtype in FLOATS else "int64"
        self.lines.append(f"{name} = tl.zeros({shape}, tl.{of})")
        return name


def _named(kernel: Kernel, name: str) -> Axis | None:
    """The kernel's axis of that name."""
    return next((a for a in (*kernel.outer, *kernel.inner) if a.name == name), None)
