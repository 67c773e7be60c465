"""Precision policies: how inexact a candidate may be, by name (`precision.toml`)."""

from __future__ import annotations

import functools
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path

from epitaxy.errors import BadInput, UnknownName
from epitaxy.record import FrozenDict, Record, record

STRICT = "fp32-strict"
OLD_NAMES: Mapping[str, str] = FrozenDict(fp32=STRICT)
"""Names in records of earlier versions."""
OPERANDS = ("none", "contractions", "all")


@record
class Precision(Record):
    """One policy: `operands` ("none", "contractions" or "all") may be rounded to `bits`.

    `bits` counts the leading one; 0 `largest` and `smallest`: float32's own. The limit on errors
    is `slack` times the error of the reference with its operands so rounded.
    """

    name: str
    about: str
    operands: str
    bits: int = 24
    largest: float = 0.0
    smallest: float = 0.0
    slack: float = 1.0

    def validate(self) -> None:
        if self.operands not in OPERANDS:
            raise BadInput(f"{self.name}: unknown operands", f"use one of {', '.join(OPERANDS)}")
        if not 2 <= self.bits <= 24 or self.slack < 1:
            raise BadInput(f"{self.name}: bits or slack out of range", "bits 2 to 24, slack >= 1")

    @property
    def narrow(self) -> bool:
        """Whether it permits anything narrower than the reference's own arithmetic."""
        return self.operands != "none"

    @property
    def rounding(self) -> float:
        """The largest relative error of rounding one operand: half a unit of the last place."""
        return float(2.0**-self.bits)


@functools.cache
def precisions() -> Mapping[str, Precision]:
    """Every policy by name, the most exact first."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    found = {k: Precision(name=k, **v) for k, v in tomllib.loads(text).items()}
    return types.MappingProxyType(found)  # in the file's order


def precision(name: str) -> Precision:
    """The policy of that name. Raises UnknownName with the nearest one."""
    known = precisions()
    name = OLD_NAMES.get(name, name)
    if name not in known:
        raise UnknownName.of("precision", name, known)
    return known[name]
