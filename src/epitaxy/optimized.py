"""`epitaxy.optimize`: a module in, the same module with a proven faster forward out."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.errors import BadInput, BadProblem
from epitaxy.watched import Described, Watch, change, described

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
    training, gradients and other inputs are `model`'s own, with one warning for each reason. A
    module that was optimized may be given again with inputs of other shapes: what is returned then
    has kernels for both, and picks by the shapes of each call.
    Report, verdict and export are left in `out` when it is given. Raises BadInput for what is no
    module with tensors, BadProblem where PyTorch cannot capture it as one graph.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise BadInput(f"a {type(model).__name__} is no module", "give a torch.nn.Module")
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise BadInput("the module is a compiled one", "give the module that it was made of")
    if "forward" in vars(model):  # PyTorch would call it in place of any class's
        raise BadInput("the module has a forward of its own", "define it in the module's class")
    given = [example_inputs] if isinstance(example_inputs, torch.Tensor) else [*example_inputs]
    if not all(isinstance(x, torch.Tensor) and x.device.type == "cpu" for x in given):
        raise BadInput("the example inputs are not tensors on the CPU", "give a list of tensors")
    inputs = tuple(x.detach().clone() for x in given)  # one given twice is two inputs
    known = getattr(type(model), _SHARED, None) or _Products(type(model), {})
    plain = known.unbind(model)
    with _evaluating(plain):
        known = known.as_it_is(described(plain))
        graph_module, arguments = captured(plain, inputs)
        structure = _plain_results(plain, inputs, graph_module)
        found = _searched(graph_module, arguments, budget, out, ledger, seed)
        if found is None:
            return model
        sources = tuple(_source(x, plain, inputs) for x in arguments)
        fits = tuple((x.shape, x.dtype) for x in inputs)
        new = known.with_kernel(fits, _Kernel(found, sources, structure)).bind(model)
        with _evaluating(new), torch.no_grad():
            worst = _error(new(*inputs), plain(*inputs))
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
        if wrong := _own_fault(model, inputs):
            raise BadInput(
                f"the module fails on the example inputs: {wrong}", "mend them"
            ) from None
        raise BadProblem(
            f"PyTorch cannot capture the module as one graph: {(lines or [''])[0]}",
            "avoid Python control flow that depends on values, or optimize its parts",
        ) from None
    if len(graphs) != 1:
        raise BadProblem(
            f"PyTorch makes {len(graphs)} graphs of the module", "optimize its parts one by one"
        )
    return graphs[0]


def _own_fault(model: Any, inputs: tuple[Any, ...]) -> str:
    """What the module says by itself, in one line; "" where it takes the inputs."""
    import torch

    try:
        with torch.no_grad():
            model(*inputs)
    except Exception as error:
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return ""


def _plain_results(model: Any, inputs: tuple[Any, ...], graph_module: Any) -> Any:
    """The structure (PyTorch's tree) of what the module returns.

    Raises BadProblem where that is something else than the graph's tensors, one by one: an input,
    a number, the same tensor twice.
    """
    import torch
    from torch.utils import _pytree

    with torch.no_grad():
        leaves, structure = _pytree.tree_flatten(model(*inputs))
    (output,) = graph_module.graph.find_nodes(op="output")
    made = len(output.args[0])
    if made != len(leaves) or not all(isinstance(x, torch.Tensor) for x in leaves):
        raise BadProblem(
            f"the module returns {len(leaves)} values, of which {made} are computed tensors",
            "return each tensor once, no inputs and no plain values",
        )
    return structure


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


CALLER = 6
"""Frames from a warning to who called the module: PyTorch's own two are among them."""
_SHARED = "_epitaxy_products"
"""Where an optimized class keeps its kernels."""


Fits = tuple[tuple[Any, Any], ...]
"""Shape and dtype of each input."""


@dataclass(frozen=True)
class _Kernel:
    """A kernel, where its arguments come from (`_source`), and the tree of its results."""

    call: Callable[..., tuple[Any, ...]]
    sources: tuple[int | str, ...]
    structure: Any

    def arguments(self, module: Any, args: tuple[Any, ...]) -> list[Any]:
        """What the kernel is called with: some of `args`, parameters and buffers of `module`."""
        return [_at(module, s) if isinstance(s, str) else args[s] for s in self.sources]


class _Products:
    """What the instances of an optimized class share: the class it was, kernels by what they fit,
    and what the module was like when they were made."""

    def __init__(
        self, base: type, kernels: Mapping[Fits, _Kernel], was: Described | None = None
    ) -> None:
        self.base, self.kernels, self.watch = base, kernels, Watch(was or {})
        self.warned: set[str] = set()
        self.signature = inspect.signature(base.forward)  # type: ignore[attr-defined]

    def as_it_is(self, now: Described) -> _Products:
        """These for a module that is described so now: kernels of what it was before are gone."""
        kept = {} if change(self.watch.was, now) else self.kernels
        return _Products(self.base, kept, now)

    def with_kernel(self, fits: Fits, kernel: _Kernel) -> _Products:
        """These and one more."""
        return _Products(self.base, {**self.kernels, fits: kernel}, self.watch.was)

    def unbind(self, model: Any) -> Any:
        """A shallow copy of `model` of the class that it was."""
        return self._copy(model, self.base)

    def bind(self, model: Any) -> Any:
        """A shallow copy of `model` of a subclass whose forward are the kernels."""
        products = self

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            return products.call(self, args, kwargs)

        def pickled(self: Any, protocol: Any) -> Any:
            warnings.warn("the original is saved: kernels are not", RuntimeWarning, stacklevel=3)
            return products.unbind(self).__reduce_ex__(1)  # later ones ask for the class itself

        def copied(self: Any, memo: dict[int, Any]) -> Any:
            made = memo[id(self)] = object.__new__(type(self))  # a part may refer to the whole
            vars(made).update(vars(copy.deepcopy(products.unbind(self), memo)))
            return made

        own: dict[str, Any] = {"forward": forward, "__reduce_ex__": pickled, "__deepcopy__": copied}
        own["__copy__"] = lambda self: products.bind(copy.copy(products.unbind(self)))
        own |= {"__doc__": self.base.__doc__, "__module__": self.base.__module__}
        return self._copy(model, type(self.base.__name__, (self.base,), {**own, _SHARED: self}))

    @staticmethod
    def _copy(model: Any, made: type) -> Any:
        new: Any = object.__new__(made)
        vars(new).update(vars(model))
        return new

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The kernel's result, or the original's where the call is outside all guards."""
        import torch
        from torch.utils import _pytree

        given = self._positional(module, args, kwargs)
        if given is None:
            self._say_once(module, "its arguments have no position")
            return self.base.forward(module, *args, **kwargs)  # type: ignore[attr-defined]
        fits = tuple(
            (x.shape, x.dtype) if isinstance(x, torch.Tensor) else (None, None) for x in given
        )
        kernel = self.kernels.get(fits)
        values: list[Any] = []
        reason = "" if kernel else self._no_kernel(given)
        if module.training:
            reason = "it is in training mode (call .eval())"
        elif kernel is not None:
            reason = self.watch.change(module)
            values = [] if reason else kernel.arguments(module, given)
        if not reason and any(x is None for x in values):
            reason = "a parameter or buffer is gone"
        elif (
            not reason
            and torch.is_grad_enabled()
            and any(isinstance(x, torch.Tensor) and x.requires_grad for x in (*given, *values))
        ):
            reason = "a gradient is asked for (use torch.no_grad())"
        if kernel is None or reason:
            self._say_once(module, reason)
            return self.base.forward(module, *args, **kwargs)  # type: ignore[attr-defined]
        return _pytree.tree_unflatten(list(kernel.call(*values)), kernel.structure)

    def _positional(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        """All arguments by position, without defaults at the end; None where they have none."""
        if not kwargs and not any(x is None or isinstance(x, bool | int | float) for x in args):
            return args
        try:
            bound = self.signature.bind(module, *args, **kwargs)
        except TypeError:  # the original shall say so
            return None
        found, parameters = list(bound.args[1:]), list(self.signature.parameters.values())[1:]
        while (
            found
            and len(found) <= len(parameters)
            and (found[-1] is parameters[len(found) - 1].default)
        ):
            found.pop()
        return None if bound.kwargs else tuple(found)

    def _no_kernel(self, args: tuple[Any, ...]) -> str:
        """Why no kernel fits these inputs."""
        reasons = [_misfit(args, fits) for fits in self.kernels if len(fits) == len(args)]
        if not reasons:
            counts = " or ".join(map(str, sorted({len(fits) for fits in self.kernels})))
            return f"it was optimized for {counts} positional arguments"
        others = len(reasons) - 1
        return reasons[-1] + (f" (and {others} more)" if others else "")

    def _say_once(self, module: Any, reason: str) -> None:
        if reason in self.warned:
            return
        self.warned.add(reason)
        warnings.warn(
            f"{type(module).__name__}: the original runs instead of the kernel: {reason}",
            RuntimeWarning,
            stacklevel=CALLER,
        )


def _misfit(args: Sequence[Any], fits: Fits) -> str:
    """The first input that is not what a kernel fits; "" where there is none."""
    import torch

    for number, (x, (shape, dtype)) in enumerate(zip(args, fits, strict=True)):
        if not isinstance(x, torch.Tensor) or x.shape != shape or x.dtype != dtype:
            is_ = f"{x.dtype}{list(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
            return f"input {number} is {is_}, optimized for {dtype}{list(shape)}"
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
    """The worst error of any output, as a part of its size; NaN where one is NaN or infinite and
    the other is not."""
    import torch
    from torch.utils import _pytree

    errors = [0.0]
    for a, b in zip(_pytree.tree_leaves(ours), _pytree.tree_leaves(theirs), strict=True):
        wide, exact = a.double(), b.double()
        same = (wide == exact) | (wide.isnan() & exact.isnan())
        size = exact.abs() + exact[exact.isfinite()].square().mean().sqrt().nan_to_num()
        off = torch.where(same, 0.0, (wide - exact).abs() / size.clamp_min(1e-300))
        errors.append(float(off.max()) if off.numel() else 0.0)
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def _say(text: str) -> None:
    print(f"epitaxy: {text}", file=sys.stderr, flush=True)
