"""Measured chips on disk: one TOML per machine in <home>/chips."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip
from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.probe import host

FORMAT = 1
"""Raised when a stored chip no longer means the same; older files are then measured anew."""


def home() -> Path:
    """Where Epitaxy keeps its state: $EPITAXY_HOME or ~/.cache/epitaxy."""
    return Path(os.environ.get("EPITAXY_HOME") or Path.home() / ".cache" / "epitaxy")


def path() -> Path:
    """The file of this machine's measured chip, whether or not it exists."""
    return home() / "chips" / f"{host.fingerprint()}.toml"


def load_measured() -> Chip | None:
    """This machine's stored chip; None when it was never probed (or by an older format).

    Raises BadEnvironment when the file is there but cannot be read.
    """
    file = path()
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        if data.pop("format", 0) != FORMAT:
            return None
        return Chip.from_dict(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, BadInput) as error:
        raise BadEnvironment(
            f"cannot read {file}: {error}", "delete it and run `epitaxy probe`"
        ) from None


def save(chip: Chip) -> Path:
    """Write `chip` as this machine's, at once or not at all. Raises BadEnvironment."""
    return write(path(), {"format": FORMAT, **chip.to_dict()})


def write(file: Path, data: Mapping[str, Any]) -> Path:
    """`file` with `data` as TOML, at once or not at all. Raises BadEnvironment."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(to_toml(data), encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise BadEnvironment(
            f"cannot write {file}: {error.strerror or error}",
            "set EPITAXY_HOME to a writable folder",
        ) from None
    return file


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold this machine's probe lock: two probes at once would measure one another."""
    folder = home() / "chips"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise BadEnvironment(
            f"cannot write to {folder}: {error.strerror or error}",
            "set EPITAXY_HOME to a writable folder",
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def to_toml(data: Mapping[str, Any]) -> str:
    """Plain data (str, bool, int, float, lists, mappings, lists of mappings) as TOML."""
    lines: list[str] = []
    _table(data, "", lines)
    return "\n".join(lines) + "\n"


def _table(data: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    later = {}
    for key, value in data.items():
        nested = isinstance(value, list) and value and isinstance(value[0], Mapping)
        if isinstance(value, Mapping) or nested:
            later[key] = value
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in later.items():
        name = f"{prefix}{_key(key)}"
        for item in value if isinstance(value, list) else [value]:
            lines += ["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]"]
            _table(item, f"{name}.", lines)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in value)}]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
