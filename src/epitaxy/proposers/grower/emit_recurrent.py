"""Recurrent layers as C++: the sizes that recurrent.h works from, layer after layer."""

from __future__ import annotations

from epitaxy.proposers.grower.algebra import Recurrence, Region
from epitaxy.proposers.grower.emit_frame import function, given, made
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.recurrent import GATES

KINDS = ("lstm", "gru", "tanh", "relu")


def write_recurrence(region: Region, choices: Choices) -> str:
    """The region's function."""
    what = region.recurrence
    assert what is not None
    lines = [given(i, spec) for i, spec in enumerate(region.inputs)]
    lines += [made(i, spec) for i, spec in enumerate(region.outputs)]
    between = what.batch * what.steps * what.ways * what.units
    lines += [f"const epx::Scratch<float> l{k}({between});" for k in range(what.layers - 1)]
    for layer in range(what.layers):
        if layer < 2:  # later layers are like the second
            sizes = ", ".join(f"{k} = {v}" for k, v in shape(what, choices, layer).items())
            lines.append(f"struct Shape{layer} {{ enum : int64_t {{ {sizes} }}; }};")
            lines.append(f"epx::RecurMemory<Shape{layer}> memory{layer};")
        for way in range(what.ways):
            lines += _direction(what, choices, layer, way)
    lines += [f"(void)x{i};" for i in range(len(region.inputs))]
    return function(region, choices, lines, refuses=False)


def _direction(what: Recurrence, choices: Choices, layer: int, way: int) -> list[str]:
    """One direction of one layer, by a team of threads."""
    states = 2 if what.kind == "lstm" else 1
    each = 4 if what.bias else 2
    at = layer * what.ways + way
    first = 1 + states + at * each
    weights = [f"x{first + k}" for k in range(each)] + ["nullptr"] * (4 - each)
    held = at * what.batch * what.units
    x = "x0" if layer == 0 else f"l{layer - 1}.data"
    y = "y0" if layer + 1 == what.layers else f"l{layer}.data"
    c0, cn = (f"x2 + {held}", f"y2 + {held}") if states == 2 else ("nullptr", "nullptr")
    args = ", ".join(
        [x, *weights, f"x1 + {held}", c0, f"{y} + {way * what.units}", f"y1 + {held}", cn]
    )
    kind = min(layer, 1)
    call = f"epx::recur<Shape{kind}>(memory{kind}, {'true' if way else 'false'}, {args});"
    threads = f" num_threads({choices.threads})" if choices.threads else ""
    return [call] if choices.threads == 1 else [f"#pragma omp parallel{threads}", call]


def shape(what: Recurrence, choices: Choices, layer: int) -> dict[str, int]:
    """Sizes, strides and decisions, by the names that recurrent.h gives them."""
    gates = GATES[what.kind]
    lanes = choices.width
    across = gates if gates > 1 else min(choices.tile_n, -(-what.units // lanes))
    width = what.width if layer == 0 else what.ways * what.units
    row = what.ways * what.units
    by_row, by_step = (what.steps, 1) if what.batch_first else (1, what.batch)
    rows = what.batch * what.steps
    return {
        "KIND": KINDS.index(what.kind), "N": lanes, "MR": min(choices.tile_m, what.batch),
        "W": across, "P": 2 if across == 4 else across,
        "T": what.steps, "B": what.batch, "I": width, "H": what.units,
        "YB": by_row * row, "YT": by_step * row, "TURN": int(what.batch_first),
        "BIAS": int(what.bias), "STEPS": choices.unroll, "DYNAMIC": choices.dynamic,
        "CUT": max(1, min(choices.split_k, rows // 16)),
    }  # fmt: skip
