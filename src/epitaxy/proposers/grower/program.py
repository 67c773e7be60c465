"""A captured module as a straight-line program: grown regions between framework calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epitaxy.proposers.grower.algebra import Region


@dataclass(frozen=True)
class Ref:
    """A value of the program, by name, inside an argument tree."""

    name: str


@dataclass(frozen=True)
class RegionCall:
    """results = region(args); every argument is made contiguous first."""

    region: Region
    args: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class FrameworkCall:
    """results = target(*args, **kwargs): `target` is a dotted name such as
    "torch.ops.aten.addmm.default"; trees hold Refs and plain Python values."""

    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """`inputs` names one value for each forward argument (None for a non-tensor one);
    `state` maps value names to state_dict keys or attribute paths of parameters and buffers;
    `left` names what stays with the framework; `returns_tuple` keeps the reference's shape."""

    inputs: tuple[str | None, ...]
    state: tuple[tuple[str, str], ...]
    steps: tuple[RegionCall | FrameworkCall, ...]
    outputs: tuple[str, ...]
    returns_tuple: bool = False
    left: tuple[str, ...] = ()
