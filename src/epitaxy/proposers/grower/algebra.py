"""The grower's tensor algebra: values as functions of named axes.

A region computes its outputs from contiguous buffers. Every value is a function of a set of
atomic axes; broadcasting is the absence of an axis, so reshapes, permutations and expansions
leave no trace but the strides of loads and stores. Values are immutable and compare by content:
equal sub-expressions are one value.

    Load    buffer[offset + sum stride*axis + sum stride*value]     guarded: fill outside
    Const   a number                      Index   the position along an axis
    Map     element-wise function         Reduce  over a set of axes        Scan  along one axis
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Union

from epitaxy.problem import TensorSpec

if TYPE_CHECKING:
    from epitaxy.proposers.grower.algebra_whole import Loop, Picks, Routed, Sums

# Element-wise functions and their number of arguments; the meaning is PyTorch's on the same name.
MAPS: dict[str, int] = {
    # arithmetic
    "add": 2, "sub": 2, "mul": 2, "div": 2, "neg": 1, "abs": 1, "maximum": 2, "minimum": 2,
    "fma": 3, "reciprocal": 1, "sqrt": 1, "rsqrt": 1, "pow": 2, "remainder": 2, "fmod": 2,
    "floordiv": 2, "sign": 1, "floor": 1, "ceil": 1, "round": 1, "trunc": 1,
    # transcendental
    "exp": 1, "exp2": 1, "expm1": 1, "log": 1, "log2": 1, "log10": 1, "log1p": 1, "sin": 1,
    "cos": 1, "tan": 1, "tanh": 1, "sigmoid": 1, "erf": 1, "atan": 1, "sinh": 1, "cosh": 1,
    # logic; results are bool
    "eq": 2, "ne": 2, "lt": 2, "le": 2, "gt": 2, "ge": 2, "and": 2, "or": 2, "not": 1,
    "isnan": 1, "isinf": 1,
    # selection and conversion
    "where": 3, "cast": 1,
    # what idioms.py makes for the C++ writer: expm1 of what is not positive, log(1 + exp(x)), and
    # xlogy(t, t) - t log(x); and what that writer makes itself: whether an integer is odd
    "expm1_low": 1, "softplus": 1, "kl_term": 2, "odd": 1,
}  # fmt: skip
TRANSCENDENTAL = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh"}
    | {"sigmoid", "erf", "atan", "sinh", "cosh", "pow", "expm1_low", "softplus", "kl_term"}
)
REDUCES = ("sum", "prod", "max", "min", "argmax", "argmin", "any", "all")
SCANS = ("sum", "prod", "max", "min")


@dataclass(frozen=True)
class Axis:
    """One atomic loop dimension."""

    name: str
    size: int


@dataclass(frozen=True)
class Affine:
    """offset + sum of coefficient * axis, in elements."""

    offset: int
    terms: tuple[tuple[Axis, int], ...] = ()

    def coefficient(self, axis: Axis) -> int:
        """The coefficient of `axis`; 0 when it does not appear."""
        return next((c for a, c in self.terms if a == axis), 0)


@dataclass(frozen=True)
class Guard:
    """True where 0 <= index < size."""

    index: Affine
    size: int


class _Axes:
    """Hash once: expressions are deep and compared often."""

    axes: frozenset[Axis]
    dtype: str

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined,no-any-return]


@dataclass(frozen=True, eq=True)
class Load(_Axes):
    """One element of input `buffer`, converted to nothing: `dtype` is the buffer's.

    `indirect` adds stride * value for integer values (gathers; negative values are not wrapped).
    Where any guard is false nothing is read and the value is `fill`.
    """

    buffer: int
    index: Affine
    dtype: str
    indirect: tuple[tuple[Value, int], ...] = ()
    guards: tuple[Guard, ...] = ()
    fill: float = 0.0

    @cached_property
    def axes(self) -> frozenset[Axis]:  # type: ignore[override]
        own = {a for a, _ in self.index.terms}
        own |= {a for g in self.guards for a, _ in g.index.terms}
        return frozenset(own).union(*(v.axes for v, _ in self.indirect))

    @cached_property
    def _hash(self) -> int:
        return hash(
            ("load", self.buffer, self.index, self.dtype, self.indirect, self.guards, self.fill)
        )

    __hash__ = _Axes.__hash__


@dataclass(frozen=True, eq=True)
class Const(_Axes):
    """A number: float, int or bool by dtype."""

    value: float
    dtype: str
    axes: frozenset[Axis] = field(default=frozenset(), init=False)

    @cached_property
    def _hash(self) -> int:
        return hash(("const", self.value, self.dtype))

    __hash__ = _Axes.__hash__


@dataclass(frozen=True, eq=True)
class Index(_Axes):
    """offset + sum of coefficient * axis, as an integer value (int64 in PyTorch's terms)."""

    index: Affine
    dtype: str = "int64"

    @cached_property
    def axes(self) -> frozenset[Axis]:  # type: ignore[override]
        return frozenset(a for a, _ in self.index.terms)

    @cached_property
    def _hash(self) -> int:
        return hash(("index", self.index, self.dtype))

    __hash__ = _Axes.__hash__


@dataclass(frozen=True, eq=True)
class Map(_Axes):
    """An element-wise function from MAPS; its axes are the union of its arguments' axes.

    Arguments of arithmetic and comparison have one common dtype (`cast` inserted where PyTorch
    promotes); `dtype` is the result's.
    """

    fn: str
    args: tuple[Value, ...]
    dtype: str

    @cached_property
    def axes(self) -> frozenset[Axis]:  # type: ignore[override]
        return frozenset().union(*(a.axes for a in self.args))

    @cached_property
    def _hash(self) -> int:
        return hash(("map", self.fn, self.args, self.dtype))

    __hash__ = _Axes.__hash__


@dataclass(frozen=True, eq=True)
class Reduce(_Axes):
    """`kind` from REDUCES over `over`, listed outermost first; argmax and argmin have int64
    results: the flat position over `over` in that order, first on ties; NaN wins max/min."""

    kind: str
    over: tuple[Axis, ...]
    arg: Value
    dtype: str

    @cached_property
    def axes(self) -> frozenset[Axis]:  # type: ignore[override]
        return self.arg.axes - frozenset(self.over)

    @cached_property
    def _hash(self) -> int:
        return hash(("reduce", self.kind, self.over, self.arg, self.dtype))

    __hash__ = _Axes.__hash__


@dataclass(frozen=True, eq=True)
class Scan(_Axes):
    """Inclusive running `kind` from SCANS along `along` (outermost first when an axis was split);
    `reverse` runs from the end."""

    kind: str
    along: tuple[Axis, ...]
    arg: Value
    dtype: str
    reverse: bool = False

    @cached_property
    def axes(self) -> frozenset[Axis]:  # type: ignore[override]
        return self.arg.axes | frozenset(self.along)

    @cached_property
    def _hash(self) -> int:
        return hash(("scan", self.kind, self.along, self.arg, self.dtype, self.reverse))

    __hash__ = _Axes.__hash__


Value = Union[Load, Const, Index, Map, Reduce, Scan]  # noqa: UP007


@dataclass(frozen=True)
class Store:
    """Output `buffer`[index] = value, over `axes` listed outermost first (every output element
    exactly once). The value may lack some of the axes: it is broadcast."""

    buffer: int
    index: Affine
    axes: tuple[Axis, ...]
    value: Value


@dataclass(frozen=True)
class Recurrence:
    """A recurrent layer of PyTorch: `kind` is lstm, gru, tanh or relu; `ways` 2 when it is read in
    both directions. Inputs: x, states, then the weights of each layer and way."""

    kind: str
    layers: int
    ways: int
    bias: bool
    batch_first: bool
    batch: int
    steps: int
    width: int
    units: int


@dataclass(frozen=True)
class Region:
    """A piece of a module as algebra: contiguous inputs, contiguous outputs, what each holds."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stores: tuple[Store, ...]
    source: tuple[str, ...] = ()
    """The framework operators it replaces, in order, for people to read."""
    checks: tuple[Store, ...] = ()
    """Single truths, numbered after the outputs, that must all be false before anything else is
    computed: an index that a tensor lacks, say. Otherwise the region refuses the call."""
    recurrence: Recurrence | None = None
    """What is computed instead of stores, where steps feed each other."""
    loop: Loop | None = None
    """What is computed instead of stores, where a module runs a loop of its own."""
    routed: Routed | None = None
    """What is computed instead of stores, where rows go to experts."""
    picks: Picks | None = None
    """What is computed instead of stores, where values are picked by their size."""
    sums: Sums | None = None
    """What is computed instead of stores, where rows are added where data says."""
    weights: tuple[int, ...] = ()
    """Inputs that are parameters or buffers: copies of them may be kept until they change."""
    uncounted: float = 0.0
    """Flops of its products that are not the reference's: causal attention's ahead of a row."""
    algebra: tuple[str, ...] = ()
    """The rules by which this form is equal to the one that was captured."""

    @property
    def whole(self) -> bool:
        """Whether something else than stores is computed: a loop, experts, a recurrent layer."""
        kinds = (self.recurrence, self.loop, self.routed, self.picks, self.sums)
        return any(k is not None for k in kinds)

    @property
    def refuses(self) -> bool:
        """Whether some calls are refused at run time: bad indices, integers beyond 30 bits."""
        return bool(self.checks) or any(s.dtype == "int64" for s in self.inputs)

    @property
    def roots(self) -> tuple[Value, ...]:
        """All values that the region needs: its outputs' and its checks'."""
        return tuple(s.value for s in (*self.stores, *self.checks))


def operands(value: Value) -> tuple[Value, ...]:
    """The values that `value` is computed from."""
    if isinstance(value, Map):
        return value.args
    if isinstance(value, Reduce | Scan):
        return (value.arg,)
    if isinstance(value, Load):
        return tuple(v for v, _ in value.indirect)
    return ()


def walk(roots: tuple[Value, ...]) -> list[Value]:
    """Every value reachable from `roots`, operands before users, each once."""
    order: dict[Value, None] = {}
    stack: list[tuple[Value, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        value, done = stack.pop()
        if value in order:
            continue
        if done:
            order[value] = None
        else:
            stack.append((value, True))
            stack.extend((v, False) for v in reversed(operands(value)))
    return list(order)


def frontier(value: Value) -> list[Reduce | Scan]:
    """The reductions and scans that are reached from `value` through none other."""
    found: dict[Reduce | Scan, None] = {}
    seen: set[Value] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        if isinstance(v, Reduce | Scan):
            found[v] = None
        else:
            stack.extend(operands(v))
    return list(found)
