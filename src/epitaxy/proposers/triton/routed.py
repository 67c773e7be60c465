"""Triton kernels for experts: routing, a product over the rows of each expert, and their sum.

How many rows an expert gets is known on the device alone, so that every kernel is launched for the
most there can be and tiles without rows return at once: nothing waits for the host. An expert has
room for all rows in each buffer, of which the first are its own, in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from epitaxy.problem import ITEM_BYTES
from epitaxy.proposers.grower.algebra import Axis, Load, Reduce, Region, Scan, Value, walk
from epitaxy.proposers.grower.algebra_whole import Product, Routed
from epitaxy.proposers.grower.contract import memory, size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.triton.choices import Choices
from epitaxy.proposers.triton.expressions import LIMIT, Expressions, Written, indent
from epitaxy.proposers.triton.products import loaded, precision, tile

Buffers = dict[int, tuple[str, str, int]]
Temporaries = dict[str, tuple[str, int]]
TYPES = ("float32", "bfloat16", "float16")
"""What experts may compute; sums are in float32."""


@dataclass(frozen=True)
class Experts:
    """A region of experts with the names of its buffers."""

    what: Routed
    buffers: Buffers
    temporaries: Temporaries
    result: str
    """The dtype of the sum."""

    @property
    def rows(self) -> int:
        """Rows that may go to each expert."""
        return size_of(self.what.rows)

    @property
    def slots(self) -> int:
        """Rows of all experts together, at most."""
        return self.what.expert.size * self.rows


def experts_of(region: Region) -> Experts:
    """The region's buffers. Raises Unsupported."""
    what = region.routed
    assert what is not None
    if any(isinstance(v, Reduce | Scan) for v in walk(what.roots)):
        raise Unsupported("a sum among the experts that is no product")
    if region.outputs[0].dtype not in TYPES:
        raise Unsupported(f"experts in {region.outputs[0].dtype}")
    buffers: Buffers = {i: (f"x{i}", s.dtype, s.numel) for i, s in enumerate(region.inputs)}
    slots = what.expert.size * size_of(what.rows)
    temporaries: Temporaries = {
        "count": ("int32", what.expert.size), "source": ("int32", slots), "slot": ("int32", slots)
    }  # fmt: skip
    if what.strange:
        temporaries["strange"] = ("int32", size_of(what.rows))
    for m, (value, axis) in enumerate(what.operands):
        if needs(value):
            temporaries[f"a{m}"] = (_kind(what, m, region.outputs[0].dtype), slots * axis.size)
        elif m == len(what.operands) - 1:
            raise Unsupported("experts whose result is no product's")
    return Experts(what, buffers, temporaries, region.outputs[0].dtype)


def _kind(what: Routed, operand: int, result: str) -> str:
    """What an operand is stored in: the type of the matrices that multiply it, as PyTorch has it;
    that of the `result` where it is added up."""
    kinds = {p.weight.dtype for p in what.products if p.operand == operand}
    if operand == len(what.operands) - 1:
        kinds.add(result)
    return kinds.pop() if len(kinds) == 1 else "float32"


def needs(value: Value) -> list[int]:
    """The products that a value is made of, in order."""
    return sorted({-1 - v.buffer for v in walk((value,)) if isinstance(v, Load) and v.buffer < 0})


class ExpertWriter(Expressions):
    """What the kernels share: names, positions of rows, an expert's own parameters."""

    def __init__(self, experts: Experts) -> None:
        super().__init__(dict(experts.buffers))
        self.experts, self.what = experts, experts.what

    def own(self, values: Sequence[Value]) -> None:
        """Name the expert's own parameters among those that `values` read."""
        read = {v.buffer for v in walk(tuple(values)) if isinstance(v, Load)}
        for first in self.what.families:
            if first not in read:
                continue
            _, dtype, numel = self.buffers[first]
            name = f"own{first}"
            self.lines.append(f"{name} = x{first}")
            for e in range(1, self.what.expert.size):
                self.lines.append(f"{name} = tl.where(expert == {e}, x{first + e}, {name})")
            self.buffers = {**self.buffers, first: (name, dtype, numel)}

    def scalar(self, axis: Axis, name: str) -> None:
        """`axis` is a number that the program has under that name."""
        self.positions[axis], self.direction[axis] = name, ""

    def flat(self, axes: Sequence[Axis]) -> str:
        """The position among all places along `axes`."""
        stride, parts = size_of(axes), []
        for axis in axes:
            stride //= axis.size
            at = self.positions[axis]
            parts.append(at if stride == 1 else f"{at} * {stride}")
        return " + ".join(parts) or "0"

    def finished(
        self, name: str, comment: str, programs: int, constants: Sequence[tuple[str, int]],
        options: Sequence[tuple[str, int]],
    ) -> Written:  # fmt: skip
        """The kernel of the lines."""
        body = "\n".join(self.lines)
        words = set(re.findall(r"\w+", body))
        names = [n for n, _, _ in self.experts.buffers.values()]
        used = tuple(n for n in (*names, *self.experts.temporaries, "y0") if n in words)
        signature = ", ".join([*used, *(f"{c}: tl.constexpr" for c, _ in constants)])
        lines = ["@triton.jit", f"def {name}({signature}):", *indent([comment, *self.lines])]
        return Written(
            name, "\n".join(lines) + "\n", used, tuple(constants), programs, tuple(options),
            frozenset(self.helpers),
        )  # fmt: skip


