"""Pallas attention: a block of queries against one block of keys after another.

The grid goes over the batch, blocks of queries and, innermost, blocks of keys. The maximum and the
sum of a row's weights run along in VMEM, and what was added up is rescaled when the maximum grows:
Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
"FlashAttention", 2022.

Blocks of keys that positions mask away for all queries of a block are not multiplied, and their
keys not fetched. Their values are added times zero: a sum whose weights are zero is NaN where a
value is not finite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from epitaxy.proposers._frames import Array, loads_beside
from epitaxy.proposers._genomes import Choices
from epitaxy.proposers._nests import Known
from epitaxy.proposers.grower.algebra import Axis, Load, Value
from epitaxy.proposers.grower.attention import Attention, Limit, limits
from epitaxy.proposers.grower.contract import load_of, size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.pallas.calls import BUFFERS, Call, Limits, Result
from epitaxy.proposers.pallas.expressions import FLOATS, STORED, Expressions
from epitaxy.proposers.pallas.products import divisor, whole
from epitaxy.proposers.pallas.views import Side, View

LIVE = 3
"""Scores, weights and what becomes of them on the way: blocks of float32 beside those copied."""


class Attend:
    """How one attention is cut; `large` is the same at larger sizes."""

    def __init__(
        self, what: Attention, choices: Choices, its: Limits, large: Attend | None
    ) -> None:
        self.what, self.its = what, its
        self.m, self.n = size_of(what.rows), size_of(what.weighted.keys)
        if large is None:
            self.bm = whole(choices["rows"], self.m, its.sublanes)
            self.bn = whole(choices["columns"], self.n, its.lanes)
            self.ragged = self.n % self.bn != 0
        else:
            self.ragged = large.ragged
            self.bm = _cut(large.bm, large.m, self.m)
            self.bn = _cut(large.bn, large.n, self.n)
            if not self.ragged:
                self.bn = divisor(self.bn, self.n, 1)
        self.batch = {a: f"b{n}" for n, a in enumerate(what.batch)}
        self.grid = ", ".join([*self.batch.values(), "i", "j"])
        self.limits = limits(what, certain=True)
        self.rows = Side(what.rows, self.bm, "i")
        self.depth = Side(what.weighted.depth, size_of(what.weighted.depth), "0")
        self.columns = Side(what.columns, size_of(what.columns), "0")

    @property
    def blocks(self) -> list[int]:
        """Elements of the largest tile."""
        return [max(self.bm * self.bn, self.bn * self.depth.size, self.bn * self.columns.size)]

    @property
    def steps(self) -> tuple[int, ...]:
        """The grid."""
        return (*(a.size for a in self.what.batch), -(-self.m // self.bm), -(-self.n // self.bn))

    def keys(self, fetched: bool) -> Side:
        """The keys of a step; those `fetched` are the nearest that some query looks at."""
        at = "j"
        for limit in self.limits if fetched else ():
            at = f"jnp.{'minimum' if limit.upper else 'maximum'}({at}, {self._edge(limit)})"
        return Side(self.what.weighted.keys, self.bn, at)

    def _edge(self, limit: Limit) -> str:
        """The outermost block with a key that a limit leaves to some query of the block."""
        key, last = self.loosest(limit, -int(limit.upper)), self.steps[-1] - 1
        if not limit.rise:
            return str(min(max(0, int(key)) // self.bn, last))
        if not limit.upper:
            return f"jnp.minimum(lax.div({key}, {self.bn}), {last})"
        if limit.offset < 1 or limit.rise < 0:  # queries that look at no key
            key = f"jnp.maximum({key}, 0)"
        return f"lax.div({key}, {self.bn})"

    def loosest(self, limit: Limit, more: int = 0) -> str:
        """A limit on keys for all queries of a block, and `more`."""
        last = (limit.rise > 0) == limit.upper
        fixed = limit.offset + more + (limit.rise * (self.bm - 1) if last else 0)
        if not limit.rise:
            return str(fixed)
        return f"i * {limit.rise * self.bm} + {fixed}".replace("+ -", "- ")

    @property
    def seen(self) -> str:
        """True where some query of the block looks at some key of the block; "" where all may."""
        tests = []
        for limit in self.limits:
            if limit.upper:
                tests.append(f"j * {self.bn} < {self.loosest(limit)}")
            else:
                tests.append(f"j * {self.bn} + {self.bn - 1} >= {self.loosest(limit)}")
        return " & ".join(f"({t})" for t in tests) if len(tests) > 1 else "".join(tests)


def _cut(block: int, larger: int, size: int) -> int:
    """A block of `size` where another was one of `larger`."""
    return size if block == larger else max(1, min(size, block * size // larger))


@dataclass(frozen=True)
class Given:
    """A tensor that the kernel is given: its name there, the argument, its block."""

    ref: str
    argument: str
    view: View
    dtype: str


class _Inputs:
    """The tensors of one kernel, each view of one once."""

    def __init__(self, made: Attend, known: Known) -> None:
        self.made, self.known = made, known
        self.given: list[Given] = []

    def take(
        self, load: Load, sides: tuple[Side, Side], ref: str = "", turn: bool = False
    ) -> Given:
        """The block of what a load reads, under the name `ref` or its buffer's. Raises
        Unsupported."""
        name, dtype, numel = self.known[load.buffer]
        if load.indirect or load.guards:
            raise Unsupported("attention with a gather, or beyond a tensor")
        if dtype not in STORED:
            raise Unsupported(f"{dtype} on a TPU")
        view = View.of(load.index, numel, self.made.batch, sides, turn)
        same = [g for g in self.given if (g.argument, g.view) == (view.given(name), view)]
        if same and not ref:
            return same[0]
        plain, number = ref or name, 1
        while any(g.ref == (ref := plain if number == 1 else f"{plain}_as{number}")
                  for g in self.given):  # fmt: skip
            number += 1
        self.given.append(Given(ref, view.given(name), view, dtype))
        return self.given[-1]

    def arrays(self, value: Value, total: Value, sides: tuple[Side, Side]) -> dict[Load, Array]:
        """What `total` is combined with in `value`, by load. Raises Unsupported."""
        found: dict[Load, Array] = {}
        for one in loads_beside(value, total):
            made = self.take(one, sides)
            found[one] = Array(one.buffer, made.ref, made.dtype, (), (), ())
        return found


def write_attention(
    name: str, kernel: Kernel, known: Known, made: Attend
) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """The kernel's text, the statements that run it, and its helpers. Raises Unsupported."""
    what, inner, (target,) = made.what, made.what.weighted, kernel.targets
    if target.dtype not in STORED:
        raise Unsupported(f"{target.dtype} on a TPU")
    inputs = _Inputs(made, known)
    fetched = made.keys(True)
    query, key, value = (
        inputs.take(load_of(x), sides, ref, True)
        for x, sides, ref in (
            (inner.query, (made.rows, made.depth), "queries"),
            (inner.key, (fetched, made.depth), "keys"),
            (inner.value, (made.keys(False), made.columns), "values"),
        )
    )
    for one in (query, key, value):
        if one.dtype not in FLOATS:
            raise Unsupported(f"attention of {one.dtype} on a TPU")
    arrays = inputs.arrays(inner.scores, inner.product, (made.rows, fetched))
    scores = Expressions(arrays, {}, at=made.batch | _positions(made.rows, "row")
                     | _positions(fetched, "key"))  # fmt: skip
    scores.memo[inner.product] = "product"
    scores.count_uses([inner.scores])
    scored = scores.use(inner.scores)
    if made.ragged:
        scored = f"jnp.where(key < {made.n}, {scored}, -jnp.inf)"
    sides = (made.rows, made.columns)
    arrays = inputs.arrays(target.value, inner.total, sides)
    last = Expressions(arrays, {}, at=made.batch | _positions(made.rows, "row")
                       | _positions(made.columns, "column"))  # fmt: skip
    last.memo[inner.total] = "total"
    last.count_uses([target.value])
    result = last.use(target.value)
    if target.dtype != target.value.dtype:
        result = f"({result}).astype(jnp.{target.dtype})"
    _fit(made, inputs, target.dtype)
    view = View.of(target.index, target.numel, made.batch, sides)
    body = [
        *_begin(made),
        *_values(made, value),
        *_block(made, (query, key, value), [*scores.lines, f"scores = {scored}"]),
        *_end(made, [*last.lines, f"{target.buffer}_ref[...] = {result}"]),
    ]
    names = re.findall(r"\w+", "\n".join(body))
    numbers = [n for n in made.grid.split(", ") if n in names]
    ids = [f"{n} = pl.program_id({made.grid.split(', ').index(n)})" for n in numbers]
    times = f"{size_of(what.batch)} times " if what.batch else ""
    comment = f"# {target.buffer}: {times}{made.m} queries of {made.n} keys, {made.depth.size} deep"
    refs = [*(g.ref for g in inputs.given), target.buffer, "most", "weight", "total"]
    lines = [f"def {name}({', '.join(f'{r}_ref' for r in refs)}):",
             *(f"    {x}" if x else "" for x in (comment, *ids, *body)), ""]  # fmt: skip
    call = Call(
        name, made.steps, tuple((g.argument, g.view.spec(made.grid)) for g in inputs.given),
        (Result(target.buffer, view.spec(made.grid), view.shape, target.dtype),),
        made.its.vmem_bytes, _scratch(made),
    )  # fmt: skip
    helpers = frozenset(scores.helpers | last.helpers)
    return "\n".join(lines), (*call.lines(), *view.back(target.buffer)), helpers


