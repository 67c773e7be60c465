"""The decisions that fix a Triton candidate, as text and back; what they may be on a chip."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from epitaxy.proposers._genomes import of, read

__all__ = ["DECISIONS", "Choices", "Genome", "changed", "of", "parse", "text"]

DECISIONS: dict[str, str] = {
    "block_m": "rows of the result (or positions of an element-wise loop) that one program has",
    "block_n": "columns, or elements along the reduced axes, that one program holds at once",
    "block_k": "steps along the contracted axis between two loads of a product's operands",
    "warps": "warps (wavefronts on AMD) of one program",
    "stages": "loads of a product's operands in flight at once",
    "group": "row blocks of a product whose programs run after one another, for the L2 cache",
    "split": "pieces that a long reduction is cut into for programs of their own, 0: none",
    "skip": "1: keys that positions mask away are left out (a NaN among their values is lost), "
    "0: they weigh nothing",
    "operands": "of float32 products, 0: as they are, 1: three products of their tf32 halves, "
    "2: rounded to tf32",
}


@dataclass(frozen=True)
class Choices:
    """The decisions for one region; see DECISIONS."""

    block_m: int = 1
    block_n: int = 1024
    block_k: int = 32
    warps: int = 4
    stages: int = 2
    group: int = 8
    split: int = 0
    operands: int = 1
    skip: int = 0

    def __getitem__(self, decision: str) -> int:
        return int(getattr(self, decision))

    def __str__(self) -> str:
        return " ".join(f"{k}={v}" for k, v in asdict(self).items())


Genome = tuple[tuple[str, Choices], ...]
"""Choices for every region of a program, by region name."""


def text(genome: Genome) -> str:
    """The genome as text; `parse` reads it."""
    return " ".join(f"{name}({choices})" for name, choices in genome)


def changed(genome: Genome, region: str, decision: str, value: int) -> Genome:
    """A copy with one decision of one region changed."""
    return tuple((n, replace(c, **{decision: value}) if n == region else c) for n, c in genome)


def parse(printed: str) -> Genome:
    """Read a printed genome. Raises BadInput on unknown decisions or broken text."""
    return read(printed, list(DECISIONS), lambda d: Choices(**d), "region0(block_m=64 ...)")
