"""The decisions that fix a Triton candidate, as text and back; what they may be on a chip."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace

from epitaxy.errors import BadInput

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

    def __str__(self) -> str:
        return " ".join(f"{k}={v}" for k, v in asdict(self).items())


Genome = tuple[tuple[str, Choices], ...]
"""Choices for every region of a program, by region name."""
_KNOWN = {f.name for f in fields(Choices)}


def text(genome: Genome) -> str:
    """The genome as text; `parse` reads it."""
    return " ".join(f"{name}({choices})" for name, choices in genome)


def of(genome: Genome, region: str) -> Choices:
    """The choices for one region. Raises BadInput for an unknown one."""
    for name, choices in genome:
        if name == region:
            return choices
    raise BadInput(f"the genome says nothing of {region!r}", "replay it with its own problem")


def changed(genome: Genome, region: str, **decisions: int) -> Genome:
    """A copy with some decisions of one region changed."""
    return tuple((n, replace(c, **decisions) if n == region else c) for n, c in genome)


def parse(printed: str) -> Genome:
    """Read a printed genome. Raises BadInput on unknown decisions or broken text."""
    regions = []
    for name, body in re.findall(r"(\w+)\(([^()]*)\)", printed):
        pairs = [item.partition("=") for item in body.split()]
        unknown = [k for k, _, _ in pairs if k not in _KNOWN]
        if unknown:
            raise BadInput(
                f"unknown decision {unknown[0]!r} in a genome", f"known: {', '.join(DECISIONS)}"
            )
        try:
            regions.append((name, Choices(**{k: int(v) for k, _, v in pairs})))
        except ValueError:
            raise BadInput(
                f"a decision of {name} is not a number: {body}", "write name=integer"
            ) from None
    if not regions:
        raise BadInput(f"no region in genome {printed[:40]!r}", "write region0(block_m=64 ...)")
    return tuple(regions)
