"""Frozen records with one canonical encoding and a digest that covers every field.

A record is a frozen, keyword-only dataclass deriving from `Record`. Lists become tuples and
dicts become `FrozenDict` when it is built, so that a record is hashable all the way down.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from epitaxy.errors import BadInput

R = TypeVar("R", bound="Record")
V = TypeVar("V")


class FrozenDict(Mapping[str, V]):
    """An immutable, hashable mapping with string keys, kept in sorted order."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None, **more: Any) -> None:
        merged = {**(items or {}), **more}
        self._items = {str(k): freeze(merged[k]) for k in sorted(merged)}

    def __getitem__(self, key: str) -> V:
        return typing.cast(V, self._items[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self._items) == dict(other)

    def __repr__(self) -> str:
        return f"FrozenDict({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self._items),)


def freeze(value: Any) -> Any:
    """The immutable twin of `value`: tuples for lists, `FrozenDict` for dicts."""
    if isinstance(value, FrozenDict | Record) or value is None:
        return value
    if isinstance(value, Mapping):
        return FrozenDict(value)
    if isinstance(value, list | tuple):
        return tuple(freeze(v) for v in value)
    if isinstance(value, bool | int | float | str):
        return value
    raise BadInput(
        f"a record cannot hold a {type(value).__name__}",
        "use str, int, float, bool, None, tuples, mappings and records",
    )


def encode(value: Any) -> Any:
    """`value` as plain JSON data; non-finite floats become {"$float": "inf"}."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    return value


def canonical(value: Any) -> str:
    """The one text form of `value`: sorted keys, no spaces, floats by shortest repr."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_text(text: str) -> str:
    """The sha256 of `text`, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Base of every fact that is stored: immutable, comparable, digestible."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, freeze(getattr(self, field.name)))
        self.validate()

    def validate(self) -> None:
        """Raise `BadInput` when the fields contradict one another."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, every field included; `from_dict` reverses it."""
        return {f.name: encode(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls: type[R], data: Mapping[str, Any]) -> R:
        """Rebuild a record; unknown or missing fields are errors, never dropped."""
        hints = _hints(cls)  # type: ignore[arg-type]
        unknown = sorted(set(data) - set(hints))
        if unknown:
            raise BadInput(
                f"{cls.__name__} has no field {unknown[0]!r}", "was it written by a newer version?"
            )
        try:
            return cls(**{k: _decode(v, hints[k]) for k, v in data.items()})
        except TypeError as error:
            raise BadInput(
                f"cannot read a {cls.__name__}: {error}", "the data is incomplete"
            ) from None

    @property
    def digest(self) -> str:
        """sha256 of the type's name and every field."""
        return digest_text(f"{type(self).__name__}\n{canonical(self)}")

    @property
    def id(self) -> str:
        """The first twelve characters of the digest: what people type."""
        return self.digest[:12]

    def replace(self: R, **changes: Any) -> R:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[R]) -> type[R]:
    """Make `cls` a frozen, keyword-only dataclass: `@record class Chip(Record): ...`."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@functools.cache
def _hints(cls: type[Record]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _decode(value: Any, hint: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"$float"}:
        return float(value["$float"])
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        records = [a for a in args if isinstance(a, type) and issubclass(a, Record)]
        return _decode(value, records[0] if records and isinstance(value, dict) else _first(args))
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value)
    if isinstance(value, list):
        if len(args) == 2 and args[1] is not Ellipsis:
            return tuple(_decode(v, a) for v, a in zip(value, args, strict=True))
        inner = args[0] if args else Any
        if len(args) > 2:
            return tuple(_decode(v, a) for v, a in zip(value, args, strict=False))
        return tuple(_decode(v, inner) for v in value)
    if isinstance(value, dict):
        inner = args[1] if len(args) == 2 else Any
        return FrozenDict({k: _decode(v, inner) for k, v in value.items()})
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _first(args: tuple[Any, ...]) -> Any:
    return next((a for a in args if a is not type(None)), Any)


def make_callable(module: str, function: Any) -> None:
    """Let a module of one noun be called like its main function: `epitaxy.problem(...)`."""

    class Callable(types.ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    sys.modules[module].__class__ = Callable


def printable(text: str) -> str:
    """`text` without control characters: what comes from a candidate may go to a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
