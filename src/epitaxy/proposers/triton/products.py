"""Triton kernels for products: a tile of the result in registers, operands block by block.

What is done to each result afterwards happens before it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from epitaxy.proposers.grower.algebra import Axis, Load, Value
from epitaxy.proposers.grower.contract import Contraction, load_of, size_of, step
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.triton.choices import Choices
from epitaxy.proposers.triton.expressions import Expressions, Written, indent, power

LEAST_BLOCK = 16
"""The smallest side that `tl.dot` takes."""
PRECISION = ("ieee", "tf32x3", "tf32")
SMALL_INTEGERS = ("int8", "uint8")


class ProductWriter(Expressions):
    """Writes one contraction with its element-wise work."""

    def __init__(
        self, kernel: Kernel, choices: Choices, buffers: Mapping[int, tuple[str, str, int]],
        what: Contraction, like: ProductWriter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(buffers)
        if what.fetched:
            raise Unsupported("a convolution")
        self.kernel, self.choices, self.what = kernel, choices, what
        self.count_uses([t.value for t in kernel.targets])
        self.m, self.n, self.k = (size_of(g) for g in (what.rows, what.columns, what.inner))
        self.bm, self.bn, self.bk = tile(choices, (self.m, self.n, self.k), like)
        self.left, self.right = load_of(what.left), load_of(what.right)
        self.item = max(_item(self.left), _item(self.right))

    @property
    def local_bytes(self) -> int:
        """Bytes of local memory that the operands in flight take."""
        return self.choices.stages * self.item * self.bk * (self.bm + self.bn)

    def write(self, name: str) -> Written:
        """The whole kernel under that name. Raises Unsupported."""
        what = self.what
        blocks_m, blocks_n = -(-self.m // self.bm), -(-self.n // self.bn)
        self._place(blocks_m, blocks_n)
        whole = what.total.dtype == "int32"
        self.lines.append(
            f"total = tl.zeros([BLOCK_M, BLOCK_N], tl.{'int32' if whole else 'float32'})"
        )
        self.lines.append(f"for start in range(0, {self.k}, BLOCK_K):")
        self.lines += indent(self._steps(whole))
        self.memo[what.total] = "total"
        for target in self.kernel.targets:
            self.put(target)
        used = self.used(self.kernel)
        constants = (
            ("BLOCK_M", self.bm), ("BLOCK_N", self.bn), ("BLOCK_K", self.bk),
            ("GROUP", self.choices.group),
        )  # fmt: skip
        signature = ", ".join([*used, *(f"{c}: tl.constexpr" for c, _ in constants)])
        text = "\n".join(
            ["@triton.jit", f"def {name}({signature}):", *indent([self._comment(), *self.lines])]
        )
        programs = blocks_m * blocks_n * size_of(what.batch)
        options = (("num_warps", self.choices.warps), ("num_stages", self.choices.stages))
        helpers = frozenset(self.helpers)
        return Written(name, text + "\n", used, constants, programs, options, helpers)

    def _comment(self) -> str:
        batch = f"{size_of(self.what.batch)} times " if self.what.batch else ""
        left, right = (self.buffers[x.buffer][0] for x in (self.left, self.right))
        target = self.kernel.targets[0].buffer
        return (
            f"# {target} from {left} @ {right}: {batch}{self.m} x {self.k} by {self.k} x {self.n}"
        )

    def _place(self, blocks_m: int, blocks_n: int) -> None:
        """Which tile the program computes: row blocks in groups, so that programs that run at once
        share operands in the L2 cache."""
        what = self.what
        tile = "tile" if what.batch else "program"
        self.lines.append("program = tl.program_id(0)")
        if what.batch:
            self.decode(list(what.batch), "program", blocks_m * blocks_n, "")
            self.lines.append(f"tile = program % {blocks_m * blocks_n}")
        self.lines += [
            f"first = {tile} // (GROUP * {blocks_n}) * GROUP",
            f"height = min({blocks_m} - first, GROUP)",
            f"place = {tile} % (GROUP * {blocks_n})",
            "row = (first + place % height) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]",
            "column = place // height * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]",
        ]
        self.direction |= dict.fromkeys(what.rows, "m") | dict.fromkeys(what.columns, "n")
        self.decode(list(what.rows), "row", 1, "m")
        self.decode(list(what.columns), "column", 1, "n")
        for side, size, block in (("m", self.m, self.bm), ("n", self.n, self.bn)):
            if size % block:
                text = f"{'row' if side == 'm' else 'column'} < {size}"
                name = "inside" if side == "m" else "within"
                self.lines.append(f"{name} = {text}")
                self.masks[side] = name

    def _steps(self, whole: bool) -> list[str]:
        """The loop's body: both operands' blocks and their product."""
        what = self.what
        lines = ["step = start + tl.arange(0, BLOCK_K)"]
        masks_a, masks_b = self.mask("m"), self.mask("n")
        if self.k % self.bk:
            masks_a = [*masks_a, f"(step[None, :] < {self.k})"]
            masks_b = [*masks_b, f"(step[:, None] < {self.k})"]
        a = self.operand(self.left, (("row", what.rows), ("step[None, :]", what.inner)))
        b = self.operand(self.right, (("step[:, None]", what.inner), ("column", what.columns)))
        kinds = {self.left.dtype, self.right.dtype}
        lines += [f"a = {loaded(a, masks_a)}", f"b = {loaded(b, masks_b)}"]
        if whole and kinds != {"int8"}:
            raise Unsupported(f"products of {' and '.join(sorted(kinds))} in integers")
        if not whole and (len(kinds) > 1 or kinds & set(SMALL_INTEGERS)):
            # Small integers are exact in float16, and so are sums of their products in float32.
            of = "float16" if kinds <= set(SMALL_INTEGERS) else "float32"
            lines += [f"{x} = {x}.to(tl.{of})" for x in ("a", "b")]
            kinds = {of}
        lines.append(f"total = tl.dot(a, b, total{precision(kinds, self.choices, whole)})")
        return lines

    def operand(self, load: Load, groups: Sequence[tuple[str, Sequence[Axis]]]) -> str:
        """The pointers of a block of an operand along two groups of axes."""
        parts = [self.buffers[load.buffer][0]]
        if load.index.offset:
            parts.append(str(load.index.offset))
        for axis, c in load.index.terms:
            if axis in self.what.batch and c:
                parts.append(f"{self.positions[axis]} * {c}")
        return " + ".join([*parts, *strided(load, groups)])


def strided(load: Load, groups: Sequence[tuple[str, Sequence[Axis]]]) -> list[str]:
    """One term of an address for each group of axes that counts as one dimension."""
    terms = []
    for text, axes in groups:
        stride = step(load.index, axes)
        if stride is None:
            raise Unsupported("an operand without a stride")
        if stride:
            terms.append(text if stride == 1 else f"{text} * {stride}")
        else:
            terms.append(f"{text} * 0")  # the block keeps its shape
    return terms


def loaded(pointers: str, masks: Sequence[str]) -> str:
    """A load that gives zeros outside the masks."""
    if not masks:
        return f"tl.load({pointers})"
    return f"tl.load({pointers}, mask={' & '.join(masks)}, other=0)"


def precision(kinds: set[str], choices: Choices, whole: bool = False) -> str:
    """What `tl.dot` is told about its operands: float32 would be rounded to tf32 unasked."""
    if whole:
        return ", out_dtype=tl.int32"
    return f', input_precision="{PRECISION[choices.operands]}"' if kinds == {"float32"} else ""


class Tiled(Protocol):
    """A product's sizes, and those of its tile: rows, columns, steps along what is summed."""

    m: int
    n: int
    k: int
    bm: int
    bn: int
    bk: int


