"""How a module was made: what its constructor decided, beyond shapes and weights.

A kernel is captured from one instance, and holds its `eps`, its number of layers, its activation.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

Part = tuple[str, str, tuple[str, ...], dict[str, Any]]
"""Path in the module, name of its class ("" for the module itself), names of its parameters and
buffers, its plain attributes."""
LONGEST = 200
"""Characters of an attribute that is written down."""
_OF_SHAPES = frozenset({
    "in_features", "out_features", "in_channels", "out_channels", "num_features",
    "normalized_shape", "bias", "affine", "num_embeddings", "embedding_dim", "input_size",
    "hidden_size", "elementwise_affine", "device", "dtype",
})  # fmt: skip
"""What shapes, dtypes and names of parameters say already."""
_OF_TRAINING = frozenset({"inplace", "momentum"})


def made_as(model: Any) -> tuple[Part, ...]:
    """The parts of `model`; () where its constructor takes nothing, and so decides nothing."""
    takes = inspect.signature(type(model).__init__).parameters if "__init__" in _own(model) else {}
    if len(takes) < 2:
        return ()
    return tuple(
        (path, type(part).__name__ if path else "", _tensors(part), dict(sorted(_plain(part))))
        for path, part in model.named_modules()
    )


def _own(model: Any) -> set[str]:
    """Names that its classes below PyTorch's base define."""
    import torch

    return {n for c in type(model).__mro__ if not issubclass(torch.nn.Module, c) for n in vars(c)}


def _tensors(part: Any) -> tuple[str, ...]:
    held = {**part._parameters, **part._buffers}
    return tuple(sorted(name for name, value in held.items() if value is not None))


def _plain(part: Any) -> Iterator[tuple[str, Any]]:
    """Attributes that decide what it computes. Of PyTorch's own classes those that the
    constructor is given: the others differ from version to version."""
    import torch

    every = set(vars(part)) - set(vars(torch.nn.Module())) - _OF_TRAINING
    if type(part).__module__.split(".")[0] == "torch":
        every &= _takes(type(part)) - _OF_SHAPES
        if "Dropout" in type(part).__name__:
            every.clear()
    for name in every:
        value = vars(part)[name]
        if inspect.isroutine(value):
            value = value.__qualname__
        value = tuple(value) if isinstance(value, torch.Size) else value
        if _is_plain(value) and len(repr(value)) <= LONGEST:
            yield name, value


def _takes(kind: type) -> set[str]:
    """Names of the constructor's arguments; those that it only hands on are of its base."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            given = inspect.signature(vars(base)["__init__"]).parameters.values()
            names |= {p.name for p in given}
            if not any(p.kind is p.VAR_KEYWORD for p in given):
                break
    return names


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
