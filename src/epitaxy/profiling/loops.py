"""The loops of a built kernel, from its disassembly, and what can be said of each by looking."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from epitaxy.probe.disassembly import functions, jump_target
from epitaxy.profiling.instructions import Instruction

LINE_BYTES = 64
_SOURCE = re.compile(r"^(/?[^\s:]*?([^/\s:]+\.(?:cpp|h|hpp|inc|cc|c))):(\d+)")
_AT = re.compile(r"^\s*([0-9a-f]+):\s")
_RUNTIME = re.compile(r"^(?:_init|_fini|_start|deregister_tm|register_tm|__do_global|frame_dummy)")


@dataclass(frozen=True)
class Loop:
    """One loop of `function`: its instructions in order, and the source line of each address.

    `frame`: %rbp holds the function's frame; `inner`: it holds no other loop; `setup`: what the
    function does before it, to tell constants in registers.
    """

    function: str
    body: tuple[Instruction, ...]
    lines: Mapping[int, str]
    frame: bool
    inner: bool
    setup: tuple[Instruction, ...] = ()

    @property
    def span(self) -> tuple[int, int]:
        """Its first and its last address."""
        return self.body[0].address, self.body[-1].address

    @cached_property
    def addresses(self) -> frozenset[int]:
        """Where its instructions begin."""
        return frozenset(i.address for i in self.body)

    @cached_property
    def source(self) -> str:
        """`kernel.cpp:12-14` where debug information was at hand; else ""."""
        found: dict[str, list[int]] = {}
        for line in (self.lines.get(i.address, "") for i in self.body):
            name, _, number = line.partition(":")
            if number:
                found.setdefault(name, []).append(int(number))
        if not found:
            return ""
        name = max(found, key=lambda n: (not n.startswith(("omp", "avx", "imm")), len(found[n])))
        low, high = min(found[name]), max(found[name])
        return f"{name}:{low}" + (f"-{high}" if high > low else "")

    @cached_property
    def work(self) -> tuple[Instruction, ...]:
        """Its floating-point arithmetic."""
        return tuple(i for i in self.body if i.arithmetic)

    @cached_property
    def touches(self) -> tuple[Instruction, ...]:
        """What reads or writes memory other than the stack and constants of the program."""
        return tuple(
            i for i in self.body
            if i.memory and not i.on_stack(self.frame) and i.memory.base != "%rip"
        )  # fmt: skip

    @cached_property
    def spills(self) -> tuple[Instruction, ...]:
        """Values of vectors or scalars that go to the stack or come back from it."""
        return tuple(i for i in self.body if i.on_stack(self.frame))

    @cached_property
    def steps(self) -> dict[str, int]:
        """Bytes that each register grows by in one turn, where a constant says it."""
        found: dict[str, int] = {}
        for i in self.body:
            step = _step(i, self.setup)
            if step is not None:
                register, by = step
                found[register] = found.get(register, 0) + by
        return found

    def stride(self, i: Instruction) -> int | None:
        """Bytes between what an access touches in one turn and in the next; None: not told."""
        where = i.memory
        if where is None:
            return None
        found = [
            by * (where.scale if register == where.index else 1)
            for register in (where.base, where.index)
            if (by := self.steps.get(register)) is not None
        ]
        return sum(found) if found else None


def _step(i: Instruction, setup: Sequence[Instruction]) -> tuple[str, int] | None:
    target = i.operands[-1] if i.operands else ""
    if not target.startswith("%") or target.startswith(("%x", "%y", "%z")):
        return None
    if re.match(r"inc|dec", i.name):
        return target, 1 if i.name.startswith("inc") else -1
    if re.match(r"(?:add|sub)[lq]?$", i.name) and len(i.operands) == 2:
        sign = 1 if i.name.startswith("add") else -1
        value = _constant(i.operands[0], setup)
        return None if value is None else (target, sign * value)
    if i.name.startswith("lea"):
        parts = re.fullmatch(r"(-?0x[0-9a-f]+|-?\d+)\((%\w+)\)", i.operands[0])
        if parts and parts[2] == target:
            return target, int(parts[1], 0)
    return None


def _constant(operand: str, setup: Sequence[Instruction]) -> int | None:
    """What an operand holds: a number, or a register that was set to one, once, before."""
    if operand.startswith("$"):
        value = int(operand[1:], 0)
        return value - (1 << 64) if value >= 1 << 63 else value
    wanted = {operand, "%e" + operand[2:] if operand[1:2] == "r" else operand}
    writes = [s for s in setup if s.operands and s.operands[-1] in wanted]
    if len(writes) == 1 and re.match(r"mov(?:abs)?[lq]?$", writes[0].name):
        source = writes[0].operands[0]
        return int(source[1:], 0) if source.startswith("$") else None
    return None


def loops(listing: str) -> list[Loop]:
    """Every loop of a listing (`objdump -d`, with or without `-l`), runtime glue left out."""
    lines = _lines(listing)
    found = []
    for function, body in functions(listing).items():
        if _RUNTIME.match(function):
            continue
        whole = tuple(Instruction(at, text) for at, text in body)
        frame = any(re.match(r"mov[q]?\s+%rsp,%rbp", i.text) for i in whole)
        sets = cycles(whole)
        for nodes in sets:
            inside = tuple(i for i in whole if i.address in nodes)
            setup = tuple(i for i in whole if i.address not in nodes)
            inner = not any(other < nodes for other in sets)
            found.append(Loop(function, inside, lines, frame, inner, setup))
    return found


def cycles(body: Sequence[Instruction]) -> list[frozenset[int]]:
    """The addresses of each loop of a function; loops with one head are one.

    A backward jump closes a loop where its target leads to it again between the two: jumps back to
    a common exit do not, and a loop that is entered in its middle counts like any other.
    """
    after: dict[int, list[int]] = {}
    known = {i.address for i in body}
    jumps: list[tuple[int, int]] = []
    for number, i in enumerate(body):
        target = jump_target(i.text)
        if target in known:
            after.setdefault(i.address, []).append(target)
            if target <= i.address:
                jumps.append((target, i.address))
        falls = not i.name.startswith(("ret", "jmp", "ud2"))
        if falls and number + 1 < len(body):
            after.setdefault(i.address, []).append(body[number + 1].address)
    before: dict[int, list[int]] = {}
    for start, ends in after.items():
        for end in ends:
            before.setdefault(end, []).append(start)
    found: dict[int, frozenset[int]] = {}
    for head, end in jumps:
        nodes = _reached(head, after, head, end) & _reached(end, before, head, end)
        if {head, end} <= nodes:
            found[head] = found.get(head, frozenset()) | nodes
    return list(found.values())


def _reached(start: int, edges: Mapping[int, Sequence[int]], low: int, high: int) -> frozenset[int]:
    """What lies on ways from `start` along `edges` between two addresses, and `start`."""
    seen, todo = {start}, [start]
    while todo:
        for other in edges.get(todo.pop(), ()):
            if low <= other <= high and other not in seen:
                seen.add(other)
                todo.append(other)
    return frozenset(seen)


def _lines(listing: str) -> dict[int, str]:
    """`kernel.cpp:12` by address, from the lines that `objdump -l` puts between."""
    found: dict[int, str] = {}
    current = ""
    for line in listing.splitlines():
        if named := _SOURCE.match(line):
            current = f"{named[2]}:{named[3]}"
        elif line.endswith(">:"):
            current = ""
        elif current and (at := _AT.match(line)):
            found[int(at[1], 16)] = current
    return found


def hot_loop(found: Sequence[Loop], hits: Iterable[int] = ()) -> tuple[Loop | None, float]:
    """The loop where the program is, and the share of `hits` (addresses seen running) in it.

    Of the loops that hold a hit the smallest counts. Without hits it is the innermost loop that
    does most: arithmetic, then memory, wide before narrow; the share is then 0.
    """
    if not found:
        return None, 0.0
    seen = list(hits)
    counts: dict[int, int] = {}
    for address in seen:
        holding = [n for n, v in enumerate(found) if address in v.addresses]
        if holding:
            best = min(holding, key=lambda n: len(found[n].body))
            counts[best] = counts.get(best, 0) + 1
    if counts:
        most = max(counts, key=counts.__getitem__)
        return found[most], counts[most] / len(seen)
    return max((v for v in found if v.inner), key=_weight, default=None), 0.0


def _weight(loop: Loop) -> tuple[float, int]:
    width = max((i.bits for i in loop.work if i.packed), default=32)
    return (len(loop.work) * 2 + len(loop.touches)) * width, len(loop.body)
