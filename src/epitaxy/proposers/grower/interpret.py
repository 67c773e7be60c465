"""What the algebra means: a plain evaluator over whole tensors, for tests and for folding.

A value is a tensor with one dimension for each of its axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Load,
    Map,
    Reduce,
    Region,
    Store,
    Value,
    walk,
)
from epitaxy.proposers.grower.algebra_whole import Loop
from epitaxy.proposers.grower.interpret_routed import routed, summed
from epitaxy.proposers.grower.program import FrameworkCall, Program, Ref, RegionCall
from epitaxy.proposers.grower.rewrite import AtStep

Named = tuple[torch.Tensor, tuple[Axis, ...]]

_RENAMED = {
    "pow": torch.pow, "and": torch.logical_and, "or": torch.logical_or, "not": torch.logical_not,
    "floordiv": torch.floor_divide, "erf": torch.special.erf, "expm1": torch.special.expm1,
}  # fmt: skip


def _dtype(name: str, wide: bool = False) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return torch.float64 if wide and dtype.is_floating_point else dtype


def number(value: Const) -> torch.Tensor:
    """The constant as a 0-dimensional tensor of its dtype."""
    return torch.tensor(value.value, dtype=_dtype(value.dtype))


def apply(value: Map, args: Sequence[torch.Tensor], wide: bool = False) -> torch.Tensor:
    """The element-wise function of `value` on tensors that broadcast."""
    if value.fn == "cast":
        return args[0].to(_dtype(value.dtype, wide))
    if value.fn == "fma":
        return args[0] * args[1] + args[2]
    if value.fn == "div" and not args[0].is_floating_point():
        return torch.div(args[0], args[1], rounding_mode="trunc")
    function = _RENAMED.get(value.fn) or getattr(torch, value.fn)
    return function(*args)  # type: ignore[no-any-return]


def evaluate(
    region: Region, inputs: Sequence[torch.Tensor], wide: bool = False
) -> list[torch.Tensor]:
    """The region's outputs. `wide` computes every float in float64 and returns float64.

    Raises ValueError when an input has not the declared shape or dtype, or when the stores miss
    or repeat an output element.
    """
    flat = []
    for tensor, spec in zip(inputs, region.inputs, strict=True):
        if tuple(tensor.shape) != spec.shape or tensor.dtype != _dtype(spec.dtype):
            raise ValueError(
                f"{region.name}: wanted {spec}, got {tensor.dtype}{tuple(tensor.shape)}"
            )
        flat.append(tensor.contiguous().reshape(-1))
    if region.recurrence is not None:
        return _recurrence(region, inputs, wide)
    if region.loop is not None:
        return _loop(region, region.loop, flat, wide)
    if region.picks is not None:
        pick = region.picks
        values, places = torch.topk(inputs[0], pick.k, largest=pick.largest, sorted=pick.in_order)
        return [values.double() if wide else values, places]
    if region.routed is not None or region.sums is not None:

        def whole(value: Value, axes: Sequence[Axis], more: list[torch.Tensor]) -> torch.Tensor:
            done: dict[Value, Named] = {}
            for v in walk((value,)):
                done[v] = _evaluate(v, done, [*flat, *more], wide)
            return _aligned(done[value], axes).expand([a.size for a in axes])

        if region.routed is not None:
            return [routed(region.routed, whole).reshape(region.outputs[0].shape)]
        assert region.sums is not None
        return [summed(region.sums, whole)]
    outputs = [torch.zeros(s.numel, dtype=_dtype(s.dtype, wide)) for s in region.outputs]
    written = [torch.zeros(s.numel, dtype=torch.int64) for s in region.outputs]
    done: dict[Value, Named] = {}
    for value in walk(tuple(s.value for s in region.stores)):
        done[value] = _evaluate(value, done, flat, wide)
    for store in region.stores:
        if store.value.dtype != region.outputs[store.buffer].dtype:
            raise ValueError(f"{region.name}: a {store.value.dtype} stored in {region.outputs}")
        place = _position(store.index, store.axes).reshape(-1)
        tensor = _aligned(done[store.value], store.axes)
        outputs[store.buffer][place] = tensor.expand([a.size for a in store.axes]).reshape(-1)
        written[store.buffer].index_add_(0, place, torch.ones_like(place))
    if any(bool((w != 1).any()) for w in written):
        raise ValueError(f"{region.name}: not every output element is stored exactly once")
    return [o.reshape(s.shape) for o, s in zip(outputs, region.outputs, strict=True)]


def _aligned(named: Named, axes: Sequence[Axis]) -> torch.Tensor:
    tensor, own = named
    order = [own.index(a) for a in axes if a in own]
    tensor = tensor.permute(order)
    return tensor.reshape([a.size if a in own else 1 for a in axes])


def _position(index: Affine, axes: Sequence[Axis]) -> torch.Tensor:
    place = torch.full([1] * len(axes), index.offset, dtype=torch.int64)
    for k, axis in enumerate(axes):
        step = torch.arange(axis.size) * index.coefficient(axis)
        place = place + step.reshape([-1 if k == j else 1 for j in range(len(axes))])
    return place.expand([a.size for a in axes])


def _recurrence(region: Region, inputs: Sequence[torch.Tensor], wide: bool) -> list[torch.Tensor]:
    """A recurrent layer by PyTorch's own operator."""
    what = region.recurrence
    assert what is not None
    x, *rest = [t.double() if wide else t for t in inputs]
    states = rest[:2] if what.kind == "lstm" else rest[0]
    weights = rest[2 if what.kind == "lstm" else 1 :]
    name = what.kind if what.kind in ("lstm", "gru") else f"rnn_{what.kind}"
    form = (what.bias, what.layers, 0.0, False, what.ways == 2, what.batch_first)
    return list(getattr(torch, name)(x, states, weights, *form))