def _scratch(made: Attend) -> tuple[tuple[int, ...], ...]:
    return (made.bm, 1), (made.bm, 1), (made.bm, made.columns.size)


def _fit(made: Attend, inputs: _Inputs, dtype: str) -> None:
    """Raises Unsupported where VMEM does not hold the blocks."""
    its = made.its
    held = sum(BUFFERS * its.bytes(g.view.block, g.dtype) for g in inputs.given)
    held += BUFFERS * its.bytes((made.bm, made.columns.size), dtype)
    held += sum(its.bytes(s, "float32") for s in _scratch(made))
    its.hold(held + LIVE * its.bytes((made.bm, made.bn), "float32"))


def _positions(side: Side, name: str) -> dict[Axis, str]:
    """Where each axis of a side is, by the position among all."""
    found, stride = {}, side.size
    for n, axis in enumerate(side.axes):
        stride //= axis.size
        text = name if stride == 1 else f"lax.div({name}, {stride})"
        found[axis] = f"lax.rem({text}, {axis.size})" if n else text
    return found


def _iota(made: Attend, name: str, wide: str, dimension: int) -> str:
    """Positions along one side of a block, as an array over all of it."""
    block, number = (made.bm, "i") if dimension == 0 else (made.bn, "j")
    if name == "column":
        return f"column = lax.broadcasted_iota(jnp.int32, {wide}, 1)"
    begin = f"{number} * {block} + "
    return f"{name} = {begin}lax.broadcasted_iota(jnp.int32, {wide}, {dimension})"


