"""A problem's source brought to life: its callable, its parameters, its own inputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from epitaxy.errors import BadProblem
from epitaxy.problem import ITEM_BYTES, TensorSpec
from epitaxy.references._memory import memory_guard, out_of_memory
from epitaxy.references._tensors import cloned
from epitaxy.references._work import work
from epitaxy.worker.loading import INIT_SEED, load_entry


class Live:
    """The loaded source: its callable, its init arguments, its given inputs."""

    def __init__(self, name: str, source: str, entry: str) -> None:
        self.name = name
        self.module: dict[str, Any] = {}
        try:
            loaded = load_entry(source, entry or "__name__", f"epitaxy_problem_{name}")
            self.module = sys.modules[f"epitaxy_problem_{name}"].__dict__
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            where = f"{type(error).__name__}: {error}".replace(f"<epitaxy_problem_{name}>", name)
            raise BadProblem(
                f"{name} cannot be imported: {where}",
                "install it, or put its code into the file: a problem is one file"
                if isinstance(error, ImportError)
                else "run the file with python first",
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
                f"{self.name}: {self.entry}(*get_init_inputs()) raises {line(error)}",
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
                f"{self.name}: {function}() raises {line(error)}", "make it run"
            ) from None
        if isinstance(made, dict):
            # By position it would be the order of the keys that decides.
            raise BadProblem(
                f"{self.name}: {function}() gives a dict", "give a list in the order of arguments"
            )
        return list(made) if isinstance(made, list | tuple) else [made]

    def given(self, seed: int) -> list[Any]:
        """The file's own inputs under `seed`. Raises BadProblem."""
        torch.manual_seed(seed)
        if self._specs is not None and "get_inputs" not in self.module:
            return [_drawn(shape, dtype) for shape, dtype in self._specs.values()]
        with memory_guard(self.name):
            return [self._plain(x) for x in self._list("get_inputs")]

    def _plain(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            if not _simple(x):
                raise BadProblem(
                    f"{self.name}: get_inputs() gives a {type(x).__name__} that is no plain value",
                    "give tensors, numbers and text, each an argument of its own",
                )
            return x
        if x.layout != torch.strided or x.device.type != "cpu":
            kind = f"on {x.device}" if x.layout == torch.strided else str(x.layout)[6:]
            raise BadProblem(
                f"{self.name}: get_inputs() gives a tensor that is {kind}",
                "give dense tensors on the CPU",
            )
        return x.detach().contiguous()

    def work(self, given: Sequence[Any]) -> tuple[float, float, str]:
        """Flops of contractions, bytes of inputs and parameters that one call reads, and the
        dtype of most flops."""
        own, state = cloned(given), list(self.state().values())
        try:
            return work(self.callable, own, state)
        except (RuntimeError, NotImplementedError, TypeError):
            # Not every operator can be watched: then all bytes count, and no flops.
            tensors = [x for x in (*own, *state) if isinstance(x, torch.Tensor)]
            return 0.0, float(sum(t.numel() * t.element_size() for t in tensors)), ""


def spec(x: torch.Tensor) -> TensorSpec:
    """Shape and dtype. Raises BadProblem for a dtype that cannot be judged."""
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in ITEM_BYTES:
        raise BadProblem(f"unsupported dtype {dtype}", f"use one of {', '.join(ITEM_BYTES)}")
    return TensorSpec(shape=tuple(x.shape), dtype=dtype)


def _simple(x: Any) -> bool:
    """Whether `x` is a value that a guard can compare: no tensor or object within."""
    if isinstance(x, list | tuple):
        return all(map(_simple, x))
    return x is None or isinstance(x, bool | int | float | complex | str | torch.dtype)


def _drawn(shape: Sequence[int], dtype: str) -> torch.Tensor:
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise BadProblem(f"unsupported dtype {dtype}", f"use one of {', '.join(ITEM_BYTES)}")
    if kind.is_floating_point:
        return torch.randn(*shape).to(kind)
    return torch.randint(0, 2 if kind == torch.bool else 100, tuple(shape)).to(kind)


def line(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