def tile(choices: Choices, sizes: tuple[int, int, int], like: Tiled | None) -> tuple[int, int, int]:
    """Rows, columns and steps of the tile of a product of `sizes`, as `choices` say, or as those of
    the same product `like` it at larger sizes."""
    if like is not None:
        larger = ((like.bm, like.m), (like.bn, like.n), (like.bk, like.k))
        m, n, k = (scaled(b, now, was) for (b, was), now in zip(larger, sizes, strict=True))
    else:
        wanted = (choices.block_m, choices.block_n, choices.block_k)
        pairs = zip(wanted, sizes, strict=True)
        m, n, k = (max(LEAST_BLOCK, min(block, power(size))) for block, size in pairs)
    return m, n, k


def scaled(block: int, size: int, larger: int) -> int:
    """A block of the same kernel at a smaller size: as large as can be (an interpreter is slow by
    the block, not by the element), with several of them, and a last one that is partly empty,
    where the larger size has such."""
    if larger <= block:
        return max(LEAST_BLOCK, power(size))
    even = larger % block == 0
    found = [1 << n for n in range(4, 16) if 2 << n <= size and (size % (1 << n) == 0) == even]
    return max(found, default=max(LEAST_BLOCK, min(block, power(size))))


def _item(value: Value) -> int:
    from epitaxy.problem import ITEM_BYTES

    return ITEM_BYTES[value.dtype]
