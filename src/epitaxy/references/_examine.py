"""A first trial of a reference: what cannot be judged at all is refused here."""

from __future__ import annotations

from typing import Any

import torch

from epitaxy.errors import BadProblem
from epitaxy.memory import available_bytes
from epitaxy.references._live import Live, line, spec
from epitaxy.references._memory import memory_guard
from epitaxy.references._tensors import cloned, same
from epitaxy.worker.loading import flatten


def examine(live: Live, given: list[Any]) -> list[Any]:
    """Run the reference twice and refuse what cannot be judged; its outputs."""
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    for x in tensors:
        spec(x)
    need = 6 * sum(x.numel() * x.element_size() for x in tensors)
    if need > available_bytes():
        raise BadProblem(
            f"{live.name}: judging needs about {need / 2**30:.0f} GiB of memory",
            "make its inputs smaller",
        )
    runs = []
    for _ in range(2):
        own = cloned(given)
        try:
            with memory_guard(live.name), torch.no_grad():
                result = live.callable(*own)
        except BadProblem:
            raise
        except Exception as error:
            raise BadProblem(
                f"{live.name}: the reference raises {line(error)}", "make it run on get_inputs()"
            ) from None
        flat = flatten(result)
        if not flat or not all(isinstance(t, torch.Tensor) for t in flat):
            kinds = ", ".join(sorted({type(t).__name__ for t in flat})) or "nothing"
            raise BadProblem(
                f"{live.name} returns {kinds}", "return a tensor or a tuple of tensors"
            )
        if not all(
            same(x, y) for x, y in zip(own, given, strict=True) if isinstance(x, torch.Tensor)
        ):
            raise BadProblem(f"{live.name} changes its own inputs", "work on a copy")
        runs.append([t.detach() for t in flat])
    for first, second in zip(*runs, strict=True):
        spec(first)
        if first.is_floating_point() and bool(torch.isnan(first).any()):
            raise BadProblem(
                f"{live.name} returns NaN on its own inputs", "give inputs in its domain"
            )
        if first.shape != second.shape or not _close(first, second):
            raise BadProblem(
                f"{live.name} is not deterministic", "remove randomness and state from forward"
            )
    return runs[0]


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return bool(torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True))
