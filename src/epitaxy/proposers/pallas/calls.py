"""What all Pallas kernels have: the limits of VMEM, and the call that runs one over its grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epitaxy.chip import Chip
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.pallas.expressions import STORED

BUFFERS = 2
"""Pallas has each block twice: one is computed on while the other is copied."""


@dataclass(frozen=True)
class Limits:
    """What a TPU's file says: bytes of VMEM, lanes and sublanes of a register."""

    vmem_bytes: int
    lanes: int
    sublanes: int

    def bytes(self, block: Sequence[int | None], dtype: str) -> int:
        """Bytes of a block in VMEM, whose registers are filled up; None is one place."""
        *outer, rows, columns = (1 if n is None else n for n in block)
        item = STORED[dtype]
        tall = self.sublanes * max(1, 4 // item)
        total = -(-rows // tall) * tall * -(-columns // self.lanes) * self.lanes * item
        for n in outer:
            total *= n
        return total

    def hold(self, needed: int) -> None:
        """Raises Unsupported where `needed` bytes of blocks and values are more than VMEM has."""
        if needed > self.vmem_bytes:
            raise Unsupported(f"{needed} bytes of blocks, VMEM has {self.vmem_bytes} (vmem_mib)")


def limits(chip: Chip) -> Limits:
    """The chip's limits. Raises Unsupported where its file does not know them."""
    found = {}
    for name in ("vmem_mib", "lanes", "sublanes"):
        fact = chip.facts.get(name)
        if fact is None:
            raise Unsupported(f"a chip whose file does not know {name}")
        found[name] = int(fact.value)
    return Limits(found["vmem_mib"] << 20, found["lanes"], found["sublanes"])


@dataclass(frozen=True)
class Result:
    """One array that a call makes."""

    name: str
    spec: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Call:
    """A kernel over a grid; `inputs` are arguments with their specs, `scratch` shapes in VMEM of
    float32 that the steps of the last dimension of the grid hand on."""

    kernel: str
    grid: tuple[int, ...]
    inputs: tuple[tuple[str, str], ...]
    results: tuple[Result, ...]
    vmem_bytes: int
    scratch: tuple[tuple[int, ...], ...] = ()

    def lines(self) -> tuple[str, ...]:
        """The statement."""
        one = len(self.results) == 1
        shapes = [f"jax.ShapeDtypeStruct({r.shape}, jnp.{r.dtype})" for r in self.results]
        orders = ['"parallel"'] * len(self.grid)
        if self.scratch:
            orders[-1] = '"arbitrary"'
        semantics = f"({', '.join(orders)}{',' if len(orders) == 1 else ''})"
        scratch = [f"pltpu.VMEM({s}, jnp.float32)" for s in self.scratch]
        return (
            f"{', '.join(r.name for r in self.results)} = pl.pallas_call(",
            f"    {self.kernel},",
            f'    name="{self.kernel.lstrip("_")}",',
            f"    grid={self.grid},",
            *_listed("in_specs", [spec for _, spec in self.inputs], False),
            *_listed("out_specs", [r.spec for r in self.results], one),
            *_listed("out_shape", shapes, one),
            *(_listed("scratch_shapes", scratch, False) if scratch else []),
            "    compiler_params=pltpu.CompilerParams(",
            f"        dimension_semantics={semantics}, vmem_limit_bytes={self.vmem_bytes}",
            "    ),",
            "    interpret=_epitaxy_interpret,",
            ")(",
            *(f"    {argument}," for argument, _ in self.inputs),
            ")",
        )


def _listed(name: str, items: Sequence[str], one: bool) -> list[str]:
    if one:
        return [f"    {name}={items[0]},"]
    return [f"    {name}=[", *(f"        {x}," for x in items), "    ],"]
