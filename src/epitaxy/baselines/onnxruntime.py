"""Baseline: ONNX Runtime on the exported model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.baselines._export import available, tensors_only, to_onnx
from epitaxy.toolchain import Availability


class OnnxRuntime:
    """ONNX Runtime's CPU provider, all graph optimisations on."""

    name = "onnxruntime"
    torch = False
    preload = ("torch.export", "onnxscript")

    def available(self) -> Availability:
        """Whether exporter and runtime are installed."""
        return available("onnxruntime", "onnx", "onnxscript")

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """A session; raises RuntimeError saying why when the model cannot be exported."""
        import onnxruntime
        import torch

        bound, example = tensors_only(model, example_inputs)
        content = to_onnx(bound, example)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]

        def call(*inputs: Any) -> tuple[Any, ...]:
            arrays = [x.numpy() for x in inputs if isinstance(x, torch.Tensor)]
            results = session.run(None, dict(zip(names, arrays, strict=True)))
            return tuple(torch.from_numpy(r) for r in results)

        return call


def plugin() -> OnnxRuntime:
    """The baseline."""
    return OnnxRuntime()
