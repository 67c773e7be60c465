"""Run a model in float64, also where it asks for narrower types by name."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NARROW = (torch.float32, torch.bfloat16, torch.float16)
_CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)


class _Widening(TorchFunctionMode):
    """Makes every request for a narrower float a request for float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _CASTS:
            return args[0].double()
        wide = {key: _widened(value) for key, value in (kwargs or {}).items()}
        return func(*[_widened(a) for a in args], **wide)


def _widened(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value


@contextlib.contextmanager
def widening() -> Iterator[None]:
    """Floats made or cast in here are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widening():
            yield
    finally:
        torch.set_default_dtype(before)


def widen(model: Any) -> Any:
    """A copy of a module in float64, plain tensor attributes included; a function as it is."""
    if not isinstance(model, torch.nn.Module):
        return model
    wide = copy.deepcopy(model).double()
    for module in wide.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    return wide
