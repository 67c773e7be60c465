"""Pallas kernels for products: tiles for the matrix unit, sums kept in VMEM, fused results.

The grid goes over rows, columns and, innermost, the contracted axis; a scratch tile of float32
gathers the sum, and the last step computes on it what the region does with the product. An operand
keeps its order in memory: a transposed one is contracted along its last dimension. Products of a
batch are a first dimension of the grid, one block each.
"""

from __future__ import annotations

import itertools

from epitaxy.proposers._frames import Array, ordered
from epitaxy.proposers._genomes import Choices
from epitaxy.proposers.grower.algebra import Axis, Load, Map, Value, operands
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.schedule import Kernel
from epitaxy.proposers.pallas.calls import Call, Result
from epitaxy.proposers.pallas.expressions import FLOATS, STORED, Expressions

Group = tuple[Axis, ...]


class Product:
    """How one product is cut; `large` is the same product at larger sizes."""

    def __init__(
        self, what: Contraction, choices: Choices, lanes: int, sublanes: int, large: Product | None
    ) -> None:
        if what.fetched or what.total.dtype != "float32":
            raise Unsupported("a product of this kind")
        self.what, self.batch = what, size_of(what.batch)
        self.sizes = tuple(size_of(g) for g in (what.rows, what.columns, what.inner))
        m, n, k = self.sizes
        if large is None:
            self.tile = (
                whole(choices["rows"], m, sublanes),
                whole(choices["columns"], n, lanes),
                divisor(choices["depth"], k, lanes),
            )
        else:
            pairs = zip(large.tile, large.sizes, self.sizes, strict=True)
            cut = [now if t == size else max(1, t * now // size) for t, size, now in pairs]
            self.tile = (cut[0], cut[1], divisor(cut[2], k, 1))

    @property
    def blocks(self) -> list[int]:
        """Elements of the largest tile."""
        m, n, k = self.tile
        return [max(m * n, m * k, n * k)]

    @property
    def steps(self) -> tuple[int, ...]:
        """The grid."""
        each = tuple(-(-s // t) for s, t in zip(self.sizes, self.tile, strict=True))
        return (self.batch, *each) if self.what.batch else each

    @property
    def read(self) -> str:
        """How a kernel takes the block that it is given."""
        return "[0]" if self.what.batch else "[...]"


def whole(wanted: int, size: int, unit: int) -> int:
    """A block of whole units, or all of it."""
    block = max(unit, wanted // unit * unit)
    return size if block >= size else block


def divisor(wanted: int, size: int, unit: int) -> int:
    """The largest whole number of units that divides `size`; all of it where there is none."""
    fitting = [b for b in range(unit, min(wanted, size) + 1, unit) if size % b == 0]
    return fitting[-1] if fitting else size


def operand(value: Value) -> Load:
    """The tensor that an operand is: as it lies there, or converted from a narrower type."""
    if isinstance(value, Map) and value.fn == "cast" and value.dtype == "float32":
        value = operands(value)[0]
    if not isinstance(value, Load) or value.guards or value.indirect or value.dtype not in FLOATS:
        raise Unsupported("a product of what is computed")
    return value


def sides(load: Load, batch: Group, first: Group, second: Group, numel: int) -> bool:
    """Whether an operand lies in memory as `second` by `first`, after `batch`. Raises
    Unsupported."""
    memory = ordered(load.index)
    lead, *kept = (_long(g) for g in (batch, first, second))
    stride, dense = 1, load.index.offset == 0 and size_of(memory) == numel
    for axis in reversed(memory):
        dense = dense and load.index.coefficient(axis) == stride
        stride *= axis.size
    if dense and memory == (*lead, *kept[0], *kept[1]):
        return False
    if dense and memory == (*lead, *kept[1], *kept[0]):
        return True
    raise Unsupported("a product of a part of a tensor, or of one in a third order")


def _long(group: Group) -> Group:
    return tuple(a for a in group if a.size > 1)


Lines = tuple[str, tuple[str, ...], frozenset[str]]


def write_product(
    name: str, kernel: Kernel, known: dict[int, tuple[str, str, int]], made: Product, vmem: int
) -> Lines:
    """The kernel's text, the call that runs it, and its helpers. Raises Unsupported."""
    what, (target,) = made.what, kernel.targets
    left, right = operand(what.left), operand(what.right)
    turned = (
        sides(left, what.batch, what.rows, what.inner, known[left.buffer][2]),
        sides(right, what.batch, what.inner, what.columns, known[right.buffer][2]),
    )
    arrays = _fused(target.value, what, known)
    if target.dtype not in STORED:
        raise Unsupported(f"{target.dtype} on a TPU")
    if _long(what.result) != ordered(target.index):
        raise Unsupported("a product stored in another order")
    writer = Expressions(arrays, {}, made.read)
    writer.memo[what.total] = "total"
    writer.count_uses([target.value])
    value = writer.use(target.value)
    if target.dtype != target.value.dtype:
        value = f"({value}).astype(jnp.{target.dtype})"
    both = (left, right)
    exact = any(x.dtype == "float32" for x in both)
    dims = (((0 if turned[0] else 1,), (1 if turned[1] else 0,)), ((), ()))
    extra = list(dict.fromkeys(a for a in arrays.values()))
    refs = ["left_ref", "right_ref", *(f"{a.name}_ref" for a in extra), f"{target.buffer}_ref"]
    read = [f"{s}_ref{made.read}" for s in ("left", "right")]
    step, (m, n, k) = len(made.steps) - 1, made.sizes
    times = f"{made.batch} times " if what.batch else ""
    if left.dtype != right.dtype:
        read = [x if y.dtype == "float32" else f"{x}.astype(jnp.float32)"
                for x, y in zip(read, both, strict=True)]  # fmt: skip
    lines = [
        f"def {name}({', '.join(refs)}, total_ref):",
        f"    # {target.buffer}: {times}{m} x {n}, contracting {k}",
        f"    @pl.when(pl.program_id({step}) == 0)",
        "    def _():",
        "        total_ref[...] = jnp.zeros_like(total_ref)",
        "",
        "    total_ref[...] += lax.dot_general(",
        f"        {read[0]}, {read[1]}, {dims},",
        *(["        precision=lax.Precision.HIGHEST,"] if exact else []),
        "        preferred_element_type=jnp.float32,",
        "    )",
        "",
        f"    @pl.when(pl.program_id({step}) == pl.num_programs({step}) - 1)",
        "    def _():",
        "        total = total_ref[...]",
        *(f"        {x}" for x in writer.lines),
        f"        {target.buffer}_ref{made.read} = {value}",
        "",
    ]
    given = [(known[x.buffer][0], t) for x, t in zip(both, turned, strict=True)]
    call = _call(name, made, (target.buffer, target.dtype), given, extra, vmem)
    return "\n".join(lines), call, frozenset(writer.helpers)


def _fused(
    value: Value, what: Contraction, known: dict[int, tuple[str, str, int]]
) -> dict[Load, Array]:
    """What the result is combined with: tensors over rows, columns, both or neither."""
    found: dict[Load, Array] = {}
    needed: dict[Value, None] = {}
    stack = [value]
    while stack:
        one = stack.pop()
        if one != what.total and one not in needed:
            needed[one] = None
            stack.extend(operands(one))
    for load in (v for v in needed if isinstance(v, Load)):
        name, dtype, numel = known[load.buffer]
        memory = ordered(load.index)
        parts = [_long(g) for g in (what.batch, what.rows, what.columns)]
        kinds = {
            tuple(a for p, h in zip(parts, has, strict=True) if h for a in p): has
            for has in itertools.product((0, 1), repeat=3)
        }
        plain = not load.guards and not load.indirect and size_of(memory) == numel
        if memory not in kinds or not plain or load.index.offset or dtype not in STORED:
            raise Unsupported("a product combined with a part of a tensor")
        shape = tuple(size_of(p) if h else 1 for p, h in zip(parts, kinds[memory], strict=True))
        found[load] = Array(load.buffer, name, dtype, memory, shape, ())
    return found


def _call(
    name: str, made: Product, result: tuple[str, str], given: list[tuple[str, bool]],
    extra: list[Array], vmem: int,
) -> tuple[str, ...]:  # fmt: skip
    m, n, k = made.sizes
    bm, bn, bk = made.tile
    b, grid = made.batch, "b, i, j, k" if made.what.batch else "i, j, k"

    def spec(shape: tuple[int, ...], at: tuple[str, ...], many: bool) -> str:
        if made.what.batch:
            shape, at = (1, *shape), ("b" if many else "0", *at)
        return f"pl.BlockSpec({shape}, lambda {grid}: ({', '.join(at)}))"

    def full(shape: tuple[int, ...], many: bool = True) -> tuple[int, ...]:
        return (b if many else 1, *shape) if made.what.batch else shape

    shapes = [((m, k), (bm, bk), ("i", "k")), ((k, n), (bk, bn), ("k", "j"))]
    specs, arguments = [], []
    for (text, turned), (size, block, at) in zip(given, shapes, strict=True):
        step = -1 if turned else 1
        specs.append(spec(block[::step], at[::step], True))
        arguments.append(f"{text}.reshape({full(size[::step])})")
    for array in extra:
        many, high, wide = (n > 1 for n in array.shape)
        block = (bm if high else 1, bn if wide else 1)
        specs.append(spec(block, ("i" if high else "0", "j" if wide else "0"), many))
        arguments.append(f"{array.name}.reshape({full(array.shape[1:], many)})")
    results = (Result(result[0], spec((bm, bn), ("i", "j"), True), full((m, n)), result[1]),)
    inputs = tuple(zip(arguments, specs, strict=True))
    return Call(name, made.steps, inputs, results, vmem, ((bm, bn),)).lines()
