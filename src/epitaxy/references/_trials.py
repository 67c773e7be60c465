"""Trials of a reference: outputs that took no thought, inputs and parameters changed one by one."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from epitaxy.memory import available_bytes
from epitaxy.references._live import Live
from epitaxy.references._tensors import cloned, floats, same

COPY = "a copy of "
STALE = "outputs of other inputs"


class Trials:
    """What lint asks of a reference. `live` is its module and its own inputs."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def names(self, count: int) -> list[str]:
        """The names of the first `count` inputs, as forward calls them."""
        model = self._live.callable
        target = model.forward if isinstance(model, torch.nn.Module) else model
        try:
            found = [
                p.name
                for p in inspect.signature(target).parameters.values()
                if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            ]
        except (TypeError, ValueError):
            found = []
        return [*found[:count], *(f"input {i}" for i in range(len(found), count))]

    def thoughtless(self, count: int) -> list[str]:
        """What needs no computation, for a problem with `count` inputs: `fake` makes it."""
        return ["zeros", "a constant", *(COPY + n for n in self.names(count)), STALE]

    def fake(self, what: str, inputs: Sequence[Any], honest: Any, earlier: Any) -> Any:
        """One output of the kind `what`, like `honest`; None where it cannot be had so.

        `earlier` is the same output on other inputs: what recycled memory may hold, and where a
        constant that suits is taken from.
        """
        if what == "zeros":
            return torch.zeros_like(honest)
        if what == "a constant":
            return _constant(earlier)
        if what == STALE:
            return earlier
        return _as(inputs[self.names(len(inputs)).index(what.removeprefix(COPY))], honest)

    def changed(
        self, inputs: Sequence[Any], number: int, others: Sequence[Any]
    ) -> list[Any] | None:
        """`inputs` with input `number` taken from `others`, or moved about; None: it cannot be."""
        own = cloned(inputs)
        x, y = inputs[number], others[number]
        if not isinstance(x, torch.Tensor):
            if not isinstance(x, int | float):
                return None
            own[number] = (not x) if isinstance(x, bool) else x + 1
            return own
        if same(x, y):
            y = x.roll(1, -1) if x.dim() else x + 1
        if same(x, y) and bool((x == x).all()):
            y = torch.randn(x.shape).to(x.dtype) if floats(x) and bool(x.isfinite().all()) else y
        if same(x, y):
            return None
        own[number] = y.clone()
        return own

    def parameters(self) -> list[str]:
        """Names of parameters and buffers that hold floats, or several integers."""
        return [
            name
            for name, t in self._live.state().items()
            if t.numel() and (t.is_floating_point() or t.numel() > 1)
        ]

    def plain(self) -> list[str]:
        """Names of buffers that are all 0 or all 1: neutral, to add or to multiply by.

        (Parameters are not: the judge gives them other values.)
        """
        model = self._live.callable
        if not isinstance(model, torch.nn.Module):
            return []
        return [
            name
            for name, t in model.state_dict().items()
            if t.is_floating_point() and t.numel() > 1 and bool((t == t.reshape(-1)[0]).all())
            and float(t.reshape(-1)[0]) in (0.0, 1.0)
        ]  # fmt: skip

    @contextlib.contextmanager
    def disturbed(self, name: str, seed: int = 0) -> Iterator[None]:
        """In here the parameter `name` has other values, of about its own size."""
        target = self._live.state()[name]
        kept = target.clone()
        generator = torch.Generator().manual_seed(seed)
        try:
            if target.is_floating_point():
                size = float(kept.double().square().mean().sqrt()) or 1.0
                noise = torch.randn(kept.shape, generator=generator).to(kept.dtype)
                target.copy_(kept + size * noise)
            else:
                target.copy_(kept.roll(1, -1))
            yield
        finally:
            target.copy_(kept)

    def unsteady(self, inputs: Sequence[Any]) -> list[str]:
        """Names of parameters and buffers that a call changes."""
        before = {name: t.clone() for name, t in self._live.state().items()}
        with torch.no_grad():
            self._live.callable(*cloned(inputs))
        return [n for n, t in self._live.state().items() if not same(t, before[n])]

    def same(self, a: Any, b: Any) -> bool:
        """Whether two inputs hold the same."""
        return same(a, b) if isinstance(a, torch.Tensor) else bool(a == b)

    def tensors(self, inputs: Sequence[Any]) -> list[int]:
        """The places of tensors among `inputs`."""
        return [i for i, x in enumerate(inputs) if isinstance(x, torch.Tensor)]

    def available_bytes(self) -> int:
        """Memory that can still be taken."""
        return available_bytes()


def _constant(outputs: torch.Tensor) -> torch.Tensor:
    """The one value that suits best: the middle of floats, the commonest integer."""
    if not outputs.is_floating_point():
        return torch.full_like(outputs, outputs.reshape(-1).mode().values.item())
    low, high = outputs.min().item(), outputs.max().item()
    return torch.full_like(outputs, (low + high) / 2)


def _as(x: Any, like: torch.Tensor) -> torch.Tensor | None:
    """An input in the shape and dtype of an output, if it has as many elements."""
    if not isinstance(x, torch.Tensor) or x.numel() != like.numel():
        return None
    return x.reshape(like.shape).to(like.dtype)
