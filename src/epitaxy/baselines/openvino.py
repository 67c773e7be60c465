"""Baseline: OpenVINO on the converted model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from epitaxy.baselines._export import available, tensors_only, to_onnx
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
        converted = _convert(bound, example)
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


def _convert(bound: Any, example: tuple[Any, ...]) -> Any:
    """OpenVINO's model, by the first of its ways in that works; RuntimeError names them all."""
    import openvino
    import torch

    ways: dict[str, Callable[[], Any]] = {
        "trace": lambda: openvino.convert_model(
            bound, example_input=example, input=[tuple(x.shape) for x in example]
        ),
        "torch.export": lambda: openvino.convert_model(torch.export.export(bound, example)),
        "ONNX": lambda: openvino.Core().read_model(to_onnx(bound, example)),
    }
    reasons = []
    for name, way in ways.items():
        try:
            return way()
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reasons.append(f"{name}: {lines[-1] if lines else type(error).__name__}")
    raise RuntimeError(f"no conversion to OpenVINO: {'; '.join(reasons)}")


def plugin() -> OpenVino:
    """The baseline."""
    return OpenVino()