def _loop(region: Region, loop: Loop, flat: list[torch.Tensor], wide: bool) -> list[torch.Tensor]:
    """A loop step by step: states are further buffers, counted from the end."""
    outputs = [torch.zeros(s.numel, dtype=_dtype(s.dtype, wide)) for s in region.outputs]

    def held(roots: Sequence[Value], states: list[torch.Tensor]) -> dict[Value, Named]:
        done: dict[Value, Named] = {}
        for value in walk(tuple(roots)):
            done[value] = _evaluate(value, done, [*flat, *reversed(states)], wide)
        return done

    def laid(named: Named, axes: Sequence[Axis]) -> torch.Tensor:
        return _aligned(named, axes).expand([a.size for a in axes]).reshape(-1)

    def write(stores: Sequence[Store], done: dict[Value, Named], turn: Any) -> None:
        for store in stores:
            axes = tuple(a for a in store.axes if a != loop.time)
            place = _position(turn.affine(store.index), axes).reshape(-1)
            outputs[store.buffer][place] = laid(done[turn(store.value)], axes)

    done = held([s.first for s in loop.states], [])
    states = [laid(done[s.first], s.axes) for s in loop.states]
    for step in range(loop.time.size):
        turn = AtStep(loop.time, step)
        done = held([turn(v) for v in loop.roots], states)
        write(loop.each, done, turn)
        states = [laid(done[turn(s.next)], s.axes).clone() for s in loop.states]
    turn = AtStep(loop.time, 0)
    write(loop.last, held([turn(s.value) for s in loop.last], states), turn)
    return [o.reshape(s.shape) for o, s in zip(outputs, region.outputs, strict=True)]