class StageWriter(ExpertWriter):
    """Writes operand `m`, which products make: a tile of rows of one expert by some columns."""

    def __init__(
        self, experts: Experts, choices: Choices, m: int, like: StageWriter | None = None
    ) -> None:
        super().__init__(experts)
        self.choices, self.number = choices, m
        self.value, self.axis = self.what.operands[m]
        self.count_uses([self.value])
        self.products = {k: self.what.products[k] for k in needs(self.value)}
        if any(p.width != self.axis for p in self.products.values()):
            raise Unsupported("a product that is read out of order")
        self.m, self.n = experts.rows, self.axis.size
        self.k = max(p.depth.size for p in self.products.values())
        self.bm, self.bn, self.bk = tile(choices, (self.m, self.n, self.k), like)
        self.item = max(ITEM_BYTES[self._type(g)] for g in self._together().values())

    @property
    def local_bytes(self) -> int:
        """Bytes of local memory that the operands in flight take."""
        together = max(len(group) for group in self._together().values())
        return self.choices.stages * self.item * self.bk * (self.bm + together * self.bn)

    def _together(self) -> dict[int, list[int]]:
        """The products by the operand that they multiply, which is loaded once."""
        found: dict[int, list[int]] = {}
        for k, p in self.products.items():
            found.setdefault(p.operand, []).append(k)
        return found

    def _type(self, group: Sequence[int]) -> str:
        """What an operand and the matrices that multiply it are multiplied in."""
        kinds = {self.products[k].weight.dtype for k in group}
        return kinds.pop() if len(kinds) == 1 else "float32"

    def write(self, name: str) -> Written:
        """The whole kernel under that name. Raises Unsupported."""
        blocks_m, blocks_n = -(-self.m // self.bm), -(-self.n // self.bn)
        self._place(blocks_m, blocks_n)
        self.own([self.value, *(p.weight for p in self.products.values())])
        for k in self.products:
            self.lines.append(f"sum{k} = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)")
        for operand, group in self._together().items():
            depth = self.products[group[0]].depth
            self.lines.append(f"for start in range(0, {depth.size}, BLOCK_K):")
            self.lines += indent(self._steps(operand, group, depth))
        for v in walk((self.value,)):
            if isinstance(v, Load) and v.buffer < 0:
                self.memo[v] = f"sum{-1 - v.buffer}"
        made = rounded(self.use(self.value), self.experts.temporaries[f"a{self.number}"][0])
        mask = " & ".join(self.mask("mn"))
        at = f"a{self.number} + place * {self.n} + column"
        self.lines.append(f"tl.store({at}, {made}, mask={mask})")
        constants = (("BLOCK_M", self.bm), ("BLOCK_N", self.bn), ("BLOCK_K", self.bk))
        options = (("num_warps", self.choices.warps), ("num_stages", self.choices.stages))
        comment = f"# a{self.number} of the rows of each of {self.what.expert.size} experts"
        programs = self.what.expert.size * blocks_m * blocks_n
        return self.finished(name, comment, programs, constants, options)

    def _place(self, blocks_m: int, blocks_n: int) -> None:
        """The tile's rows: programs that run at once share an expert's columns in the L2 cache."""
        wide = self.experts.slots * max(self.n, self.k) > LIMIT
        begin = f"expert{'.to(tl.int64)' if wide else ''} * {self.m}"
        self.lines += [
            "program = tl.program_id(0)",
            f"expert = program // {blocks_m * blocks_n}",
            f"first = program % {blocks_m} * BLOCK_M",
            "rows = tl.load(count + expert)",
            "if first >= rows:",
            "    return",
            "within_expert = first + tl.arange(0, BLOCK_M)[:, None]",
            f"across = program // {blocks_m} % {blocks_n} * BLOCK_N",
            "column = across + tl.arange(0, BLOCK_N)[None, :]",
            "inside = within_expert < rows",
            f"place = {begin} + within_expert",
            "row = tl.load(source + place, mask=inside, other=0)",
        ]
        self.masks["m"] = "inside"
        self.scalar(self.what.expert, "expert")
        self.decode(list(self.what.rows), "row", 1, "m")
        self.decode([self.axis], "column", 1, "n")
        if self.n % self.bn:
            self.lines.append(f"within = column < {self.n}")
            self.masks["n"] = "within"

    def _steps(self, operand: int, group: Sequence[int], depth: Axis) -> list[str]:
        """The loop's body: a block of the operand, and its product with each of the weights."""
        lines = ["step = start + tl.arange(0, BLOCK_K)"]
        beyond = depth.size % self.bk != 0
        value, axis = self.what.operands[operand]
        kind = self._type(group)
        if needs(value):
            masks = ["inside", *([f"(step[None, :] < {depth.size})"] if beyond else [])]
            pointers = f"a{operand} + place * {depth.size} + step[None, :]"
            lines.append(f"a = {loaded(pointers, masks)}")
        else:
            lines += self._given(value, axis, beyond, kind)
        for k in group:
            product = self.products[k]
            wider = "" if product.weight.dtype == kind else f".to(tl.{kind})"
            lines.append(f"b = {self._weight(product, beyond)}{wider}")
            exactly = precision({kind}, self.choices)
            lines.append(f"sum{k} = tl.dot(a, b, sum{k}{exactly})")
        return lines

    def _given(self, value: Value, axis: Axis, beyond: bool, kind: str) -> list[str]:
        """A block of an operand that no product makes, read where its rows come from, as `kind`."""
        load = memory(value)
        value = load if load is not None and load.dtype == kind else value
        inner = ExpertWriter(self.experts)
        inner.buffers = self.buffers
        inner.positions = {**self.positions, axis: "depth"}
        inner.direction = {**self.direction, axis: "n"}
        inner.masks["m"] = "inside"
        inner.count_uses([value])
        inner.lines.append("depth = step[None, :]")
        if beyond:
            inner.lines.append(f"before = depth < {axis.size}")
            inner.masks["n"] = "before"
        made = inner.use(value)
        if not isinstance(value, Load):
            made = f"tl.where({' & '.join(inner.mask('mn'))}, {made}, 0.0)"
        if inner.shape(value) != "mn":
            made = f"tl.broadcast_to({made}, [BLOCK_M, BLOCK_K])"
        self.helpers |= inner.helpers
        made = made if value.dtype == kind else rounded(made, kind)
        return [*inner.lines, f"a = {made}"]

    def _weight(self, product: Product, beyond: bool) -> str:
        """A block of the expert's matrix."""
        index = product.weight.index
        parts = [self.buffers[product.weight.buffer][0]]
        parts += [str(index.offset)] if index.offset else []
        scalar = index.coefficient(self.what.expert)
        parts += [f"expert * {scalar}"] if scalar else []
        for text, axis in (("step[:, None]", product.depth), ("column", product.width)):
            parts.append(f"{text} * {index.coefficient(axis)}")
        masks = [f"(step[:, None] < {product.depth.size})"] if beyond else []
        return loaded(" + ".join(parts), [*masks, *self.mask("n")])


def rounded(text: str, dtype: str) -> str:
    """float32 `text` as `dtype`."""
    plain = text if text.isidentifier() else f"({text})"
    return text if dtype == "float32" else f"{plain}.to(tl.{dtype})"


def stages_of(
    experts: Experts, choices: Choices, like: Sequence[StageWriter] | None
) -> list[StageWriter]:
    """The writers of the operands that products make, in order."""
    made = [m for m, (v, _) in enumerate(experts.what.operands) if needs(v)]
    larger = like if like is not None else [None] * len(made)
    if len(larger) != len(made):
        raise Unsupported("other kernels at other sizes")
    return [StageWriter(experts, choices, m, big) for m, big in zip(made, larger, strict=True)]
