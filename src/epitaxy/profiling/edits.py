"""Edits of gcc's and clang's x86-64 assembly that leave something out, to see what it costs.

A kernel so edited computes something else: it is run for its time alone, in the same jail as any
candidate. Only loops are touched, and only floating-point or vector instructions, so that addresses
and trip counts stay what they are; an edit that finds nothing to change says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from epitaxy.errors import BadCandidate
from epitaxy.profiling.instructions import Instruction
from epitaxy.profiling.static import MATH

SCRATCH = -512
"""Bytes from the stack pointer to where redirected stores go: below the red zone of 128 bytes
(System V ABI, AMD64 supplement, section 3.2.2), where nothing lives, apart for each thread."""
ONES = ".Lepitaxy_ones"
"""A line of 1.0s that redirected loads read: always in the nearest cache, never denormal."""
FLUSH = 0x9FC0
"""MXCSR with results and operands that are denormal taken as zero (FTZ, DAZ), and no traps:
Intel 64 manual, volume 1, section 10.2.3."""

_LABEL = re.compile(r"^([.\w$]+):")
_JUMP = re.compile(r"^\s+j\w+\s+([.\w$]+)\s*$")
_UNALIGNED = {"movaps": "movups", "movapd": "movupd", "movdqa": "movdqu", "movntps": "movups",
              "movntpd": "movupd", "movntdq": "movdqu"}  # fmt: skip
_WHOLE = re.compile(r"v?mov(?:[ua]p[sd]|dq[ua](?:8|16|32|64)?)$")
_VECTOR = re.compile(r"%[xyz]mm\d+$")

Change = Callable[[Instruction, str], "str | None"]
"""The line that takes an instruction's place, "" for none; None leaves it."""


def without_stores(text: str) -> str:
    """Vector and floating-point stores in loops go to one place on the stack."""
    return _changed(text, _store_aside, "it stores no vectors or floating-point values in a loop")


def without_loads(text: str) -> str:
    """Vector and floating-point loads in loops read one line of ones."""
    made = _changed(text, _load_ones, "it loads no vectors or floating-point values in a loop")
    words = "\n".join(["\t.long\t0x3f800000"] * 16)
    return f"{made}\n\t.section .rodata\n\t.balign 64\n{ONES}:\n{words}\n"


def without_memory(text: str) -> str:
    """Both of the above."""
    return without_stores(without_loads(text))


def streaming(text: str) -> str:
    """Whole vectors in loops are stored past the caches, and fenced where a function returns."""
    made = _changed(text, _stream, "it stores no whole vectors in a loop")
    return re.sub(r"^\s+ret[q]?\s*$", "\tsfence\n\tret", made, flags=re.MULTILINE)


def not_streaming(text: str) -> str:
    """Streaming stores become plain ones."""
    return _changed(text, _plain, "it has no streaming stores", loops_only=False)


def cheap_divides(text: str) -> str:
    """Divisions in loops become multiplications, square roots copies."""
    return _changed(text, _multiply, "it divides nothing in a loop")


def without_math_calls(text: str) -> str:
    """Calls of exp, log and the like in loops are left out."""
    return _changed(text, _no_call, "it calls no mathematical function in a loop")


def without_spills(text: str) -> str:
    """Vectors in loops do not go to the stack, and zeros come back."""
    return _changed(text, _no_spill, "no vector goes to the stack in a loop")


def without_atomics(text: str) -> str:
    """Atomic operations in loops are done without their lock."""
    return _changed(text, _no_lock, "it has no atomic operation in a loop")


def flush_denormals(text: str) -> str:
    """Every exported or parallel function first asks for denormals to be taken as zero."""
    lines = text.splitlines()
    shared = {line.split()[1] for line in lines if line.lstrip().startswith(".globl")}
    made, inside, changed = [], "", 0
    for line in lines:
        made.append(line)
        if label := _LABEL.match(line):
            name = label[1]
            inside = (
                name
                if name in shared or "omp_fn" in name or "omp_outlined" in name
                else (inside if name.startswith(".") else "")
            )
        if inside and line.strip() == ".cfi_startproc":
            where = SCRATCH - 136
            made += [f"\tmovl\t${FLUSH}, {where}(%rsp)", f"\tldmxcsr\t{where}(%rsp)"]
            changed += 1
    if not changed:
        raise BadCandidate("no function to set the mode in was found", "")
    return "\n".join(made) + "\n"


