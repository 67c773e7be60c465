"""Records as pydantic models, so that the protocol can say what a tool answers."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from epitaxy.record import FrozenDict, Record

_made: dict[type[Record], type[BaseModel]] = {}


def model_of(kind: type[Record]) -> type[BaseModel]:
    """The model with the fields of a record; its description is the record's docstring."""
    if kind not in _made:
        _made[kind] = _model(kind)
    return _made[kind]


def _model(kind: type[Record]) -> type[BaseModel]:
    hints = typing.get_type_hints(kind)
    fields: dict[str, Any] = {
        f.name: (plain(hints[f.name]), _default(f)) for f in dataclasses.fields(kind)
    }
    made: type[BaseModel] = create_model(
        kind.__name__,
        __config__=ConfigDict(extra="forbid"),
        __doc__=inspect.cleandoc(kind.__doc__ or kind.__name__),
        **fields,
    )
    return made


def _default(field: dataclasses.Field[Any]) -> Any:
    return ... if field.default is dataclasses.MISSING else Field(default=None)


def plain(hint: Any) -> Any:
    """A record's type as the one that its JSON form has."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return typing.Union[tuple(plain(a) for a in args)]  # noqa: UP007 (built at run time)
    if isinstance(hint, type) and issubclass(hint, Record):
        return model_of(hint)
    if origin is FrozenDict:
        return dict[str, plain(args[0])]  # type: ignore[misc]
    if origin is tuple:
        inner = [a for a in args if a is not Ellipsis]
        return list[plain(inner[0])]  # type: ignore[misc]
    return hint


def filled(record: Record) -> BaseModel:
    """The record as its model."""
    return model_of(type(record)).model_validate(record.to_dict())
