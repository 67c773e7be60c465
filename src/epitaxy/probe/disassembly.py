"""Proof that a measured loop is the loop that was meant: what the compiler really wrote.

Each function's innermost loop is found in `objdump -d` (a backward jump inside the function) and
must hold the intended instructions on the intended registers, and nothing that spills.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*?)\s*$")
_HEAD = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_JUMP = re.compile(r"^(?:j\w+|b\.\w+|b|cbn?z|tbn?z)\s.*?\b([0-9a-f]+) <")
_STACK = re.compile(r"\(%r[sb]p|\[(?:sp|x29)\b")


@dataclass(frozen=True)
class Expected:
    """At least `least` instructions matching `pattern` in the loop; is memory allowed?"""

    pattern: str
    least: int
    memory: bool = False


def expectations(
    machine: str, chains: int, fused: bool = True
) -> Mapping[str, tuple[Expected, ...]]:
    """What each function of the probe's programs must contain on `machine` (platform.machine()).

    `fused`: the CPU has a fused multiply-add, so anything else would measure half its peak.
    """
    if machine in ("x86_64", "AMD64"):
        return _x86(chains, fused)
    return _aarch64(chains)


def _x86(chains: int, fused: bool) -> Mapping[str, tuple[Expected, ...]]:
    wanted: dict[str, tuple[Expected, ...]] = {}
    for bits, register in ((128, "xmm"), (256, "ymm"), (512, "zmm")):
        for dtype, suffix in (("float32", "ps"), ("float64", "pd")):
            together = (rf"vfn?madd\d+{suffix}\s.*%{register}",)
            apart = (rf"v?mul{suffix}\s.*%{register}", rf"v?add{suffix}\s.*%{register}")
            patterns = together if fused else apart
            wanted[f"fma_{dtype}_{bits}"] = tuple(Expected(p, chains) for p in patterns)
    wide = r"%[xyz]mm"
    load = Expected(rf"v?mov[au]p[sd]\s+[^,]*\([^)]*\),{wide}", 8, memory=True)
    store = Expected(rf"v?mov[au]p[sd]\s+{wide}\d+,[^,]*\(", 8, memory=True)
    stream = Expected(rf"v?movntps\s+{wide}\d+,[^,]*\(", 8, memory=True)
    return wanted | {
        "fma_float16_widest": (Expected(r"vfn?madd\d+ph\s.*%zmm", chains),),
        "dot_bfloat16": (Expected(r"vdpbf16ps\s", chains),),
        "dot_int8": (Expected(r"vpdpbusd\s", chains),),
        "read_loop": (load,),
        "write_loop": (store,),
        "stream_loop": (stream,),
        "copy_loop": (load, store),
        "copy_stream_loop": (load, stream),
        "chase_loop": (Expected(r"mov\s+\(%(\w+)\),%\1$", 8, memory=True),),
    }


def _aarch64(chains: int) -> Mapping[str, tuple[Expected, ...]]:
    load = Expected(r"ld[pr]\s+q\d+", 4, memory=True)
    store = Expected(r"st[pr]\s+q\d+", 4, memory=True)
    stream = Expected(r"stnp\s+q\d+", 4, memory=True)
    return {
        "fma_float32_128": (Expected(r"fmla\s+v\d+\.4s", chains),),
        "fma_float64_128": (Expected(r"fmla\s+v\d+\.2d", chains),),
        "fma_float16_widest": (Expected(r"fmla\s+v\d+\.8h", chains),),
        "dot_bfloat16": (Expected(r"bfdot\s", chains),),
        "dot_int8": (Expected(r"sdot\s", chains),),
        "read_loop": (load,),
        "write_loop": (store,),
        "stream_loop": (stream,),
        "copy_loop": (load, store),
        "copy_stream_loop": (load, stream),
        "chase_loop": (Expected(r"ldr\s+(x\d+), \[\1\]$", 8, memory=True),),
    }


def functions(listing: str) -> dict[str, list[tuple[int, str]]]:
    """(address, instruction) of each function of an objdump listing."""
    found: dict[str, list[tuple[int, str]]] = {}
    current: list[tuple[int, str]] = []
    for line in listing.splitlines():
        if head := _HEAD.match(line):
            current = found.setdefault(head.group(1), [])
        elif match := _LINE.match(line):
            current.append((int(match.group(1), 16), match.group(2).split("#")[0].strip()))
    return found


def inner_loops(body: Sequence[tuple[int, str]]) -> list[list[str]]:
    """The instructions of each loop that holds no other loop."""
    first = body[0][0] if body else 0
    spans = []
    for address, instruction in body:
        target = jump_target(instruction)
        if target is not None and first <= target < address:
            spans.append((target, address))
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [[text for at, text in body if low <= at <= high] for low, high in inner]


def jump_target(instruction: str) -> int | None:
    """The address that a jump goes to; None for anything else, and for jumps by pointer."""
    jump = _JUMP.match(instruction)
    return int(jump.group(1), 16) if jump else None


def spills(loop: Sequence[str]) -> bool:
    """Whether a loop uses the stack."""
    return any(_STACK.search(instruction) for instruction in loop)


def fault(loops: Sequence[Sequence[str]], wanted: Sequence[Expected]) -> str:
    """Why none of `loops` is the one that was meant; "" when one is."""
    reason = "it has no loop"
    for loop in loops:
        counts = [sum(bool(re.match(w.pattern, i)) for i in loop) for w in wanted]
        short = [f"{n} of {w.least}" for n, w in zip(counts, wanted, strict=True) if n < w.least]
        memory = [i for i in loop if "(" in i or "[" in i]
        if short:
            reason = f"only {short[0]} of the instructions that were meant"
        elif spills(loop):
            reason = "it spills registers"
        elif memory and not any(w.memory for w in wanted):
            reason = f"it touches memory: {memory[0]}"
        else:
            return ""
    return reason


def check(binary: Path, wanted: Mapping[str, tuple[Expected, ...]]) -> dict[str, str] | None:
    """Each probe function in `binary` and what is wrong with its loop ("" = right).

    None when objdump is absent: nothing can be said.
    """
    tool = shutil.which("objdump")
    if tool is None:
        return None
    done = subprocess.run(
        [tool, "-d", "--no-show-raw-insn", str(binary)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        return None
    found = functions(done.stdout)
    return {n: fault(inner_loops(found[n]), wanted[n]) for n in sorted(set(found) & set(wanted))}
