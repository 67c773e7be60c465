"""What is computed as a whole: loops over time steps, experts, rows added by index, top-k."""

from __future__ import annotations

from dataclasses import dataclass

from epitaxy.proposers.grower.algebra import Axis, Load, Store, Value


@dataclass(frozen=True)
class State:
    """What a step of a loop hands to the next: a tensor over `axes`, outermost first."""

    axes: tuple[Axis, ...]
    first: Value
    next: Value


@dataclass(frozen=True)
class Loop:
    """Steps along `time`, one after the other. State k is read by loads of buffer -1 - k, of which
    `time` is an axis, with what it was before the step; `each` is stored in every step, `last`
    after the last one, when such loads give the final state."""

    time: Axis
    states: tuple[State, ...]
    each: tuple[Store, ...]
    last: tuple[Store, ...]

    @property
    def roots(self) -> tuple[Value, ...]:
        """All values that the loop needs."""
        held = [v for s in self.states for v in (s.first, s.next)]
        return (*held, *(s.value for s in (*self.each, *self.last)))


@dataclass(frozen=True)
class Product:
    """Rows times a matrix of each expert: sum over `depth` of operand `operand` times `weight`."""

    operand: int
    weight: Load
    depth: Axis
    width: Axis


@dataclass(frozen=True)
class Routed:
    """Sums over experts of what each makes of the rows that are routed to it.

    A row is a place along `rows`; it goes to an expert where `route` is true, or where `strange`
    operand 0 holds NaN or an infinity there. Product k is read by loads of buffer -1 - k along its
    `width`. `operands` are what products multiply, each along an axis; the last one is what is
    added, for each row and expert in order, to `first` at the row's place along `place`.
    """

    expert: Axis
    rows: tuple[Axis, ...]
    route: Value
    strange: bool
    products: tuple[Product, ...]
    operands: tuple[tuple[Value, Axis], ...]
    place: tuple[Axis, ...]
    first: Value
    store: Store
    families: tuple[int, ...]
    """Inputs from which on each expert has one of its own: input `families[k]` + expert."""
    active: int | None
    """Experts that a row goes to, where the module computes all of them."""

    @property
    def roots(self) -> tuple[Value, ...]:
        """All values that the region needs."""
        weights = tuple(p.weight for p in self.products)
        return (self.route, self.first, *weights, *(v for v, _ in self.operands))


@dataclass(frozen=True)
class Picks:
    """The `k` largest (or smallest) of each of `rows` rows of `size`, and where they are."""

    rows: int
    size: int
    k: int
    largest: bool
    in_order: bool


@dataclass(frozen=True)
class Sums:
    """Rows added where data says, in order: `value` of each place along `row` is added to `first`
    at `to` along `place`; or, where `to` is None, the rows of place p are those from
    `starts[p]` to the next (the last one's end is the last row), `starts` being a value along
    `place`. `mean`: divided by their number, where there are any. No call is taken in which one of
    `outside`, truths along `row`, holds."""

    row: Axis
    place: Axis
    column: Axis
    value: Value
    first: Value
    to: Value | None
    starts: Value | None
    mean: bool
    store: Store
    outside: tuple[Value, ...]

    @property
    def roots(self) -> tuple[Value, ...]:
        """All values that the region needs."""
        given = tuple(v for v in (self.to, self.starts) if v is not None)
        return (self.value, self.first, *given, *self.outside)
