"""Static metrics of a built library, from its disassembly."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from epitaxy.errors import MachineFault
from epitaxy.record import FrozenDict
from epitaxy.toolchains import _confined

LISTING_BYTES = 8 << 20
"""A longer disassembly is not looked at: kernels are far below, and it would fill the memory."""
_LIMITS = {"cpu_s": 30, "memory_bytes": 2 << 30, "file_bytes": LISTING_BYTES}
_COUNTED = {
    "vector_fma": r"vfn?m(add|sub)\w*p[sdh]\b|fml[as]\s+v",
    "streaming_stores": r"v?movnt|stnp\s",
    "vector_spills": r"v?mov[au]p[sd]\s+%[xyz]mm\d+,-?(0x)?[0-9a-f]*\(%r[sb]p|st[rp]\s+q.*\[sp",
}
_INSTRUCTION = re.compile(r"\s+([0-9a-f]+):\t")
_ARM_VECTOR = re.compile(r"\bv\d+\.\d+[bhsd]\b")


def inspect_library(library: Path) -> FrozenDict[float]:
    """Static metrics of a library from its disassembly (x86-64 and AArch64).

    `code_bytes`, `vector_fma`, `streaming_stores`, `vector_spills` (vector stores to the stack,
    an estimate) and `vector_bits` (the widest register used). Empty when objdump is missing, or
    cannot list the library within its bounds.
    """
    return _counted(list_library(library).splitlines())


def list_library(library: Path, lines: bool = False) -> str:
    """The disassembly of a library's own code; `lines`: with the source lines it came from.

    "" when objdump is missing, or cannot list the library within its bounds.
    """
    objdump = shutil.which("objdump")
    if objdump is None or not library.is_file():
        return ""
    with (
        tempfile.TemporaryDirectory(prefix="epitaxy-") as name,
        tempfile.TemporaryFile() as listing,
    ):
        folder = Path(name)
        shutil.copyfile(library, folder / "kernel.so")
        how = ["-d", "--no-show-raw-insn", "-j", ".text", *(["-l"] if lines else [])]
        command = [objdump, *how, "kernel.so"]
        bounds = _confined.Bounds(_LIMITS["cpu_s"], 2 * library.stat().st_size + (1 << 20))
        try:
            ended = _confined.run(command, folder, listing, _LIMITS, bounds)
        except MachineFault:
            return ""
        if ended.status != 0 or listing.seek(0, os.SEEK_END) >= LISTING_BYTES:
            return ""
        listing.seek(0)
        return listing.read().decode(errors="replace")


def _counted(lines: Iterable[str]) -> FrozenDict[float]:
    patterns = {name: re.compile(pattern) for name, pattern in _COUNTED.items()}
    counts = dict.fromkeys(patterns, 0.0)
    first = last = ""
    bits = 0
    for line in lines:
        _, tab, text = line.partition("\t")
        if not tab:
            continue
        address = _INSTRUCTION.match(line)
        if address:
            first, last = first or address[1], address[1]
        for name, pattern in patterns.items():
            counts[name] += pattern.match(text) is not None
        bits = max(bits, _bits(text))
    if not last:
        return FrozenDict()
    code_bytes = float(int(last, 16) - int(first, 16))
    return FrozenDict({"code_bytes": code_bytes, **counts, "vector_bits": float(bits)})


def _bits(text: str) -> int:
    """The widest vector register that an instruction names, in bits."""
    for name, bits in (("%zmm", 512), ("%ymm", 256), ("%xmm", 128)):
        if name in text:
            return bits
    return 128 if _ARM_VECTOR.search(text) else 0
