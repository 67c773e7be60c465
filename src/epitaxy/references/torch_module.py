"""Problems written in PyTorch: KernelBench files, module classes, decorated functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from epitaxy.errors import BadProblem
from epitaxy.problem import ITEM_BYTES, Policy, Problem, TensorSpec, Work
from epitaxy.references._compare import error as _error
from epitaxy.references._inputs import DISTRIBUTIONS, SPECIAL, blend, nudged, transform, unseen
from epitaxy.references._memory import available_bytes, memory_guard, out_of_memory
from epitaxy.references._source import find, policy_beside
from epitaxy.references._wide import widen, widening
from epitaxy.references._work import work
from epitaxy.worker.loading import INIT_SEED, flatten, load_entry

CHECK_SEED = 20_011
FEW, TRIALS = 64, 5
"""With fewer output elements than FEW, the effect of rounding is the largest of TRIALS trials."""


def plugin() -> TorchModules:
    """The reference plugin named `torch_module`."""
    return TorchModules()


class TorchModules:
    """Loads PyTorch problems and brings them to life."""

    name = "torch_module"

    def load(self, target: str | Path | Callable[..., Any], **options: Any) -> Problem:
        """A Problem, tried out: it runs, is deterministic, finite and leaves its inputs alone.

        Raises BadProblem with the mend.
        """
        name, source, entry, path = find(target)
        live = _Live(name, source, entry)
        policy = options.pop("policy", None) or policy_beside(path)
        if options:
            raise BadProblem(f"unknown option {next(iter(options))!r}", "known: policy")
        given = live.given(CHECK_SEED)
        outputs = _examine(live, given, policy)
        parameters = tuple(_spec(t) for t in live.state().values() if t.numel())
        inputs = tuple(_spec(x) if isinstance(x, torch.Tensor) else None for x in given)
        flops, read = live.work(given)
        return Problem(
            name=name,
            reference=self.name,
            source=source,
            entry=live.entry,
            inputs=inputs,
            outputs=tuple(_spec(t) for t in outputs),
            parameters=parameters,
            policy=policy,
            work=Work(
                flops=flops,
                bytes_read=read,
                bytes_written=float(sum(_spec(t).bytes for t in outputs)),
                dtype=str(outputs[0].dtype).removeprefix("torch.")
                if outputs[0].is_floating_point()
                else "float32",
            ),
        )

    def open(self, problem: Problem) -> TorchReference:
        """The problem's reference, alive in this process."""
        return TorchReference(problem, _Live(problem.name, problem.source, problem.entry))


