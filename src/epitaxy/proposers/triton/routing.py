"""Triton kernels around the products of experts: which rows go where, and their sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epitaxy.proposers.grower.algebra import Load, walk
from epitaxy.proposers.grower.contract import size_of
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.triton.expressions import LIMIT, Written, indent, power
from epitaxy.proposers.triton.routed import Experts, ExpertWriter, StageWriter, needs, rounded

SCANNED = 1024
"""Rows, or elements of a result, that a program holds at once."""


def strange_kernel(experts: Experts, name: str) -> Written:
    """Which rows hold what zero times is not zero. Raises Unsupported."""
    writer = ExpertWriter(experts)
    what, rows = experts.what, experts.rows
    given = [(v, a) for v, a in what.operands if not needs(v)]
    if any(what.expert in v.axes for v, _ in given):
        raise Unsupported("experts that see different rows")
    height = 16
    writer.lines += [
        "row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]",
        f"inside = row < {rows}",
    ]
    writer.masks["m"] = "inside"
    writer.decode(list(what.rows), "row", 1, "m")
    writer.lines.append("odd = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)")
    for value, axis in given:
        before, writer.lines, writer.memo = writer.lines, [], {}
        writer.count_uses([value])
        writer.lines.append("column = start + tl.arange(0, BLOCK_N)[None, :]")
        writer.decode([axis], "column", 1, "n")
        writer.lines.append(f"within = column < {axis.size}")
        writer.masks["n"] = "within"
        x = writer.named(value)
        writer.lines.append(f"odd = tl.where(inside & within & ({x} - {x} != 0.0), 1, odd)")
        body, writer.lines = writer.lines, before
        writer.lines += [f"for start in range(0, {axis.size}, BLOCK_N):", *indent(body)]
    writer.lines.append("tl.store(strange + row, tl.max(odd, axis=1, keep_dims=True), mask=inside)")
    constants = (("BLOCK_M", height), ("BLOCK_N", SCANNED // height))
    comment = "# rows with NaN or an infinity, which go to every expert"
    return writer.finished(name, comment, -(-rows // height), constants, ())


def routing_kernel(experts: Experts, name: str) -> Written:
    """One program for each expert: its rows in order, how many, and where each is."""
    writer = ExpertWriter(experts)
    what, rows = experts.what, experts.rows
    if any(isinstance(v, Load) and v.buffer in what.families for v in walk((what.route,))):
        raise Unsupported("a route that an expert's own parameters decide")
    writer.lines += [
        "row = start + tl.arange(0, BLOCK_M)",
        f"inside = row < {rows}",
    ]
    writer.scalar(what.expert, "expert")
    writer.decode(list(what.rows), "row", 1, "m")
    writer.masks["m"] = "inside"
    writer.count_uses([what.route])
    truth = f"({writer.use(what.route)})"
    if what.strange:
        writer.lines.append("odd = tl.load(strange + row, mask=inside, other=0)")
        truth = f"({truth} | (odd != 0))"
    writer.lines += [
        f"here = inside & {truth}",
        "rank = found + tl.cumsum(here.to(tl.int32), axis=0) - 1",
        f"at = expert * {rows} + rank",
        "tl.store(source + at, row, mask=here)",
        f"tl.store(slot + expert * {rows} + row, tl.where(here, at, -1), mask=inside)",
        "found += tl.sum(here.to(tl.int32), axis=0)",
    ]
    writer.lines = [
        "expert = tl.program_id(0)",
        "found = 0",
        f"for start in range(0, {rows}, BLOCK_M):",
        *indent(writer.lines),
        "tl.store(count + expert, found)",
    ]
    comment = "# an expert's rows in order, and the place of each row among them, -1 without one"
    constants = (("BLOCK_M", min(SCANNED, power(rows))),)
    return writer.finished(name, comment, what.expert.size, constants, ())


def sum_kernel(experts: Experts, name: str) -> Written:
    """Every place: what was there, and what its rows add, expert after expert."""
    writer = ExpertWriter(experts)
    what, rows = experts.what, experts.rows
    last, axis = len(what.operands) - 1, what.operands[-1][1]
    others = [a for a in what.rows if a not in what.place]
    places, turns = size_of(what.place), size_of(others)
    bn = min(SCANNED, power(axis.size))
    bm = max(1, SCANNED // bn)
    blocks = -(-axis.size // bn)
    writer.lines += [
        f"place = tl.program_id(0) // {blocks} * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]",
        f"column = tl.program_id(0) % {blocks} * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]",
        f"inside = place < {places}",
        f"within = column < {axis.size}",
    ]
    writer.masks = {"m": "inside", "n": "within"}
    writer.decode(list(what.place), "place", 1, "m")
    writer.decode([axis], "column", 1, "n")
    writer.count_uses([what.first])
    begun = writer.use(what.first)
    writer.lines.append(f"total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32) + {begun}")
    outer, writer.lines = writer.lines, []
    writer.lines.append(f"expert = turn // {turns}")
    writer.decode(others, f"turn % {turns}", 1, "")
    wider = "" if experts.temporaries[f"a{last}"][0] == "float32" else ".to(tl.float32)"
    wide = ".to(tl.int64)" if experts.slots * axis.size > LIMIT else ""
    writer.lines += [
        f"which = expert * {rows} + {writer.flat(what.rows)}",
        f"at = tl.load(slot + which, mask=inside, other=-1){wide}",
        f"pointers = a{last} + at * {axis.size} + column",
        f"total += tl.load(pointers, mask=inside & within & (at >= 0), other=0.0){wider}",
    ]
    body, writer.lines = writer.lines, outer
    writer.lines += [f"for turn in range(0, {what.expert.size * turns}):", *indent(body)]
    to = writer.address(what.store.index)
    result = rounded("total", experts.result)
    writer.lines.append(f"tl.store(y0 + {to}, {result}, mask=inside & within)")
    programs = -(-places // bm) * blocks
    comment = "# each place: what its rows add, in the order of the experts"
    return writer.finished(name, comment, programs, (("BLOCK_M", bm), ("BLOCK_N", bn)), ())


def kernels_of(experts: Experts, stages: Sequence[StageWriter], stem: str) -> Iterator[Written]:
    """All kernels in the order in which they run, named `stem` and a number."""
    number = 0
    for make in ([strange_kernel] if experts.what.strange else []) + [routing_kernel]:
        yield make(experts, f"{stem}{number}")
        number += 1
    for stage in stages:
        yield stage.write(f"{stem}{number}")
        number += 1
    yield sum_kernel(experts, f"{stem}{number}")
