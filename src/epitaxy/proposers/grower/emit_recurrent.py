"""Recurrent layers as C++: the sizes that recurrent.h works from, layer after layer."""

from __future__ import annotations

from epitaxy.proposers.grower.algebra import Recurrence, Region
from epitaxy.proposers.grower.emit_frame import function, given, made
from epitaxy.proposers.grower.emit_gemm import even
from epitaxy.proposers.grower.emit_keep import Keeper
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.recurrent import GATES

KINDS = ("lstm", "gru", "tanh", "relu")
ALONE = 1
"""The form whose threads have rows or directions of their own, and wait for nobody within a layer."""
LAYERS = 2
"""The form whose threads have layers of their own, each a span of steps behind the layer before it:
for layers of one direction."""


def write_recurrence(region: Region, choices: Choices) -> str:
    """The region's function."""
    what = region.recurrence
    assert what is not None
    pointers = [given(i, spec) for i, spec in enumerate(region.inputs)]
    keeper = Keeper(frozenset(region.weights if choices.keep else ()))
    lines = [made(i, spec) for i, spec in enumerate(region.outputs)]
    between = what.batch * what.steps * what.ways * what.units
    lines += [f"const epx::Scratch<float> l{k}({between});" for k in range(what.layers - 1)]
    lines += [_sizes(what, choices, k, keeper) for k in range(min(2, what.layers))]
    if side_by_side(what, choices):
        lines += _side_by_side(what, choices, keeper)
    else:
        for layer in range(what.layers):
            lines += _layer(what, choices, layer, keeper)
    lines += [f"(void)x{i};" for i in range(len(region.inputs))]
    opening = keeper.opening(region.inputs)
    kept = keeper.function(region.name, region.inputs, [pointers[i] for i in keeper.used])
    lines = [*pointers, *opening, *lines]
    return function(region, choices, lines, refuses=bool(keeper.used), before=kept)


def multiplied(what: Recurrence) -> frozenset[int]:
    """The inputs of the region that are matrices of weights."""
    first, each = _weights(what)
    calls = range(what.layers * what.ways)
    return frozenset(first + at * each + k for at in calls for k in (0, 1))


def _weights(what: Recurrence) -> tuple[int, int]:
    """The number of the first input that is a parameter, and how many each direction has."""
    return 2 + (what.kind == "lstm"), 4 if what.bias else 2


def _sizes(what: Recurrence, choices: Choices, layer: int, keeper: Keeper) -> str:
    """The sizes of a layer; all from the second on have the same."""
    sizes = shape(what, choices, layer) | {"KEPT": int(_keeps(what, keeper))}
    text = ", ".join(f"{name} = {value}" for name, value in sizes.items())
    return f"struct Shape{min(layer, 1)} {{ enum : int64_t {{ {text} }}; }};"


def _keeps(what: Recurrence, keeper: Keeper) -> bool:
    """Whether copies of all weights are kept: the layers have their code in common."""
    return multiplied(what) <= keeper.weights


def _layer(what: Recurrence, choices: Choices, layer: int, keeper: Keeper) -> list[str]:
    """All directions of one layer: one after another by a team of threads, or each row and
    direction by the thread that gets it."""
    kind = min(layer, 1)
    copies: list[str] = []
    calls = []
    for way in range(what.ways):
        made, args = _direction(what, choices, (layer, way), keeper)
        copies += made
        back = "true" if way else "false"
        calls.append(f"epx::recur<Shape{kind}>(memory, {back}, {args});")
    threads = f" num_threads({choices.threads})" if choices.threads else ""
    memory = f"epx::RecurMemory<Shape{kind}> memory;"
    if not _alone(what, choices):
        team = [] if choices.threads == 1 else [f"#pragma omp parallel{threads}"]
        return [*copies, "{", memory, *(line for call in calls for line in (*team, call)), "}"]
    parts = what.batch // _rows(what, choices)
    team = [] if choices.threads == 1 else [f"#pragma omp parallel for schedule(static){threads}"]
    each = [
        f"{f'if (piece / {parts} == {way}) ' if what.ways > 1 else ''}{call}"
        for way, call in enumerate(calls)
    ]
    return [
        *copies, *team,
        f"for (int64_t piece = 0; piece < {what.ways * parts}; ++piece) {{",
        f"  const int64_t b = piece % {parts} * Shape{kind}::B;",
        *(f"  {line}" for line in (memory, *each)),
        "}",
    ]  # fmt: skip


def side_by_side(what: Recurrence, choices: Choices) -> bool:
    """Whether threads have layers of their own."""
    return choices.form == LAYERS and what.layers > 1 and what.ways == 1


