"""Figures on one loop by looking at its instructions: `static.<what>`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from epitaxy.profiling.instructions import Instruction
from epitaxy.profiling.loops import LINE_BYTES, Loop

MATH = re.compile(
    r"^(?:_ZGV\w+_)?(?:__)?(exp|exp2|expm1|log|log2|log10|log1p|pow|sin|cos|tan|tanh|sinh|cosh|erf|erfc"
    r"|asin|acos|atan|atan2|fmod|cbrt|tgamma|lgamma)f?(?:_finite)?$"
)  # fmt: skip
"""Functions of the C library that are worth a loop of their own when they are called one by one."""


def figures(loop: Loop) -> dict[str, float]:
    """What is in one turn of the loop: counts, bytes, and shares from 0 to 1."""
    body, work = loop.body, loop.work
    calls = [i.calls for i in body if i.calls]
    reads = [i for i in loop.touches if i.loads]
    writes = [i for i in loop.touches if i.stores]
    chain = longest_chain(body)
    found = {
        "instructions": len(body),
        "loads": len(reads),
        "stores": len(writes),
        "load_bytes": sum(i.bytes for i in reads),
        "store_bytes": sum(i.bytes for i in writes),
        "vector_bits": max((i.bits for i in work or body if i.packed or not work), default=0),
        "fp_arithmetic": len(work),
        "vector_share": sum(i.packed for i in work) / len(work) if work else 0.0,
        "fma": sum(i.fma for i in body),
        "fma_share": sum(i.fma for i in work) / len(work) if work else 0.0,
        "divides": sum(i.divides for i in body),
        "scalar_divides": sum(i.divides and not i.packed for i in body),
        "spills": len(loop.spills),
        "spill_share": len(loop.spills) / len(body),
        "streaming_stores": sum(i.streams for i in body),
        "atomics": sum(i.locked for i in body),
        "gathers": sum(i.name.startswith("vgather") for i in body),
        "converts": sum(i.converts for i in body),
        "calls": len(calls),
        "math_calls": sum(MATH.match(c) is not None for c in calls),
        "vector_math_calls": sum(c.startswith("_ZGV") for c in calls),
        "parallel_calls": sum(c.startswith(("GOMP_parallel", "__kmpc_fork")) for c in calls),
        "lock_calls": sum(c.startswith(("GOMP_critical", "GOMP_atomic", "__kmpc_crit"))
                          for c in calls),
        "branches": sum(i.jumps and not i.name.startswith("jmp") for i in body) - 1,
        "chain": chain,
        "chain_share": chain / len(work) if work else 0.0,
        "largest_stride_bytes": max(map(abs, strides(loop)), default=0),
        "strided_loads": sum(
            (s := loop.stride(i)) is not None and abs(s) >= LINE_BYTES and i.bytes < LINE_BYTES
            and abs(s) > covered(loop, i) for i in reads
        ),
        "strided_stores": sum(
            (s := loop.stride(i)) is not None and abs(s) >= LINE_BYTES
            and abs(s) > covered(loop, i) for i in writes
        ),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def nest_figures(found: Sequence[Loop]) -> dict[str, float]:
    """What loops around others do: start threads, or make them wait, again and again."""
    calls = [i.calls for loop in found for i in loop.body if i.calls]
    return {
        "parallel_in_loop": float(sum(c.startswith(_STARTS) for c in calls)),
        "barriers_in_loop": float(sum(c.startswith(_WAITS) for c in calls)),
    }


def memory_passes(found: Sequence[Loop], hits: Sequence[int]) -> int:
    """How many separate nests of loops over memory take a good part of the time.

    Loops that share an outer loop work on one block after the other, which stays in the caches:
    they count once.
    """
    outer = [v for v in found if not any(v.addresses < other.addresses for other in found)]
    least = PASS_SHARE * len(hits)
    inside = [v for v in outer if any(i.bits for i in v.touches)]
    return sum(sum(h in v.addresses for h in hits) >= least for v in inside) if hits else 0


PASS_SHARE = 0.15
"""Of the samples in the kernel: less is a remainder or a set-up."""
_STARTS = ("GOMP_parallel", "__kmpc_fork")
_WAITS = ("GOMP_barrier", "__kmpc_barrier")


def strides(loop: Loop) -> list[int]:
    """The strides (bytes) of the loop's accesses, where they are known."""
    return [s for i in loop.touches if (s := loop.stride(i)) is not None]


def covered(loop: Loop, access: Instruction) -> int:
    """Bytes that accesses through the same registers cover in one turn: of an unrolled loop each
    access has a long stride, and together they leave no gap."""
    where = access.memory
    same = {
        (i.memory.shift, i.bytes)
        for i in loop.touches
        if i.memory and where and (i.memory.base, i.memory.index) == (where.base, where.index)
    }
    return sum(size for _, size in same)


def longest_chain(body: Sequence[Instruction]) -> int:
    """Floating-point operations on the longest path from one turn of the loop to the next.

    Each turn has to wait for the turn before on that path alone; what is beside it overlaps.
    """
    best = 0
    registers = {o for i in body for o in i.operands if re.match(r"%[xyz]mm\d+$", o)}
    for start in {_vector(r) for r in registers}:
        depth = {start: 0}
        for i in body:
            _follow(i, depth)
        best = max(best, depth.get(start, 0))
    return best


def _follow(i: Instruction, depth: dict[str, int]) -> None:
    """Carry path lengths over one instruction; a register written anew leaves the path."""
    if (
        not i.operands
        or not i.bits
        or i.stores
        or i.name.startswith(("vcomis", "vucomis", "vtest"))
    ):
        return
    target = _vector(i.operands[-1])
    if not target:
        return
    sources = [_vector(o) for o in i.operands[:-1]]
    if i.fma or (i.name[:1] != "v" and i.arithmetic):
        sources.append(target)  # read as well as written
    if re.match(r"v?p?xor", i.name) and len(set(sources)) == 1:
        sources = []
    reached = [depth[s] for s in sources if s in depth]
    if reached:
        depth[target] = max(reached) + i.arithmetic
    else:
        depth.pop(target, None)


def _vector(operand: str) -> str:
    """The number of a vector register, whatever its width; "" for anything else."""
    match = re.match(r"%[xyz]mm(\d+)$", operand)
    return match[1] if match else ""
