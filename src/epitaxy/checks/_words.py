"""The word lists of `words.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def table() -> dict[str, Any]:
    """Everything in `words.toml`."""
    text = (resources.files("epitaxy.checks") / "words.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def listed(section: str, name: str) -> frozenset[str]:
    """The words of one list, such as `listed("cpp", "never")`."""
    return frozenset(table()[section][name].split())
