"""Top-k as C++, and where its search starts."""

from __future__ import annotations

from epitaxy.chip import Chip
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.algebra_whole import Picks
from epitaxy.proposers.grower.emit_expr import indent
from epitaxy.proposers.grower.emit_frame import function, given, made
from epitaxy.proposers.grower.genome import Choices

SMALL = 1 << 14
"""Elements under which one thread is enough."""


def write_picks(region: Region, choices: Choices) -> str:
    """The region's function."""
    what = region.picks
    assert what is not None
    threads = f" num_threads({choices.threads})" if choices.threads else ""
    share = "#pragma omp for schedule(static) nowait"
    truths = ", ".join(("false", "true")[t] for t in (what.largest, what.in_order))
    rows = [
        f"for (int64_t r = 0; r < {what.rows}; ++r)",
        f"  epx::pick_row<{choices.width}, {truths}>(x0 + r * {what.size}, {what.size}, {what.k}, "
        f"y0 + r * {what.k}, y1 + r * {what.k}, queue.data);",
    ]
    body = [f"const epx::Scratch<epx::Pick> queue({what.size});"]
    body += rows if choices.threads == 1 else [share, *rows]
    lines = [
        given(0, region.inputs[0]),
        *[made(i, spec) for i, spec in enumerate(region.outputs)],
        *([] if choices.threads == 1 else [f"#pragma omp parallel{threads}"]),
        "{", *indent(body), "}",
    ]  # fmt: skip
    return function(region, choices, lines, refuses=False)


def options(chip: Chip) -> dict[str, tuple[int, ...]]:
    """The values that each decision may take."""
    lanes = max(4, chip.vector_bytes // 4)
    return {
        "width": tuple(w for w in (lanes // 2, lanes, 2 * lanes) if 4 <= w <= 16),
        "threads": tuple(dict.fromkeys((0, 1, max(1, chip.cores // 2)))),
    }


def guess(what: Picks, chip: Chip) -> Choices:
    """One thread where there is little to look at."""
    lanes = max(4, chip.vector_bytes // 4)
    return Choices(width=lanes, threads=1 if what.rows * what.size < SMALL else 0)
