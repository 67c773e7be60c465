"""Numbers and units as profilers print them, in base units."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PREFIXES: Mapping[str, float] = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
}  # fmt: skip
_BASES: Mapping[str, str] = {
    "byte": "byte", "bytes": "byte", "B": "byte", "second": "s", "seconds": "s", "sec": "s",
    "s": "s", "Hz": "cycle/s", "hz": "cycle/s", "cycle": "cycle", "%": "%", "percent": "%",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d[\d,]*(?:\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def number(text: str) -> float | None:
    """A printed number, thousands in groups or not; None where it is none ("n/a", "")."""
    plain = text.strip()
    if not _NUMBER.fullmatch(plain):
        return None
    return float(plain.replace(",", ""))


def base(value: float, unit: str) -> tuple[float, str]:
    """Value and unit in base units: 3 "usecond" is 3e-6 "s"; a unit that is not known stays."""
    top, slash, bottom = unit.partition("/")
    up, top = _scale(top)
    down, bottom = _scale(bottom) if slash else (1.0, "")
    if top == "cycle/s":
        return value * up, top
    return value * up / down, f"{top}/{bottom}" if slash else top


def _scale(unit: str) -> tuple[float, str]:
    if unit in _BASES:
        return 1.0, _BASES[unit]
    if unit[:1] in _PREFIXES and unit[1:] in _BASES:
        return _PREFIXES[unit[0]], _BASES[unit[1:]]
    return 1.0, unit