def _begin(made: Attend) -> list[str]:
    return [
        "",
        "@pl.when(j == 0)",
        "def _():",
        "    most_ref[...] = jnp.full(most_ref.shape, -jnp.inf, jnp.float32)",
        "    weight_ref[...] = jnp.zeros_like(weight_ref)",
        "    total_ref[...] = jnp.zeros_like(total_ref)",
        "",
    ]


def _values(made: Attend, value: Given) -> list[str]:
    """The block of values; beyond the last key there are none."""
    lines = ["values = values_ref[...]"]
    if made.ragged:
        dimension = int(value.view.turned)
        lines += [
            f"down = j * {made.bn} + lax.broadcasted_iota(jnp.int32, values.shape, {dimension})",
            f"values = jnp.where(down < {made.n}, values, 0.0)",
        ]
    return lines


def _block(made: Attend, operand: tuple[Given, Given, Given], scores: list[str]) -> list[str]:
    """One block of keys for one block of queries."""
    query, key, value = operand
    used = re.findall(r"\w+", "\n".join(scores))
    wide = f"({made.bm}, {made.bn})"
    deep = (0 if query.view.turned else 1), (0 if key.view.turned else 1)
    weights = "weights" if value.dtype == "float32" else f"weights.astype(jnp.{value.dtype})"
    along = 1 if value.view.turned else 0
    lines = [
        *(_iota(made, n, wide, d) for d, n in enumerate(("row", "key")) if n in used),
        *_dot("product =", ("queries_ref[...]", query), ("keys_ref[...]", key), deep),
        *scores,
        "most = most_ref[...]",
        "higher = jnp.maximum(most, jnp.max(scores, axis=1, keepdims=True))",
        "shift = jnp.where(higher == -jnp.inf, 0.0, higher)  # nothing seen yet",
        "weights = jnp.exp(scores - shift)",
        "kept = jnp.exp(most - shift)",
        "weight_ref[...] = weight_ref[...] * kept + jnp.sum(weights, axis=1, keepdims=True)",
        *_dot("added =", (weights, value), ("values", value), (1, along)),
        "total_ref[...] = total_ref[...] * kept + added",
        "most_ref[...] = higher",
    ]
    if not made.seen:
        return lines
    wider = "" if value.dtype == "float32" else ".astype(jnp.float32)"
    nothing = f"jnp.sum(0.0 * values{wider}, axis={along}, keepdims=True)"
    if along:
        nothing = f"{nothing}.T"
    return [
        f"seen = {made.seen}",
        "",
        "@pl.when(seen)",
        "def _():",
        *(f"    {x}" for x in lines),
        "",
        "@pl.when(jnp.logical_not(seen))",
        "def _():",
        "    # Weights of zero: what is not finite becomes NaN.",
        f"    total_ref[...] += {nothing}",
    ]


