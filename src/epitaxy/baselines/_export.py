"""What the baselines outside PyTorch share: a module over tensors only, arrays without a copy."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from epitaxy.toolchain import Availability
from epitaxy.worker.loading import flatten

MEND = "pip install 'epitaxy[peers]'"
_NO_ARRAY = ("torch.bfloat16",)


def available(*packages: str) -> Availability:
    """Whether the packages are installed; nothing is imported."""
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        return Availability(ok=False, detail=f"{' and '.join(missing)} not installed", mend=MEND)
    return Availability(ok=True, detail=", ".join(packages))


def tensors_only(model: Any, example_inputs: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """A module of the tensor inputs alone that returns a tuple, and those inputs.

    Other inputs become constants. Raises TypeError for a dtype that NumPy lacks.
    """
    import torch

    example = list(example_inputs)
    which = [i for i, x in enumerate(example) if isinstance(x, torch.Tensor)]
    for i in which:
        if str(example[i].dtype) in _NO_ARRAY:
            raise TypeError(f"this baseline cannot take {example[i].dtype}")

    class Bound(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            arguments = list(example)
            for i, tensor in zip(which, tensors, strict=True):
                arguments[i] = tensor
            return tuple(flatten(self.inner(*arguments)))

    return Bound().eval(), tuple(example[i] for i in which)


def to_onnx(bound: Any, example: tuple[Any, ...]) -> bytes:
    """The module as an ONNX file. Raises RuntimeError saying why it cannot be exported."""
    import torch

    try:
        program = torch.onnx.export(bound, example, dynamo=True, verbose=False)
        if program is None:
            raise RuntimeError("the exporter returned nothing")
        return bytes(program.model_proto.SerializeToString())
    except Exception as error:
        raise RuntimeError(f"no export to ONNX: {error}") from error
