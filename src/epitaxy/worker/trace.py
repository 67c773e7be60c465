"""Which operators of PyTorch a candidate's calls use, in a process that is never timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HARMLESS = frozenset(
    """
    empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros view
    _unsafe_view reshape _reshape_alias t transpose permute slice select expand squeeze unsqueeze
    as_strided detach alias clone copy_ split split_with_sizes unbind lift_fresh resize_ set_
    _to_copy fill_ zero_
""".split()  # noqa: SIM905 (a list of so many words is hard to read)
)
"""Operators that allocate, look at memory in another way, or copy it."""


class Trace:
    """Calls a function and keeps the first operator that computes."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.used = ""
        self._call, self._mode = call, _mode(self)

    def __call__(self, *arguments: Any) -> Any:
        with self._mode:
            return self._call(*arguments)


def warm() -> None:
    """Import what tracing needs, which a confined process could not: it makes folders."""
    import torch

    Trace(torch.empty)(0)


def _mode(trace: Trace) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    base: Any = TorchDispatchMode

    class Mode(base):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__
            if name not in HARMLESS:
                trace.used = trace.used or name
            return func(*args, **(kwargs or {}))

    return Mode()