def _side_by_side(what: Recurrence, choices: Choices, keeper: Keeper) -> list[str]:
    """All layers at once, each by the same thread from span to span."""
    copies: list[str] = []
    memory, parts = [], []
    for layer in range(what.layers):
        made, args = _direction(what, choices, (layer, 0), keeper)
        copies += made
        shape_of = f"Shape{min(layer, 1)}"
        memory.append(f"epx::RecurMemory<{shape_of}> m{layer};")
        parts.append(
            f"  if (layer == {layer}) epx::recur_span<{shape_of}>(m{layer}, step, false, {args});"
        )
    threads = f" num_threads({choices.threads})" if choices.threads else ""
    team = [] if choices.threads == 1 else [f"#pragma omp parallel{threads}"]
    head = f"epx::recur_side_by_side<Shape0>({what.layers}, [&](int64_t layer, int64_t step) {{"
    return [*copies, *memory, *team, head, *parts, "});"]


def _alone(what: Recurrence, choices: Choices) -> bool:
    return choices.form == ALONE and what.ways * (what.batch // _rows(what, choices)) > 1


def _rows(what: Recurrence, choices: Choices) -> int:
    """Rows of one piece: at most as many as chosen, and a divisor of all."""
    most = max(1, min(choices.mc, what.batch))
    return next(rows for rows in range(most, 0, -1) if what.batch % rows == 0)


def _direction(
    what: Recurrence, choices: Choices, place: tuple[int, int], keeper: Keeper
) -> tuple[list[str], str]:
    """What copies one direction of one layer (`place`) keeps, and the arguments of its call."""
    layer, way = place
    states = 2 if what.kind == "lstm" else 1
    before, each = _weights(what)
    at = layer * what.ways + way
    first = before + at * each
    kind = min(layer, 1)
    copies = []
    weights = [f"x{first + k}" for k in range(each)] + ["nullptr"] * (4 - each)
    if _keeps(what, keeper):
        sizes = [_sizes(what, choices, layer, keeper)]
        for k, (name, depth) in enumerate((("w", "I"), ("u", "H"))):
            floats = f"epx::Recur<Shape{kind}>::{name}_floats"
            make = f"epx::copy_panels<Shape{kind}>({{}}, {weights[k]}, Shape{kind}::{depth})"
            copies += keeper.keep(f"{name}{at}", first + k, floats, sizes, make)
            weights[k] = f"{name}{at}"
    sizes_of = shape(what, choices, layer)
    held = at * what.batch * what.units
    x = "x0" if layer == 0 else f"l{layer - 1}.data"
    y = "y0" if layer + 1 == what.layers else f"l{layer}.data"
    alone = _alone(what, choices)
    row = f" + b * {sizes_of['I'] * (what.steps if sizes_of['TURN'] else 1)}" if alone else ""
    state = f" + {held}" + (f" + b * {what.units}" if alone else "")
    out = f" + {way * what.units}" + (f" + b * {sizes_of['YB']}" if alone else "")
    c0, cn = (f"x2{state}", f"y2{state}") if states == 2 else ("nullptr", "nullptr")
    args = ", ".join([f"{x}{row}", *weights, f"x1{state}", c0, f"{y}{out}", f"y1{state}", cn])
    return copies, args


def shape(what: Recurrence, choices: Choices, layer: int) -> dict[str, int]:
    """Sizes, strides and decisions, by the names that recurrent.h gives them."""
    gates = GATES[what.kind]
    lanes = choices.width
    across = gates if gates > 1 else min(choices.tile_n, -(-what.units // lanes))
    width = what.width if layer == 0 else what.ways * what.units
    row = what.ways * what.units
    by_row, by_step = (what.steps, 1) if what.batch_first else (1, what.batch)
    turn = what.batch_first and what.steps > 1
    rows = _rows(what, choices) if _alone(what, choices) else what.batch
    high = min(choices.tile_m, rows)
    alone = _alone(what, choices) or side_by_side(what, choices)
    return {
        "KIND": KINDS.index(what.kind), "N": lanes, "MR": high,
        "W": across, "P": 2 if across == 4 else across,
        "T": what.steps, "B": rows, "XB": what.batch, "I": width, "H": what.units,
        "YB": by_row * row, "YT": by_step * row, "TURN": int(turn),
        "BIAS": int(what.bias), "STEPS": choices.unroll, "ALONE": int(alone),
        "SPAN": min(what.steps, even(what.steps, -(-what.steps // choices.split_k), high)),
    }  # fmt: skip