def _evaluate(
    value: Value, done: Mapping[Value, Named], flat: Sequence[torch.Tensor], wide: bool
) -> Named:
    axes = tuple(sorted(value.axes, key=lambda a: a.name))
    if isinstance(value, Const):
        return torch.tensor(value.value, dtype=_dtype(value.dtype, wide)), ()
    if isinstance(value, Index):
        return _position(value.index, axes).to(_dtype(value.dtype)), axes
    if isinstance(value, Load):
        return _load(value, axes, done, flat[value.buffer], wide), axes
    if isinstance(value, Map):
        tensor = apply(value, [_aligned(done[a], axes) for a in value.args], wide)
        return tensor.to(_dtype(value.dtype, wide)), axes
    tensor = done[value.arg][0]
    if isinstance(value, Reduce):
        whole = _aligned(done[value.arg], (*axes, *value.over))
        sizes = [a.size for a in (*axes, *value.over)]
        rows = whole.expand(sizes).reshape(*sizes[: len(axes)], -1)
        return _REDUCE[value.kind](rows).to(_dtype(value.dtype, wide)), axes
    rest = tuple(a for a in axes if a not in value.along)
    order = (*rest, *value.along)
    sizes = [a.size for a in order]
    rows = _aligned(done[value.arg], order).expand(sizes).reshape(*sizes[: len(rest)], -1)
    tensor = rows.flip(-1) if value.reverse else rows
    tensor = _SCAN[value.kind](tensor)
    tensor = tensor.flip(-1) if value.reverse else tensor
    return tensor.reshape(sizes).to(_dtype(value.dtype, wide)), order


def _load(
    value: Load, axes: Sequence[Axis], done: Mapping[Value, Named], flat: torch.Tensor, wide: bool
) -> torch.Tensor:
    place = _position(value.index, axes)
    for part, stride in value.indirect:
        place = place + _aligned(done[part], axes) * stride
    allowed = torch.ones_like(place, dtype=torch.bool)
    for guard in value.guards:
        at = _position(guard.index, axes)
        allowed = allowed & (at >= 0) & (at < guard.size)
    tensor = flat[torch.where(allowed, place, 0)].to(_dtype(value.dtype, wide))
    return torch.where(allowed, tensor, torch.tensor(value.fill, dtype=tensor.dtype))


_REDUCE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda t: t.sum(-1, dtype=t.dtype),
    "prod": lambda t: t.prod(-1, dtype=t.dtype),
    "max": lambda t: t.amax(-1),
    "min": lambda t: t.amin(-1),
    "argmax": lambda t: t.argmax(-1),
    "argmin": lambda t: t.argmin(-1),
    "any": lambda t: t.bool().any(-1),
    "all": lambda t: t.bool().all(-1),
}
_SCAN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda t: t.cumsum(-1, dtype=t.dtype),
    "prod": lambda t: t.cumprod(-1, dtype=t.dtype),
    "max": lambda t: t.cummax(-1).values,
    "min": lambda t: t.cummin(-1).values,
}


def run_program(
    program: Program, state: Mapping[str, torch.Tensor], inputs: Sequence[Any], wide: bool = False
) -> list[torch.Tensor]:
    """Run `program`: framework calls by torch, regions by `evaluate`.

    `state` maps the keys of `program.state` (state_dict keys or attribute paths) to tensors.
    """
    values: dict[str, Any] = {name: state[key] for name, key in program.state}
    for name, given in zip(program.inputs, inputs, strict=True):
        if name is not None:
            values[name] = given
    for step in program.steps:
        if isinstance(step, RegionCall):
            made = evaluate(step.region, [values[a] for a in step.args], wide)
            specs = step.region.outputs
            results: Any = [m.to(_dtype(s.dtype)) for m, s in zip(made, specs, strict=True)]
        else:
            results = called(step, values)
        values.update(zip(step.results, results, strict=True))
    return [values[name] for name in program.outputs]


def called(step: FrameworkCall, values: Mapping[str, Any]) -> list[Any]:
    """What PyTorch's operator of `step` gives for the named `values`, one by one."""
    target: Any = torch
    for part in step.target.split(".")[1:]:
        target = getattr(target, part)
    args = _filled(step.args, values)
    made = target(*args, **{k: _filled(v, values) for k, v in step.kwargs})
    return list(made) if isinstance(made, tuple | list) else [made]


def _filled(tree: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, Ref):
        return values[tree.name]
    if isinstance(tree, tuple | list):
        return type(tree)(_filled(t, values) for t in tree)
    return tree