class TorchReference:
    """Makes inputs, honest outputs and float64 outputs. Tensors are on the CPU."""

    def __init__(self, problem: Problem, live: _Live) -> None:
        self.problem = problem
        self.model = live.callable
        self._live = live
        self._double: Any = None
        self._fixed: list[bool] | None = None
        self.notes: list[str] = []

    def distributions(self) -> Sequence[str]:
        """Names that `inputs` accepts; "given", the file's own, is first."""
        floats = any(
            s is not None and s.dtype.startswith(("float", "bf")) for s in self.problem.inputs
        )
        return DISTRIBUTIONS if floats else DISTRIBUTIONS[:1]

    def inputs(self, seed: int, distribution: str = "given") -> list[Any]:
        """Fresh inputs: the file's own under `seed`, or redrawn within their domain."""
        given = self._live.given(seed)
        if distribution == "given":
            return given
        if self._fixed is None:
            self._fixed = [
                isinstance(x, torch.Tensor) and x.shape == y.shape and _same(x, y)
                for x, y in zip(given, self._live.given(seed + 1), strict=True)
            ]
        return transform(given, distribution, seed + 1, self._fixed)

    def blend(self, first: Sequence[Any], second: Sequence[Any], seed: int) -> list[Any]:
        """`first` with a short stretch of each tensor from `second`, at a place set by `seed`."""
        return blend(first, second, seed)

    def unseen(self, first: Sequence[Any], second: Sequence[Any], seed: int) -> list[Any]:
        """Inputs that differ from both, set by `seed`; for timing only."""
        return unseen(first, second, seed)

    def init_arguments(self) -> list[Any]:
        """What the module is constructed from."""
        return self._live.init

    def state(self) -> dict[str, Any]:
        """Parameters and buffers by name."""
        return self._live.state()

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The reference's own outputs, in its own precision."""
        with torch.no_grad():
            return flatten(self.model(*_cloned(inputs)))

    def oracle(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs in float64; where that cannot run, the honest ones, and a note says so."""
        wide = [x.double() if _floats(x) else x for x in _cloned(inputs)]
        if self._double is None:
            self._double = widen(self.model)
        try:
            with torch.no_grad(), widening():
                return flatten(self._double(*wide))
        except (RuntimeError, TypeError) as error:
            if out_of_memory(error):
                raise
            note = f"no float64 oracle: {str(error).splitlines()[0]}"
            if note not in self.notes:
                self.notes.append(note)
            return self.run(inputs)

    def error(self, outputs: Sequence[Any], exact: Sequence[Any], honest: Sequence[Any]) -> float:
        """Worst normalised error of `outputs` against `exact`.

        error = max |out - exact| / (|exact| + rms(exact)) over all elements of all outputs; inf
        where NaN or infinities differ from both exact and honest. Integers and booleans must
        equal the exact or the honest value: error is inf where they equal neither.
        """
        return max(_error(o, e, h) for o, e, h in zip(outputs, exact, honest, strict=True))

    def movement(self, inputs: Sequence[Any], exact: Sequence[Any], honest: Sequence[Any]) -> float:
        """How far rounding the inputs alone moves the exact outputs: an error as in `error`.

        A backward stable implementation errs about so much, whatever its order of summation:
        N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 1.6.
        0.0 where the reference cannot run in float64.
        """
        # The largest of many elements is steady; of a few it takes several trials.
        few = sum(h.numel() for h in honest) < FEW
        found = [0.0]
        for trial in range(TRIALS if few else 1):
            moved = self.oracle(nudged(inputs, trial))
            pairs = [t for t in zip(moved, exact, honest, strict=True) if _floats(t[2])]
            found += [_error(m.to(h.dtype), e, h) for m, e, h in pairs]
        return max(x for x in found if math.isfinite(x))

    def unusable(self, exact: Sequence[Any], honest: Sequence[Any], distribution: str) -> str:
        """Why inputs with these outputs cannot judge anybody ("" when they can)."""
        for e, h in zip(exact, honest, strict=True):
            if _floats(h) and distribution == SPECIAL:
                if not torch.equal(torch.isfinite(h), torch.isfinite(e)):
                    return "float32 and float64 disagree on where NaN stands"
                if not bool(torch.isfinite(h).any()):
                    return "every output is NaN"
            elif _floats(h) and not (
                bool(torch.isfinite(h).all()) and bool(torch.isfinite(e).all())
            ):
                return "the reference itself gives NaN or infinity"
            if _floats(h) and not bool((e != 0).any()):
                return "the reference gives nothing but zeros"
        return ""

    def same(self, a: Sequence[Any], b: Sequence[Any]) -> bool:
        """Whether two lists of tensors hold the same bits (NaN equals itself)."""
        return all(_same(x, y) for x, y in zip(a, b, strict=True))


class _Live:
    """The loaded source: its callable, its init arguments, its given inputs."""

    def __init__(self, name: str, source: str, entry: str) -> None:
        self.name = name
        self.module: dict[str, Any] = {}
        try:
            loaded = load_entry(source, entry or "__name__", f"epitaxy_problem_{name}")
            self.module = _module_of(f"epitaxy_problem_{name}")
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            where = f"{type(error).__name__}: {error}"
            raise BadProblem(
                f"{name} cannot be imported: {where}", "run the file with python first"
            ) from None
        self.entry = entry or self._entry()
        target = self.module.get(self.entry, loaded)
        self.init = self._list("get_init_inputs", optional=True)
        self.callable = self._construct(target)
        self._specs = getattr(target, "__epitaxy_inputs__", None)

    def _entry(self) -> str:
        if "Model" in self.module:
            return "Model"
        marked = [k for k, v in self.module.items() if hasattr(v, "__epitaxy_inputs__")]
        if len(marked) == 1:
            return marked[0]
        raise BadProblem(
            f"{self.name} defines no Model",
            "define class Model(nn.Module), get_inputs() and get_init_inputs(), or decorate one "
            "function with epitaxy.problem",
        )

    def _construct(self, target: Any) -> Any:
        if not (isinstance(target, type) and issubclass(target, torch.nn.Module)):
            return target
        try:
            with memory_guard(self.name):
                torch.manual_seed(INIT_SEED)
                return target(*self.init).eval()
        except BadProblem:
            raise
        except Exception as error:
            raise BadProblem(
                f"{self.name}: {self.entry}(*get_init_inputs()) raises {_line(error)}",
                "make the constructor run",
            ) from None

    def state(self) -> dict[str, Any]:
        """Parameters and buffers by name, detached."""
        if not isinstance(self.callable, torch.nn.Module):
            return {}
        return {k: v.detach() for k, v in self.callable.state_dict().items()}

    def _list(self, function: str, optional: bool = False) -> list[Any]:
        make = self.module.get(function)
        if make is None:
            if optional:
                return []
            raise BadProblem(f"{self.name} defines no {function}", f"define {function}()")
        try:
            made = make()
        except Exception as error:
            if out_of_memory(error):
                raise BadProblem(
                    f"{self.name}: its inputs need more memory than there is", "make them smaller"
                ) from None
            raise BadProblem(
                f"{self.name}: {function}() raises {_line(error)}", "make it run"
            ) from None
        if isinstance(made, dict):
            made = list(made.values())
        return list(made) if isinstance(made, list | tuple) else [made]

    def given(self, seed: int) -> list[Any]:
        """The file's own inputs under `seed`. Raises BadProblem."""
        torch.manual_seed(seed)
        if self._specs is not None and "get_inputs" not in self.module:
            return [_drawn(shape, dtype) for shape, dtype in self._specs.values()]
        with memory_guard(self.name):
            made = self._list("get_inputs")
        return [x.detach().contiguous() if isinstance(x, torch.Tensor) else x for x in made]

    def work(self, given: Sequence[Any]) -> tuple[float, float]:
        """Flops of contractions, and bytes of inputs and parameters that one call reads."""
        own, state = _cloned(given), list(self.state().values())
        try:
            return work(self.callable, own, state)
        except (RuntimeError, NotImplementedError, TypeError):
            # Not every operator can be watched: then all bytes count, and no flops.
            tensors = [x for x in (*own, *state) if isinstance(x, torch.Tensor)]
            return 0.0, float(sum(t.numel() * t.element_size() for t in tensors))


def _examine(live: _Live, given: list[Any], policy: Policy) -> list[Any]:
    """Run the reference twice and refuse what cannot be judged; its outputs."""
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    for x in tensors:
        _spec(x)
    need = 6 * sum(x.numel() * x.element_size() for x in tensors)
    if need > available_bytes():
        raise BadProblem(
            f"{live.name}: judging needs about {need / 2**30:.0f} GiB of memory",
            "make its inputs smaller",
        )
    runs = []
    for _ in range(2):
        own = _cloned(given)
        try:
            with memory_guard(live.name), torch.no_grad():
                result = live.callable(*own)
        except BadProblem:
            raise
        except Exception as error:
            raise BadProblem(
                f"{live.name}: the reference raises {_line(error)}", "make it run on get_inputs()"
            ) from None
        flat = flatten(result)
        if not flat or not all(isinstance(t, torch.Tensor) for t in flat):
            kinds = ", ".join(sorted({type(t).__name__ for t in flat})) or "nothing"
            raise BadProblem(
                f"{live.name} returns {kinds}", "return a tensor or a tuple of tensors"
            )
        if not all(
            _same(x, y) for x, y in zip(own, given, strict=True) if isinstance(x, torch.Tensor)
        ):
            raise BadProblem(f"{live.name} changes its own inputs", "work on a copy")
        runs.append([t.detach() for t in flat])
    for first, second in zip(*runs, strict=True):
        _spec(first)
        if first.is_floating_point() and bool(torch.isnan(first).any()):
            raise BadProblem(
                f"{live.name} returns NaN on its own inputs", "give inputs in its domain"
            )
        if first.shape != second.shape or not _close(first, second):
            raise BadProblem(f"{live.name} is not deterministic", "remove randomness from forward")
    return runs[0]


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return bool(torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True))


def _spec(x: torch.Tensor) -> TensorSpec:
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in ITEM_BYTES:
        raise BadProblem(f"unsupported dtype {dtype}", f"use one of {', '.join(ITEM_BYTES)}")
    return TensorSpec(shape=tuple(x.shape), dtype=dtype)


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor):
        return True
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def _floats(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def _cloned(inputs: Sequence[Any]) -> list[Any]:
    return [x.clone() if isinstance(x, torch.Tensor) else x for x in inputs]


def _drawn(shape: Sequence[int], dtype: str) -> torch.Tensor:
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise BadProblem(f"unsupported dtype {dtype}", f"use one of {', '.join(ITEM_BYTES)}")
    if kind.is_floating_point:
        return torch.randn(*shape).to(kind)
    return torch.randint(0, 2 if kind == torch.bool else 100, tuple(shape)).to(kind)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _module_of(name: str) -> dict[str, Any]:
    import sys

    return sys.modules[name].__dict__