def _dot(
    head: str, left: tuple[str, Given], right: tuple[str, Given], dims: tuple[int, int]
) -> list[str]:
    """A product of two blocks, as exact as its operands."""
    sides = [left[0], right[0]]
    kinds = [left[1].dtype, right[1].dtype]
    if len(set(kinds)) > 1:
        sides = [x if k == "float32" else f"{x}.astype(jnp.float32)"
                 for x, k in zip(sides, kinds, strict=True)]  # fmt: skip
    return [
        f"{head} lax.dot_general(",
        f"    {sides[0]}, {sides[1]}, ((({dims[0]},), ({dims[1]},)), ((), ())),",
        *(["    precision=lax.Precision.HIGHEST,"] if "float32" in kinds else []),
        "    preferred_element_type=jnp.float32,",
        ")",
    ]


def _end(made: Attend, stored: list[str]) -> list[str]:
    """After the last keys: what the region does with the result."""
    used = re.findall(r"\w+", "\n".join(stored))
    wide = f"({made.bm}, {made.columns.size})"
    step = len(made.steps) - 1
    weight = ["weight = weight_ref[...]"]
    if made.what.weighted.safe:
        weight.append("weight = jnp.where(weight == 0.0, 1.0, weight)  # looks at no key")
    return [
        "",
        f"@pl.when(j == pl.num_programs({step}) - 1)",
        "def _():",
        *(f"    {x}" for x in weight),
        "    total = total_ref[...] / weight",
        *(f"    {_iota(made, n, wide, d)}" for d, n in enumerate(("row", "column")) if n in used),
        *(f"    {x}" for x in stored),
    ]
