"""From a region to loop nests: which values are computed together, which wait in a buffer.

A kernel iterates over `outer` axes (parallel) and `inner` axes (reduced or scanned). Reductions
and scans over the kernel's inner axes live inside it; every other one becomes a kernel of its
own that leaves its result in a temporary buffer. Element-wise work is recomputed, and stored only
where a transcendental function would be computed many times over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from epitaxy.proposers.grower.algebra import (
    TRANSCENDENTAL,
    Affine,
    Axis,
    Const,
    Guard,
    Load,
    Map,
    Reduce,
    Region,
    Scan,
    Store,
    Value,
    frontier,
    walk,
)
from epitaxy.proposers.grower.attention import Attention
from epitaxy.proposers.grower.chunks import divisor_near, family, online, staged
from epitaxy.proposers.grower.contract import Contraction, size_of
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce, rebuild, split_axis
from epitaxy.proposers.grower.schedule_attention import attended
from epitaxy.proposers.grower.schedule_contract import (
    SHARED,
    contracted,
    ordered,
    store_shared,
    without_scales,
)

Node = Reduce | Scan
NEUTRAL = {"sum": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf}
LARGE = 1 << 16
"""Points of loops in which a transcendental function may be worth a table."""
JOIN = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}


@dataclass(frozen=True)
class Target:
    """buffer[index] = value over `axes`; buffers are named "y0" (output) or "t0" (temporary)."""

    buffer: str
    dtype: str
    index: Affine
    axes: tuple[Axis, ...]
    value: Value

    @property
    def numel(self) -> int:
        """Elements written."""
        return math.prod(a.size for a in self.axes)


@dataclass(frozen=True)
class Kernel:
    """One loop nest: targets computed together over the same outer and inner axes."""

    targets: tuple[Target, ...]
    outer: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    contraction: Contraction | None = None
    """What the loops of gemm.h compute, when the kernel is one."""
    attention: Attention | None = None
    """What the loops of attention.h compute, when the kernel is one."""

    @property
    def whole(self) -> bool:
        """Whether the loops are a skeleton's, which computes one target."""
        return self.contraction is not None or self.attention is not None

    @property
    def values(self) -> list[Value]:
        """All that its targets are made of, operands before users."""
        return walk(tuple(t.value for t in self.targets))

    @property
    def numel(self) -> int:
        """Points of the iteration space."""
        return math.prod(a.size for a in (*self.outer, *self.inner))


@dataclass
class Plan:
    """The kernels of a region in order, and the temporaries between them (name -> elements)."""

    kernels: list[Kernel] = field(default_factory=list)
    temporaries: dict[str, tuple[str, int]] = field(default_factory=dict)
    first: int = 0
    """Kernels before this one only check the call; those from here on compute."""


def plan(region: Region, choices: Choices) -> Plan:
    """Schedule `region` under the genome's structural choices (split, fuse)."""
    region = without_scales(region)
    scheduler = _Scheduler(region, choices)
    for check in region.checks:
        scheduler.schedule(Target(f"y{check.buffer}", "bool", check.index, check.axes, check.value))
    scheduler.plan.first = len(scheduler.plan.kernels)
    store_shared(scheduler, region.stores, bool(choices.attend))
    for store in region.stores:
        dtype = region.outputs[store.buffer].dtype
        scheduler.schedule(Target(f"y{store.buffer}", dtype, store.index, store.axes, store.value))
    scheduler.merge()
    return scheduler.plan


