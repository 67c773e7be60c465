"""What the torch.compile baselines share."""

from __future__ import annotations

from typing import Any

from epitaxy.compiler import find_compiler
from epitaxy.errors import NoCompiler
from epitaxy.toolchain import Availability

PRELOAD = ("torch._dynamo", "torch._inductor.compile_fx")
"""What takes seconds to import: the process that forks these baselines has it already."""


def available() -> Availability:
    """Inductor writes C++ and needs a compiler for it."""
    try:
        return Availability(ok=True, detail=f"Inductor with {find_compiler()}")
    except NoCompiler as error:
        return Availability(ok=False, detail=error.message, mend=error.mend)


def settle(threads: int) -> None:
    """Compile in this process alone, for this many threads."""
    from torch._inductor import config

    config.compile_threads = 1  # a pool of compiler processes would outlive the compilation
    config.cpp_wrapper = False
    config.cpp.threads = threads or -1


def tuned(model: Any, threads: int, mode: str) -> Any:
    """The model compiled under one of the modes that try hardest, the weights folded in; it tunes
    and compiles at its first call."""
    import torch
    from torch._inductor import config

    settle(threads)
    config.freezing = True
    return torch.compile(model, mode=mode)
