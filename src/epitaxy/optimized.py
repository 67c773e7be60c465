"""`epitaxy.optimize`: a module in, the same module with a proven faster forward out."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from epitaxy.errors import BadInput, BadProblem

TOLERANCE = 1e-3
"""Largest error of the whole module's outputs, as a part of |output| + its root mean square.

The judge has held the kernel to float64 already; this finds what was put together wrongly."""


def optimize(
    model: Any,
    example_inputs: Sequence[Any],
    *,
    budget: str = "2m",
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    seed: int = 0,
) -> Any:
    """`model` with a forward that is shown to be faster here, or `model` itself, said aloud.

    What is returned shares parameters and submodules with `model`, and has its class's constructor
    and its state_dict. Its kernels serve inference on inputs of the example's shapes and dtypes;
    training, gradients and other inputs are `model`'s own, with one warning for each reason.
    Report, verdict and export are left in `out` when it is given. Raises BadInput for what is no
    module with tensors, BadProblem where PyTorch cannot capture it as one graph.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise BadInput(f"a {type(model).__name__} is no module", "give a torch.nn.Module")
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
    if not all(isinstance(x, torch.Tensor) and x.device.type == "cpu" for x in inputs):
        raise BadInput("the example inputs are not tensors on the CPU", "give a list of tensors")
    with _evaluating(model):
        graph_module, arguments = captured(model, tuple(inputs))
        found = _searched(graph_module, arguments, budget, out, ledger, seed)
        if found is None:
            return model
        new = _Product(model, tuple(inputs), found, arguments).bind(model)
        with torch.no_grad():
            worst = _error(new(*inputs), model(*inputs))
    if not worst <= TOLERANCE:
        _say(f"the whole module's outputs are off by {worst:.1e}: the original is returned")
        return model
    return new