class _Scheduler:
    def __init__(self, region: Region, choices: Choices) -> None:
        self.choices = choices
        self.plan = Plan()
        self.stored: dict[Value, Load] = {}
        self.thin: set[Value] = set()
        self.buffers = len(region.inputs)

    def schedule(self, target: Target, split: bool = True) -> None:
        """Append the kernels that compute `target`; `split` allows chunked reductions."""
        if self.choices.split and split:
            target = self._split_scans(target)
        value = self._contract(target)
        if value is None:
            return
        if self.choices.split and split:
            value = self._split(value)
        inner = self._inner(value, target)
        outer = tuple(a for a in target.axes if a not in inner)
        memo: dict[Value, Value] = {}

        def foreign(v: Value) -> Value | None:
            if isinstance(v, Map) and self._shared(v, (*outer, *inner)):
                return self.store(v)
            if not isinstance(v, Node):
                return None
            own = v.over if isinstance(v, Reduce) else v.along
            same = set(own) == set(inner) and (
                isinstance(v, Scan) or set(v.axes) >= set(outer) or v is value
            )
            return None if same else self.store(v)

        value = rebuild(value, foreign, memo)
        known = self._use_stored(value)
        if known != value:  # what was stored meanwhile need not be computed here again
            self.schedule(replace(target, value=known), split)
            return
        new = Target(target.buffer, target.dtype, target.index, target.axes, value)
        self.plan.kernels.append(Kernel((new,), outer, inner))

    def _shared(self, value: Map, loops: tuple[Axis, ...]) -> bool:
        """Whether a transcendental function would be computed again and again at the same points
        of large loops, so that a table of it is cheaper."""
        points, all_points = size_of(value.axes), size_of(loops)
        if value.fn not in TRANSCENDENTAL or value.dtype != "float32" or points == 1:
            return False
        if all_points < LARGE or points * SHARED > all_points:
            return False
        return not any(isinstance(v, Node) for v in walk((value,)))

    def _contract(self, target: Target) -> Value | None:
        """Schedule `target` when it is a contraction; else the value to schedule otherwise."""
        value = self._use_stored(target.value)
        if self.choices.attend and self._attend(target, value):
            return None
        made = contracted(self, value, target.index, target.axes, self.choices.width)
        if not isinstance(made, tuple):
            return made
        store, what = made
        new = Target(target.buffer, target.dtype, store.index, store.axes, store.value)
        self.plan.kernels.append(Kernel((new,), what.result, what.inner, what))
        return None

    def _attend(self, target: Target, value: Value) -> bool:
        """Schedule `value` for `target` when it is attention; whether it is."""
        made = attended(self, value, target.index, target.axes, self.choices.width)
        if made is None:
            return False
        store, what = made
        new = Target(target.buffer, target.dtype, store.index, store.axes, store.value)
        self.plan.kernels.append(Kernel((new,), what.result, what.weighted.keys, attention=what))
        return True

    def _use_stored(self, value: Value) -> Value:
        return rebuild(value, lambda v: self.stored.get(v), {})

    def _inner(self, value: Value, target: Target) -> tuple[Axis, ...]:
        """The inner axes: those of the largest reduction or scan nearest to the root. One that
        another sums up over other axes waits in a buffer anyway: windows below a norm."""
        best: tuple[Axis, ...] = ()
        size = 0
        found = []
        for node in frontier(value):
            axes = node.over if isinstance(node, Reduce) else node.along
            held = [a in target.axes for a in axes]
            # What lacks an outer axis is computed once, in a kernel of its own.
            varies = set(node.axes) >= set(target.axes) - set(axes)
            if varies and (all(held) or not any(held)):
                found.append((node, axes))
        below = {v for node, axes in found for v in walk((node.arg,)) if _across(v, axes)}
        for node, axes in found:
            work = math.prod(a.size for a in node.arg.axes | set(axes))
            if work > size and node not in below:
                best, size = axes, work
        return best

    def store(self, value: Value, split: bool = True, axes: tuple[Axis, ...] | None = None) -> Load:
        """Compute `value` into a temporary by a kernel of its own; the load that reads it.

        `axes` lists its axes outermost first.
        """
        if value in self.stored:
            return self.stored[value]
        axes = ordered(value) if axes is None else axes
        strides = [math.prod(a.size for a in axes[i + 1 :]) for i in range(len(axes))]
        index = Affine(0, tuple(zip(axes, strides, strict=True)))
        number = len(self.plan.temporaries)
        name = f"t{number}"
        self.plan.temporaries[name] = (value.dtype, math.prod(a.size for a in axes))
        self.schedule(Target(name, value.dtype, index, axes, value), split)
        load = self.stored[value] = Load(self.buffers + number, index, value.dtype)
        return load

    def _split(self, value: Value) -> Value:
        """Give each large reduction with few rows a parallel first stage over chunks."""

        def store(v: Value) -> Load:
            return self.store(v, split=False)

        while (found := family(value, self.choices.split)) is not None:
            totals = online(*found, store) if self.choices.online else None
            value = rebuild(value, (totals or staged(*found, store)).get, {})
        return value

    def _split_scans(self, target: Target) -> Target:
        """Give a long scan a parallel form: totals of pieces, their scan, then each piece."""
        nodes = [v for v in walk((target.value,)) if isinstance(v, Node)]
        along = {v.along for v in nodes if isinstance(v, Scan)}
        if len(along) != 1 or len(next(iter(along))) != 1 or len(nodes) != 1:
            return target
        (axis,) = next(iter(along))
        count = divisor_near(axis.size, self.choices.split)
        if count < 2 or axis.size // count < 16 or axis not in target.axes:
            return target
        outer, inner = Axis(f"{axis.name}o", count), Axis(f"{axis.name}i", axis.size // count)

        def pieces(v: Value) -> Value | None:
            if not isinstance(v, Scan):
                return None
            part = split_axis(v.arg, axis, outer, inner)
            totals = self.store(Reduce(v.kind, (inner,), part, v.dtype), split=False)
            running = self.store(Scan(v.kind, (outer,), totals, v.dtype, v.reverse), split=False)
            step = 1 if v.reverse else -1
            moved = Affine(step * running.index.coefficient(outer), running.index.terms)
            guard = Guard(Affine(step, ((outer, 1),)), count)
            before = Load(
                running.buffer, moved, running.dtype, guards=(guard,), fill=NEUTRAL[v.kind]
            )
            own = Scan(v.kind, (inner,), part, v.dtype, v.reverse)
            return Map(JOIN[v.kind], (before, own), v.dtype)

        value = split_axis(rebuild(target.value, pieces, {}), axis, outer, inner)
        c = target.index.coefficient(axis)
        kept = tuple((a, k) for a, k in target.index.terms if a != axis)
        index = Affine(target.index.offset, (*kept, (outer, c * inner.size), (inner, c)))
        axes = tuple(x for a in target.axes for x in ((outer, inner) if a == axis else (a,)))
        return Target(target.buffer, target.dtype, index, axes, value)

    def merge(self) -> None:
        """Join neighbouring kernels over the same axes when the later does not read the earlier,
        or reads just what it computes at the same point."""
        merged: list[Kernel] = []
        checks, kernels = self.plan.kernels[: self.plan.first], self.plan.kernels[self.plan.first :]
        for kernel in kernels:
            last = merged[-1] if merged else None
            apart = kernel.whole or (last and last.whole)
            if last and not apart and (last.outer, last.inner) == (kernel.outer, kernel.inner):
                joined = self._beside(last, kernel)
                if joined is not None:
                    merged[-1] = joined
                    continue
            merged.append(kernel)
        self.plan.kernels = [*checks, *map(longer, merged)]

    def _beside(self, last: Kernel, kernel: Kernel) -> Kernel | None:
        """Both kernels in one; None when the later needs what other points of the earlier give."""
        made = {t.buffer: t for t in last.targets}

        def known(v: Value) -> Value | None:
            if not isinstance(v, Load) or v.buffer < self.buffers:
                return None
            target = made.get(f"t{v.buffer - self.buffers}")
            plain = target and v.index == target.index and not (v.guards or v.indirect)
            return target.value if target and plain else None

        memo: dict[Value, Value] = {}
        targets = tuple(replace(t, value=rebuild(t.value, known, memo)) for t in kernel.targets)
        later = Kernel(targets, kernel.outer, kernel.inner)
        if made.keys() & self._read(later):
            return None
        return Kernel(last.targets + targets, last.outer, last.inner)

    def _read(self, kernel: Kernel) -> set[str]:
        loads = (v for v in kernel.values if isinstance(v, Load))
        return {f"t{v.buffer - self.buffers}" for v in loads if v.buffer >= self.buffers}


def longer(kernel: Kernel) -> Kernel:
    """The same loops with neighbouring axes merged that this kernel, unlike others of its region,
    treats as one."""
    if kernel.whole:
        return kernel
    nothing = Const(0.0, "float32")
    stores = [Store(-1, Affine(0), axes, nothing) for axes in (kernel.outer, kernel.inner)]
    stores += [Store(0, t.index, t.axes, t.value) for t in kernel.targets]
    outer, inner, *made = coalesce(Region("kernel", (), (), tuple(stores))).stores
    targets = tuple(
        replace(t, index=s.index, axes=s.axes, value=s.value)
        for t, s in zip(kernel.targets, made, strict=True)
    )
    return Kernel(targets, outer.axes, inner.axes)


def _across(value: Value, axes: tuple[Axis, ...]) -> bool:
    """Whether a reduction or scan runs along other axes than `axes`."""
    if not isinstance(value, Node):
        return False
    return set(value.over if isinstance(value, Reduce) else value.along) != set(axes)
