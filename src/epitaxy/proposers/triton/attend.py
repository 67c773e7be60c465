"""Triton kernels for attention: scores, softmax and both products, block of keys by block.

The maximum and the sum of a row's weights run along, and what was added up is rescaled when the
maximum grows: Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
"FlashAttention", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epitaxy.proposers.grower.algebra import Axis, Load, Value
from epitaxy.proposers.grower.attention import Attention, Limit, limits
from epitaxy.proposers.grower.contract import load_of, size_of
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.triton.choices import Choices
from epitaxy.proposers.triton.expressions import Expressions, Written, indent, power
from epitaxy.proposers.triton.products import LEAST_BLOCK, loaded, precision, scaled, strided


class AttentionWriter(Expressions):
    """Writes one attention with the element-wise work on its result."""

    def __init__(
        self, kernel: Kernel, choices: Choices, buffers: Mapping[int, tuple[str, str, int]],
        what: Attention, like: AttentionWriter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(buffers)
        self.kernel, self.choices, self.what = kernel, choices, what
        inner = what.weighted
        self.count_uses([t.value for t in kernel.targets])
        self.count_uses([inner.scores])
        self.m, self.n = size_of(what.rows), size_of(inner.keys)
        self.depth, self.columns = size_of(inner.depth), size_of(what.columns)
        self.bm = max(LEAST_BLOCK, min(choices.block_m, power(self.m)))
        self.bn = max(LEAST_BLOCK, min(choices.block_n, power(self.n)))
        if like is not None:
            self.bm, self.bn = scaled(like.bm, self.m, like.m), scaled(like.bn, self.n, like.n)
        self.bd = max(LEAST_BLOCK, power(self.depth))
        self.be = max(LEAST_BLOCK, power(self.columns))
        self.query, self.key, self.value = (
            load_of(x) for x in (inner.query, inner.key, inner.value)
        )

    def write(self, name: str) -> Written:
        """The whole kernel under that name. Raises Unsupported."""
        what, inner = self.what, self.what.weighted
        blocks = -(-self.m // self.bm)
        self._place(blocks)
        low, high = self._range()
        self.lines += [
            f"most = tl.full([BLOCK_M, 1], {LOWEST}, tl.float32)",
            "weight = tl.zeros([BLOCK_M, 1], tl.float32)",
            "total = tl.zeros([BLOCK_M, COLUMNS], tl.float32)",
            f"for start in range({low}, {high}, BLOCK_N):",
        ]
        before, self.lines = self.lines, []
        kept = self._block()
        self.lines, body = before, self.lines
        self.lines += indent(body)
        self.memo, self.masks = kept
        given = "total / weight"
        if inner.safe:
            given = "tl.where(weight == 0.0, 0.0, total / weight)"
        self.lines.append(f"total = {given}")
        self._columns()
        self.memo[inner.total] = "total"
        for target in self.kernel.targets:
            self.put(target)
        return self._written(name, blocks * size_of(what.batch))

    def _written(self, name: str, programs: int) -> Written:
        used = self.used(self.kernel)
        constants = (
            ("BLOCK_M", self.bm), ("BLOCK_N", self.bn), ("DEPTH", self.bd), ("COLUMNS", self.be),
        )  # fmt: skip
        signature = ", ".join([*used, *(f"{c}: tl.constexpr" for c, _ in constants)])
        comment = (
            f"# {self.kernel.targets[0].buffer}: {self.m} queries of {self.n} keys, "
            f"{self.depth} deep, {size_of(self.what.batch)} times"
        )
        text = "\n".join(
            ["@triton.jit", f"def {name}({signature}):", *indent([comment, *self.lines])]
        )
        options = (("num_warps", self.choices.warps), ("num_stages", self.choices.stages))
        helpers = frozenset(self.helpers)
        return Written(name, text + "\n", used, constants, programs, options, helpers)

    @property
    def local_bytes(self) -> int:
        """Bytes of local memory that keys and values in flight take, and the queries."""
        item = 4 if self.key.dtype == "float32" else 2
        moving = self.choices.stages * self.bn * (self.bd + self.be)
        return item * (moving + self.bm * self.bd)

    # -- parts ---------------------------------------------------------------------------------

    def _place(self, blocks: int) -> None:
        what = self.what
        self.lines.append("program = tl.program_id(0)")
        first = "program"
        if what.batch:
            self.decode(list(what.batch), "program", blocks, "")
            first = f"program % {blocks}"
        self.lines.append(f"first = {first} * BLOCK_M")
        self.lines.append("row = first + tl.arange(0, BLOCK_M)[:, None]")
        self.decode(list(what.rows), "row", 1, "m")
        if self.m % self.bm:
            self.lines.append(f"inside = row < {self.m}")
            self.masks["m"] = "inside"
        self.lines.append("depth = tl.arange(0, DEPTH)")
        across = [f"(depth[None, :] < {self.depth})"] if self.depth != self.bd else []
        groups = (("row", what.rows), ("depth[None, :]", what.weighted.depth))
        q = self._operand(self.query, groups)
        self.lines.append(f"queries = {loaded(q, [*self.mask('m'), *across])}")

    def _block(self) -> tuple[dict[Value, str], dict[str, str]]:
        """The loop's body; the names and masks that hold outside it."""
        memo, masks, inner = dict(self.memo), dict(self.masks), self.what.weighted
        put = self.lines.append
        put("key = start + tl.arange(0, BLOCK_N)[None, :]")
        put("down = start + tl.arange(0, BLOCK_N)[:, None]")
        self.decode(list(inner.keys), "key", 1, "n")
        deep = [f"(depth[:, None] < {self.depth})"] if self.depth != self.bd else []
        beyond, below = [], []
        if self.n % self.bn:
            beyond, below = [f"(key < {self.n})"], [f"(down < {self.n})"]
            self.masks["n"] = beyond[0]
        k = self._operand(self.key, (("depth[:, None]", inner.depth), ("key", inner.keys)))
        put(f"keys = {loaded(k, [*beyond, *deep])}")
        exact = precision({self.query.dtype, self.key.dtype}, self.choices)
        put(f"product = tl.dot(queries, keys{exact})")
        self.memo[inner.product] = "product"
        scores = self.use(inner.scores)
        if beyond:
            scores = f"tl.where({beyond[0]}, {scores}, {LOWEST})"
        put(f"scores = {scores}")
        put("higher = tl.maximum(most, tl.max(scores, axis=1, keep_dims=True))")
        put(f"shift = tl.where(higher == {LOWEST}, 0.0, higher)  # nothing seen yet")
        put("weights = tl.exp(scores - shift)")
        put("kept = tl.exp(most - shift)")
        put("weight = weight * kept + tl.sum(weights, axis=1, keep_dims=True)")
        across = "tl.arange(0, COLUMNS)[None, :]"
        wide = [f"({across} < {self.columns})"]
        groups = (("down", inner.keys), (across, self.what.columns))
        v = self._operand(self.value, groups)
        put(f"values = {loaded(v, [*below, *(wide if self.columns != self.be else [])])}")
        cast = "" if self.value.dtype == "float32" else f".to(tl.{self.value.dtype})"
        exact = precision({self.value.dtype}, self.choices)
        put(f"total = tl.dot(weights{cast}, values, total * kept{exact})")
        put("most = higher")
        return memo, masks

    def _columns(self) -> None:
        """Positions for what is done to the result."""
        self.lines.append("column = tl.arange(0, COLUMNS)[None, :]")
        self.decode(list(self.what.columns), "column", 1, "n")
        if self.columns != self.be:
            self.lines.append(f"within = column < {self.columns}")
            self.masks["n"] = "within"

    def _operand(self, load: Load, groups: Sequence[tuple[str, Sequence[Axis]]]) -> str:
        parts = [self.buffers[load.buffer][0]]
        if load.index.offset:
            parts.append(str(load.index.offset))
        for axis, c in load.index.terms:
            if axis in self.what.batch and c:
                parts.append(f"{self.positions[axis]} * {c}")
        return " + ".join([*parts, *strided(load, groups)])

    def _range(self) -> tuple[str, str]:
        """The keys that no position masks away for every row of the block."""
        low, high = "0", str(self.n)
        for limit in limits(self.what) if self.choices.skip else ():
            text = _at(limit)
            if limit.upper:
                high = f"min({high}, {text})"
            else:
                low = f"max({low}, {text}) // BLOCK_N * BLOCK_N"
        return low, high


def _at(limit: Limit) -> str:
    """A limit on keys for all rows of a block: the loosest."""
    if not limit.rise:
        return str(limit.offset)
    position = "first + BLOCK_M - 1" if (limit.rise > 0) == limit.upper else "first"
    times = "" if abs(limit.rise) == 1 else f" * {abs(limit.rise)}"
    return f"{limit.offset} {'+' if limit.rise > 0 else '-'} ({position}){times}"


LOWEST = '-float("inf")'
