"""Find the text of a problem: a file, `package.module:Name`, or a decorated function."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from epitaxy.errors import BadProblem
from epitaxy.problem import Policy

Found = tuple[str, str, str, Path | None]
"""name, source text, entry ("" = decide by content), folder for the TOML beside it."""


def find(target: str | Path | Callable[..., Any]) -> Found:
    """Name, text, entry and path of `target`. Raises BadProblem."""
    if callable(target):
        return _function(target)
    text = str(target)
    module, colon, entry = text.partition(":")
    if colon and not Path(text).exists() and not module.endswith(".py"):
        return _module(module, entry)
    if colon and module.endswith(".py"):
        return (*_file(Path(module))[:2], entry, Path(module))
    name, source, _, path = _file(Path(text))
    return name, source, "", path


def _file(path: Path) -> Found:
    if not path.exists():
        raise BadProblem(f"no such file: {path}", "give a Python file or package.module:Class")
    if path.is_dir():
        raise BadProblem(f"{path} is a folder", "give one file; `epitaxy bench` takes folders")
    try:
        return path.stem, path.read_text(encoding="utf-8-sig"), "", path
    except (OSError, UnicodeDecodeError) as error:
        raise BadProblem(f"{path} cannot be read: {error}", "give a readable text file") from None


def _module(module: str, entry: str) -> Found:
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise BadProblem(
            f"cannot import {module}: {error}", "install it or check the name"
        ) from None
    if not hasattr(found, entry):
        raise BadProblem(f"{module} has no {entry!r}", "give package.module:Class")
    return entry, _text(found, module), entry, None


def _function(function: Callable[..., Any]) -> Found:
    module = inspect.getmodule(function)
    if module is None:
        raise BadProblem(f"no module holds {function!r}", "define the function in a file")
    return function.__name__, _text(module, module.__name__), function.__name__, None


def _text(module: Any, name: str) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        raise BadProblem(
            f"{name} has no Python source", "give a module written in Python"
        ) from None


def policy_beside(path: Path | None) -> Policy:
    """The policy in `NAME.toml` beside `NAME.py`, or the default. Raises BadProblem."""
    beside = path.with_suffix(".toml") if path else None
    if beside is None or not beside.exists():
        return Policy()
    try:
        table = tomllib.loads(beside.read_text(encoding="utf-8"))["epitaxy"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise BadProblem(
            f"{beside.name} cannot be read: {error}", "it needs an [epitaxy] table"
        ) from None
    known = {f.name for f in dataclasses.fields(Policy)}
    for key in table:
        if key not in known:
            raise BadProblem(
                f"{beside.name}: unknown key {key!r}", f"known: {', '.join(sorted(known))}"
            )
    return Policy(**table)