def same(text: str) -> str:
    """Nothing changed: for flags that the compiler shall see and the linker shall not."""
    return text


def _changed(text: str, change: Change, nothing: str, loops_only: bool = True) -> str:
    """`text` with `change` made to each instruction, of loops alone where so asked."""
    lines = text.splitlines()
    inside = set(_in_loops(lines)) if loops_only else range(len(lines))
    changed = 0
    for number, line in enumerate(lines):
        if number not in inside or not line[:1].isspace() or line.lstrip().startswith((".", "#")):
            continue
        new = change(Instruction(0, " ".join(line.split())), line)
        if new is not None:
            lines[number] = new
            changed += 1
    if not changed:
        raise BadCandidate(nothing, "")
    return "\n".join(lines) + "\n"


def _in_loops(lines: Iterable[str]) -> Iterator[int]:
    """Numbers of the lines between a label and a later jump back to it."""
    places: dict[str, int] = {}
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            places[label[1]] = number
        elif (jump := _JUMP.match(line)) and jump[1] in places:
            yield from range(places[jump[1]], number)


def _data(i: Instruction) -> bool:
    """Whether its memory holds data: not the stack, not a constant, reached through a register."""
    where = i.memory
    return where is not None and not _stack(i) and where.base != "%rip" and i.bits > 0


def _stack(i: Instruction) -> bool:
    """Whether its memory is the stack: also below a frame that %rbp may point to."""
    where = i.memory
    if where is None:
        return False
    return where.base == "%rsp" or (where.base == "%rbp" and where.shift < 0 and not where.index)


def _loose(name: str) -> str:
    """The mnemonic that needs no alignment."""
    stem = name.removeprefix("v")
    prefix = name[: len(name) - len(stem)]
    return prefix + _UNALIGNED.get(stem.rstrip("0123456789"), stem)


def _store_aside(i: Instruction, line: str) -> str | None:
    if not (_data(i) and i.stores) or not i.name.startswith(("v", "mov")) or i.locked:
        return None
    if i.name.startswith(("vpscatter", "vscatter")):
        return ""
    return f"\t{_loose(i.name)}\t{', '.join(i.operands[:-1])}, {SCRATCH}(%rsp)"


def _load_ones(i: Instruction, line: str) -> str | None:
    if not (_data(i) and i.loads) or i.stores or i.name.startswith(("vgather", "vpgather")):
        return None
    operands = [f"{ONES}(%rip)" if "(" in o else o for o in i.operands]
    return f"\t{i.name}\t{', '.join(operands)}"


def _stream(i: Instruction, line: str) -> str | None:
    if not (_data(i) and i.stores and _WHOLE.match(i.name)):
        return None
    return f"\t{'v' if i.name.startswith('v') else ''}movntps\t{', '.join(i.operands)}"


def _plain(i: Instruction, line: str) -> str | None:
    return f"\t{_loose(i.name)}\t{', '.join(i.operands)}" if i.streams and i.bits else None


def _multiply(i: Instruction, line: str) -> str | None:
    if not i.divides or not i.bits:
        return None
    if "div" in i.name:
        return f"\t{i.name.replace('div', 'mul')}\t{', '.join(i.operands)}"
    if i.packed:
        return f"\t{'v' if i.name.startswith('v') else ''}movups\t{', '.join(i.operands)}"
    return f"\t{i.name.replace('sqrt', 'mul')}\t{', '.join(i.operands)}"


def _no_call(i: Instruction, line: str) -> str | None:
    called = i.operands[0].partition("@")[0] if i.operands else ""
    return "" if i.name.startswith("call") and MATH.match(called) else None


def _no_spill(i: Instruction, line: str) -> str | None:
    if not _stack(i) or not i.bits:
        return None
    if i.name.startswith(("vmov", "mov")):
        target = i.operands[-1]
        if i.stores or not _VECTOR.match(target):
            return ""
        # A register that is left as it is would chain what the stack had kept apart.
        return f"\tvxorps\t{target}, {target}, {target}" if i.name[0] == "v" else line
    others = [o for o in i.operands if _VECTOR.match(o)]
    return f"\t{i.name}\t{', '.join(others[0] if '(' in o else o for o in i.operands)}"


def _no_lock(i: Instruction, line: str) -> str | None:
    return line.replace("lock", "", 1).replace(";", " ") if i.text.startswith("lock") else None
