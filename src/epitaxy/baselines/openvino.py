"""Baseline: OpenVINO on the traced model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epitaxy.baselines._export import available, tensors_only
from epitaxy.toolchain import Availability


class OpenVino:
    """OpenVINO's CPU plugin, tuned for latency, in the model's own precision."""

    name = "openvino"
    torch = False

    def available(self) -> Availability:
        """Whether it is installed."""
        return available("openvino")

    def prepare(self, model: Any, example_inputs: Sequence[Any], threads: int) -> Any:
        """A compiled model; raises RuntimeError saying why when it cannot be converted."""
        import openvino
        import torch

        bound, example = tensors_only(model, example_inputs)
        try:
            shapes = [tuple(x.shape) for x in example]
            converted = openvino.convert_model(bound, example_input=example, input=shapes)
        except Exception as error:
            raise RuntimeError(f"no conversion to OpenVINO: {error}") from error
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        # Its default is bfloat16 where the processor has it: another computation.
        settings["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = openvino.Core().compile_model(converted, "CPU", settings)
        request = compiled.create_infer_request()
        first = [torch.from_numpy(v) for v in request.infer([x.numpy() for x in example]).values()]
        kinds = [(tuple(t.shape), t.dtype) for t in first]

        def call(*inputs: Any) -> tuple[Any, ...]:
            tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
            outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
            for i, tensor in enumerate(tensors):
                request.set_input_tensor(i, openvino.Tensor(tensor.numpy(), shared_memory=True))
            for i, tensor in enumerate(outputs):
                request.set_output_tensor(i, openvino.Tensor(tensor.numpy(), shared_memory=True))
            request.infer()
            return tuple(outputs)

        return call


def plugin() -> OpenVino:
    """The baseline."""
    return OpenVino()
