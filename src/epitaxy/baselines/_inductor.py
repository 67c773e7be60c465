"""What the torch.compile baselines share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.compiler import find_compiler
from epitaxy.errors import NoCompiler
from epitaxy.toolchain import Availability

PRELOAD = ("torch._dynamo", "torch._inductor.compile_fx")
"""What takes seconds to import: the process that forks these baselines has it already."""


class Inductor:
    """torch.compile in its default mode. A baseline that only Inductor's settings tell from this
    one names its `mode`, which is tuned for what it runs on, with the weights folded in."""

    name: str
    torch = True
    devices: tuple[str, ...] = ("cpu", "cuda")
    preload = PRELOAD
    alone = False
    mode = ""

    def available(self) -> Availability:
        """Inductor writes C++ and needs a compiler for it."""
        try:
            return Availability(ok=True, detail=f"Inductor with {find_compiler()}")
        except NoCompiler as error:
            return Availability(ok=False, detail=error.message, mend=error.mend)

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """The compiled model; it tunes and compiles at its first call."""
        import torch
        from torch._inductor import config

        config.compile_threads = 1  # a pool of compiler processes would outlive the compilation
        config.cpp_wrapper = False
        config.cpp.threads = threads or -1
        if not self.mode:
            return torch.compile(model)
        config.freezing = True
        return torch.compile(model, mode=self.mode)
