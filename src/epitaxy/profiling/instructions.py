"""One x86-64 instruction as objdump and gcc print it (AT&T syntax): what it does to memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_PREFIX = re.compile(r"^(?:lock|rep[nz]?e?|bnd|notrack|data16)\s+")
_MEMORY = re.compile(r"(?P<shift>[-+]?(?:0x[0-9a-f]+|\d+))?\((?P<parts>[^)]*)\)$")
_BITS = (("%zmm", 512), ("%ymm", 256), ("%xmm", 128))
_PACKED = re.compile(r"v?\w*p[sdh]$|v?\w*ph$|vp(?:add|sub|mul|min|max)\w+")
_ARITHMETIC = re.compile(
    r"v?(?:add|sub|mul|div|sqrt|min|max|addsub|round|hadd|dp|rcp14|rsqrt14|rcp|rsqrt)"
    r"(?:[ps][sdh])|vfn?m(?:add|sub|addsub|subadd)\d*[ps][sdh]"
)
_SCALAR = re.compile(r"v?\w*s[sdh]$")
_FMA = re.compile(r"vfn?m(?:add|sub)")
_DIVIDE = re.compile(r"v?(?:div|sqrt)[ps][sdh]$|i?div[bwlq]?$")
_READS_LAST = re.compile(r"cmp|test|v?u?comis|bt[lqw]?$|push|prefetch|v?ptest|nop|call|jmp|ud|cl")
_STREAM = re.compile(r"v?movnt(?:ps|pd|dq|i)")
_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
_STACK = ("%rsp",)


@dataclass(frozen=True)
class Memory:
    """A memory operand: registers ("" where absent), scale and displacement in bytes."""

    base: str
    index: str
    scale: int
    shift: int

    @staticmethod
    def of(operand: str) -> Memory | None:
        """The memory that an operand names; None for a register or a constant."""
        if operand.startswith(("%fs:", "%gs:")):
            operand = operand[4:]
        match = _MEMORY.search(operand)
        if match is None:
            return None
        base, _, rest = match["parts"].replace(" ", "").partition(",")
        index, _, scale = rest.partition(",")
        shift = int(match["shift"] or "0", 0)
        return Memory(base, index, int(scale, 0) if scale else 1, shift)


@dataclass(frozen=True)
class Instruction:
    """`text` at `address`; of the operands the last is the one written, as AT&T has it."""

    address: int
    text: str

    @cached_property
    def locked(self) -> bool:
        """Whether it is an atomic read-modify-write (an xchg with memory always is)."""
        return self.text.startswith("lock ") or (
            self.name.startswith("xchg") and self.memory is not None
        )

    @cached_property
    def _bare(self) -> str:
        return _PREFIX.sub("", self.text)

    @cached_property
    def name(self) -> str:
        """The mnemonic without prefixes."""
        return self._bare.split(None, 1)[0]

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The operands in order."""
        _, _, rest = self._bare.partition(self.name)
        rest = re.sub(r"\s*<[^>]*>|\{[^}]*\}", "", rest).strip()
        return tuple(p.strip() for p in re.split(r",(?![^(]*\))", rest) if p.strip())

    @cached_property
    def memory(self) -> Memory | None:
        """The memory operand, an address that is only computed (lea) left out."""
        if self.name.startswith(("lea", "nop", "prefetch")):
            return None
        return next(filter(None, map(Memory.of, self.operands)), None)

    @cached_property
    def stores(self) -> bool:
        """Whether it writes to memory."""
        if self.memory is None or _READS_LAST.match(self.name):
            return False
        return Memory.of(self.operands[-1]) is not None

    @cached_property
    def loads(self) -> bool:
        """Whether it reads from memory: also what is then written there (addl $1, (%rax))."""
        if self.memory is None:
            return False
        return not self.stores or self.locked or not re.match(r"v?mov|set|st|vextract|vcvtps2ph",
                                                              self.name)  # fmt: skip

    @cached_property
    def bits(self) -> int:
        """The widest vector register named, in bits; 0 for none."""
        return next((bits for name, bits in _BITS if name in self.text), 0)

    @cached_property
    def arithmetic(self) -> bool:
        """Whether it computes on floating-point values."""
        return _ARITHMETIC.match(self.name) is not None

    @cached_property
    def packed(self) -> bool:
        """Whether it works on several values at once."""
        return (
            self.bits > 0
            and _SCALAR.match(self.name) is None
            and (_PACKED.match(self.name) is not None)
        )

    @cached_property
    def bytes(self) -> int:
        """Bytes that a memory operand covers; 0 where there is none, or it is not told."""
        if self.memory is None:
            return 0
        scalar = re.search(r"s([sdh])$", self.name)
        if self.bits and scalar and not self.name.startswith(("vbroadcast", "movs")):
            return {"s": 4, "d": 8, "h": 2}[scalar[1]]
        if broadcast := re.match(r"v?broadcasts([sd])|vpbroadcast([bwdq])", self.name):
            return {"s": 4, "d": 8, "b": 1, "w": 2, "q": 8}[broadcast[1] or broadcast[2]]
        if self.name in ("vmovd", "movd"):
            return 4
        if self.name in ("vmovq", "movq") and self.bits:
            return 8
        if self.bits:
            return self.bits // 8
        registers = [o for o in self.operands if o.startswith("%")]
        return _general(registers[-1] if registers else "", self.name)

    @cached_property
    def fma(self) -> bool:
        """A fused multiply-add."""
        return _FMA.match(self.name) is not None

    @cached_property
    def divides(self) -> bool:
        """A division or square root, which is not pipelined."""
        return _DIVIDE.match(self.name) is not None

    @cached_property
    def streams(self) -> bool:
        """A store past the caches."""
        return _STREAM.match(self.name) is not None

    @cached_property
    def calls(self) -> str:
        """The function that it calls, "?" for one by pointer; "" when it calls none."""
        if not self.name.startswith("call"):
            return ""
        named = re.search(r"<([^>@+]+)", self.text)
        return named[1] if named else "?"

    @cached_property
    def jumps(self) -> bool:
        """A jump, conditional or not."""
        return self.name.startswith("j") or self.name.startswith("loop")

    @cached_property
    def converts(self) -> bool:
        """A conversion between floating-point widths (float32 to float64 and back)."""
        return re.match(r"v?cvt(?:[sp]s2[sp]d|[sp]d2[sp]s)", self.name) is not None

    def on_stack(self, frame: bool) -> bool:
        """Whether its memory is the stack; `frame`: %rbp points there in this function."""
        where = self.memory
        stack = (*_STACK, "%rbp") if frame else _STACK
        return where is not None and where.base in stack


def _general(register: str, name: str) -> int:
    if register:
        bare = register.lstrip("%")
        if bare.startswith("r") and not bare.endswith(("d", "w", "b")):
            return 8
        if bare.startswith("e") or bare.endswith("d"):
            return 4
        return 2 if bare.endswith(("w", "x", "p", "i")) else 1
    return _SIZES.get(name[-1], 8)