def captured(model: Any, inputs: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """The one graph that TorchDynamo makes of `model` in eval mode, and the graph's arguments.

    Raises BadProblem where there is not one.
    """
    import torch

    graphs: list[tuple[Any, list[Any]]] = []

    def keep(module: Any, arguments: list[Any]) -> Any:
        graphs.append((module, list(arguments)))
        return module.forward

    dynamo: Any = torch._dynamo
    dynamo.reset_code(type(model).forward.__code__)
    try:
        with torch.no_grad():
            compiled: Any = torch.compile(model, backend=keep, fullgraph=True, dynamic=False)
            compiled(*inputs)
    except Exception as error:  # Dynamo raises almost anything
        lines = [x.strip() for x in str(error).splitlines() if x.strip()]
        raise BadProblem(
            f"PyTorch cannot capture the module as one graph: {(lines or [''])[0]}",
            "avoid Python control flow that depends on values, or optimize its parts",
        ) from None
    if len(graphs) != 1:
        raise BadProblem(
            f"PyTorch makes {len(graphs)} graphs of the module", "optimize its parts one by one"
        )
    return graphs[0]


def _searched(
    graph_module: Any,
    arguments: Sequence[Any],
    budget: str,
    out: str | Path | None,
    ledger: str | Path | None,
    seed: int,
) -> Any:
    """The kernel of the best candidate as a `known.Bound`; None when nothing is faster."""
    from epitaxy.commands.run import Options, leave, search
    from epitaxy.graphs import transcribe
    from epitaxy.known import Bound, Winner, product
    from epitaxy.ledger import Ledger
    from epitaxy.problem import load
    from epitaxy.report import headline, won

    graph = transcribe(graph_module, arguments)
    problem = load(graph.write(Ledger.default_path().parent / "graphs"))
    options = Options(budget=budget, seed=seed, ledger=Path(ledger) if ledger else None)
    run, interrupted = search(problem, options)
    if out is not None:
        leave(run, Path(out))
    if interrupted:
        raise KeyboardInterrupt
    _say(f"{graph.name}: {headline(run)}")
    if run.best is None or not won(run):
        _say("the original is returned")
        return None
    return Bound(product(Winner(problem, *run.best)), graph)


class _Product:
    """What the instances of an optimized class share: kernel, guards, where parameters lie."""

    def __init__(
        self, model: Any, inputs: tuple[Any, ...], kernel: Any, arguments: Sequence[Any]
    ) -> None:
        from torch.utils import _pytree

        self.original = type(model).forward
        self.kernel = kernel
        self.specs = [(x.shape, x.dtype) for x in inputs]
        self.sources = [_source(x, model, inputs) for x in arguments]
        self.structure = _pytree.tree_structure(model(*inputs))
        self.warned: set[str] = set()

    def bind(self, model: Any) -> Any:
        """A shallow copy of `model` of a subclass whose forward is the kernel."""
        import copy

        product = self

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            return product.call(self, args, kwargs)

        base = type(model)
        made = type(
            base.__name__, (base,), {"forward": forward, "__doc__": base.__doc__,
                                     "__module__": base.__module__},
        )  # fmt: skip
        new = copy.copy(model)
        new.__class__ = made
        return new

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The kernel's result, or the original's where the call is outside its guards."""
        from torch.utils import _pytree

        state = {s: _at(module, s) for s in self.sources if isinstance(s, str)}
        reason = self._why(module, args, kwargs, state.values())
        if reason:
            if reason not in self.warned:
                self.warned.add(reason)
                warnings.warn(
                    f"{type(module).__name__}: the original runs instead of the kernel: {reason}",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return self.original(module, *args, **kwargs)
        values = [state[s] if isinstance(s, str) else args[s] for s in self.sources]
        return _pytree.tree_unflatten(list(self.kernel(*values)), self.structure)

    def _why(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], state: Iterable[Any]
    ) -> str:
        """Why this call is not the kernel's; "" when it is."""
        import torch

        if module.training:
            return "it is in training mode (call .eval())"
        if kwargs or len(args) != len(self.specs):
            return f"it was optimized for {len(self.specs)} positional arguments"
        for number, (x, (shape, dtype)) in enumerate(zip(args, self.specs, strict=True)):
            if not isinstance(x, torch.Tensor) or x.shape != shape or x.dtype != dtype:
                is_ = f"{x.dtype}{list(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
                return f"input {number} is {is_}, optimized for {dtype}{list(shape)}"
        if torch.is_grad_enabled() and any(
            isinstance(x, torch.Tensor) and x.requires_grad for x in (*args, *state)
        ):
            return "a gradient is asked for (use torch.no_grad())"
        return ""


def _source(tensor: Any, model: Any, inputs: tuple[Any, ...]) -> int | str:
    """Where a graph's argument comes from: the number of an input, or a path in the module."""
    for number, x in enumerate(inputs):
        if x is tensor:
            return number
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
    for name, value in named:
        if value is tensor:
            return str(name)
    raise BadProblem(
        "the module reads a tensor that is neither an input nor a parameter nor a buffer",
        "register it as a buffer",
    )


def _at(module: Any, path: str) -> Any:
    *owners, name = path.split(".")
    for owner in owners:
        module = module._modules[owner]
    found = module._parameters.get(name)
    return module._buffers.get(name) if found is None else found


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """`model` in eval mode for a while; each part is put back as it was."""
    before = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _error(ours: Any, theirs: Any) -> float:
    """The worst error of any output, as a part of its size."""
    from torch.utils import _pytree

    worst = 0.0
    for a, b in zip(_pytree.tree_leaves(ours), _pytree.tree_leaves(theirs), strict=True):
        wide, exact = a.double(), b.double()
        size = exact.abs() + exact.square().mean().sqrt()
        off = (wide - exact).abs() / size.clamp_min(1e-300)
        worst = max(worst, float(off.max()) if off.numel() else 0.0)
    return worst


def _say(text: str) -> None:
    print(f"epitaxy: {text}", file=sys.stderr, flush=True)
