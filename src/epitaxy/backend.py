"""`torch.compile(model, backend="epitaxy")`: what the ledger knows, else PyTorch, aloud.

    torch.compile(model, backend="epitaxy", options={"fallback": "eager"})

Nothing is ever searched here: `epitaxy.optimize(model, example_inputs)` does that, and its result
is found again by the digest of graph and shapes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.errors import BadInput, BadProblem, UnknownName

FALLBACKS = ("inductor", "eager")
OPTIONS = ("fallback", "ledger")


def backend(
    graph_module: Any, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """The callable for one captured graph, for inference on the CPU.

    `options`: `fallback` names who takes a graph of which nothing is known ("inductor", "eager"),
    `ledger` a ledger's path. Raises BadInput and UnknownName for other options.
    """
    import torch

    from epitaxy.graphs import transcribe
    from epitaxy.known import bound

    chosen = _checked(options or {})
    reason = ""
    if torch.is_grad_enabled() and any(
        isinstance(x, torch.Tensor) and x.requires_grad for x in example_inputs
    ):
        reason = "gradients are on: kernels are for inference, call it under torch.no_grad()"
    else:
        try:
            found = bound(transcribe(graph_module, example_inputs), chosen["ledger"])
            if not isinstance(found, str):
                return found
            reason = found
        except BadProblem as error:
            reason = error.message
    fallback = chosen["fallback"]
    warnings.warn(
        f"epitaxy: {reason}; {fallback} takes the graph (epitaxy.optimize searches)",
        RuntimeWarning,
        stacklevel=2,
    )
    return _framework(fallback, graph_module, example_inputs)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in OPTIONS:
            raise UnknownName.of("option of the backend", name, list(OPTIONS))
    fallback = options.get("fallback", FALLBACKS[0])
    if fallback not in FALLBACKS:
        raise BadInput(f"unknown fallback {fallback!r}", f"use {' or '.join(FALLBACKS)}")
    ledger = options.get("ledger")
    return {"fallback": fallback, "ledger": Path(ledger) if ledger else None}


def _framework(name: str, graph_module: Any, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    if name == "eager":
        return graph_module.forward  # type: ignore[no-any-return]
    from torch._inductor.compile_fx import compile_fx

    made: Any = compile_fx(graph_module, list(example_inputs))
    return made  # type: ignore[no-any-return]
