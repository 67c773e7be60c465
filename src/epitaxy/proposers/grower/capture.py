"""From a PyTorch module to a Program: `torch.export`, small operators, regions of algebra."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.export.graph_signature import InputKind
from torch.fx import Graph, Node

from epitaxy.errors import BadProblem
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.axes import Inexpressible
from epitaxy.proposers.grower.lower_core import OPS, Lowering, is_getitem
from epitaxy.proposers.grower.lower_partition import Choices, Partition, Unit
from epitaxy.proposers.grower.program import FrameworkCall, Program, Ref, RegionCall

ATTEMPTS = 200
LITERAL = 4096
"""Elements of a tensor constant that may be written into the program's text."""
_MORE = (
    "native_layer_norm", "native_group_norm", "_native_batch_norm_legit_no_training", "_softmax",
    "_log_softmax", "nll_loss_forward", "nll_loss2d_forward", "gelu", "silu", "mish", "hardswish",
    "hardsigmoid", "hardtanh", "leaky_relu", "elu", "selu", "celu", "softplus",
    "log_sigmoid_forward",
    "logsumexp", "mse_loss", "huber_loss", "smooth_l1_loss", "l1_loss", "binary_cross_entropy",
    "native_dropout", "norm", "threshold", "clamp_min", "clamp_max", "addcmul", "addcdiv", "rsub",
    "softshrink", "hardshrink", "relu", "relu6", "square", "logaddexp", "frac", "lerp", "rms_norm",
    "_fused_rms_norm", "glu", "soft_margin_loss", "mean", "special_erfc", "xlogy", "dist",
    "isfinite",
    "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "linalg_norm", "std", "baddbmm",
)  # fmt: skip


def capture(
    model: Any, inputs: Sequence[Any], accept: Callable[[Region], bool] = lambda region: True
) -> Program:
    """`model` (a module in eval mode or a function) on example `inputs` as a Program.

    Regions that `accept` turns down stay with the framework. Raises BadProblem when PyTorch
    cannot export the module.
    """
    exported = _export(model, inputs)
    graph = exported.graph_module.graph
    kinds = _inputs(exported)
    scalars = {
        node: float(value)
        for node, (kind, value) in kinds.items()
        if kind == "constant" and value.numel() == 1 and value.dim() == 0
    }
    partition, regions = _partition(graph, scalars, accept)
    return _program(graph, partition, regions, kinds, exported)


def _export(model: Any, inputs: Sequence[Any]) -> Any:
    module = model if isinstance(model, torch.nn.Module) else _Wrapped(model)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            exported = torch.export.export(module, tuple(inputs), strict=False)
            return exported.run_decompositions(_table())
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise BadProblem(
            f"torch.export cannot capture it: {type(error).__name__}: {line}",
            "make forward free of data-dependent control flow",
        ) from None


class _Wrapped(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Batch normalisation with given statistics (PyTorch's own form is not functional)."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    out = (x - mean.view(shape)) * torch.rsqrt(var + eps).view(shape)
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, x.new_empty((0,)), x.new_empty((0,))


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None,
    batch: int, channels: int, pixels: int, groups: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Group normalisation without strided copies."""
    grouped = x.reshape(batch, groups, -1)
    var, mean = torch.var_mean(grouped, dim=[2], correction=0, keepdim=True)
    scale = torch.rsqrt(var + eps)
    out = ((grouped - mean) * scale).view(x.shape)
    shape = [1, channels] + [1] * (x.dim() - 2)
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, mean.view(batch, groups), scale.view(batch, groups)


def _own_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Batch or instance normalisation with the statistics of the input itself."""
    dims = [0, *range(2, x.dim())]
    var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale = torch.rsqrt(var + eps)
    out = (x - mean) * scale
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out, mean.view(-1), scale.view(-1)


_OWN = {
    torch.ops.aten._native_batch_norm_legit.no_stats: _own_statistics,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _batch_norm,
    torch.ops.aten.native_group_norm.default: _group_norm,
}


def _table() -> dict[Any, Any]:
    """Decompositions into operators that the lowerings know; those they know stay whole."""
    packets = [getattr(torch.ops.aten, name) for name in _MORE if hasattr(torch.ops.aten, name)]
    table = {**core_aten_decompositions(), **get_decompositions(packets), **_OWN}
    return {
        o: f for o, f in table.items() if str(o) not in OPS and str(o).rsplit(".", 1)[0] not in OPS
    }


def _inputs(exported: Any) -> dict[Node, tuple[str, Any]]:
    """Each placeholder's kind ("user", "state", "constant") and its path or tensor."""
    nodes = {n.name: n for n in exported.graph_module.graph.find_nodes(op="placeholder")}
    found: dict[Node, tuple[str, Any]] = {}
    for spec in exported.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind == InputKind.USER_INPUT:
            found[node] = ("user", None)
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            found[node] = ("constant", exported.constants[spec.target])
        else:
            found[node] = ("state", spec.target)
    return found


def _partition(
    graph: Graph, scalars: dict[Node, float], accept: Callable[[Region], bool]
) -> tuple[Partition, dict[int, tuple[Region, list[Node], list[Node]]]]:
    """The partition whose every piece could be lowered, with regions by their piece."""
    choices = Choices()
    for _ in range(ATTEMPTS):
        partition = Partition(graph, choices)
        regions: dict[int, tuple[Region, list[Node], list[Node]]] = {}
        failed = False
        for piece in partition.pieces:
            nodes = sorted(piece, key=partition.order.__getitem__)
            roots = partition.roots(nodes)
            lowering = Lowering(nodes, partition.free, scalars)
            try:
                region = lowering.region(f"region{len(regions)}", roots)
            except Inexpressible as reason:
                _learn(reason.node, nodes, partition, choices)
                failed = True
                break
            if not accept(region):
                choices.left.update(nodes)
                failed = True
                break
            regions[id(piece)] = (region, roots, list(lowering.inputs))
        if not failed:
            return partition, regions
    raise BadProblem("the module's operators cannot be sorted into regions", "report this module")


def _learn(node: Any, nodes: list[Node], partition: Partition, choices: Choices) -> None:
    """Store the node that stood in the way; one that is stored already stays with the framework."""
    known = isinstance(node, Node) and node in partition.grown
    if known and node not in choices.stored:
        choices.stored.add(node)
    elif known and node not in choices.left:
        choices.left.add(node)
    else:
        choices.left.update(nodes)


def _program(
    graph: Graph,
    partition: Partition,
    regions: dict[int, tuple[Region, list[Node], list[Node]]],
    kinds: dict[Node, tuple[str, Any]],
    exported: Any,
) -> Program:
    steps: list[RegionCall | FrameworkCall] = []
    left: list[str] = []
    for node, (kind, value) in kinds.items():
        if kind == "constant" and _used(node, partition, regions):
            steps.append(_literal(node, value))
    for unit in partition.units(graph):
        if unit.grown:
            region, roots, read = regions[id(unit.nodes)]
            steps.append(RegionCall(region, _names(read), _names(roots)))
        else:
            steps.append(_call(unit))
            where = _where(unit.nodes[0])
            if unit.nodes[0] not in partition.free:
                left.append(f"{unit.nodes[0].target}{f' ({where})' if where else ''}")
    output = next(iter(graph.find_nodes(op="output"))).args[0]
    results = [o for o in output if isinstance(o, Node)]
    users = [n for n, (kind, _) in kinds.items() if kind == "user"]
    given = [_user(n) for n in users]
    return Program(
        inputs=tuple(given),
        state=tuple((_name(n), str(path)) for n, (kind, path) in kinds.items() if kind == "state"),
        steps=tuple(steps),
        outputs=_names(results),
        returns_tuple=_is_tuple(exported),
        left=tuple(left),
    )


def _is_tuple(exported: Any) -> bool:
    spec = exported.call_spec.out_spec
    return bool(spec is not None and spec.type in (tuple, list))


def _user(node: Node) -> str | None:
    value = node.meta.get("val")
    return _name(node) if isinstance(value, torch.Tensor) else None


def _used(node: Node, partition: Partition, regions: dict[int, Any]) -> bool:
    read = {n for _, _, inputs in regions.values() for n in inputs}
    return node in read or any(u not in partition.grown for u in node.users)


def _literal(node: Node, value: torch.Tensor) -> FrameworkCall:
    if value.numel() > LITERAL:
        raise BadProblem(
            f"a constant tensor of {value.numel()} elements is made in forward",
            "register it as a buffer",
        )
    dtype = ("dtype", value.dtype)
    return FrameworkCall("torch.tensor", (value.tolist(),), (dtype,), (_name(node),))


def _call(unit: Unit) -> FrameworkCall:
    node = unit.nodes[0]
    value = node.meta.get("val")
    if isinstance(value, tuple | list):
        results = tuple(f"{node.name}_{k}" for k in range(len(value)))
    else:
        results = (_name(node),)
    kwargs = tuple((k, _tree(v)) for k, v in node.kwargs.items())
    return FrameworkCall(f"torch.ops.{node.target}", _tree(node.args), kwargs, results)


def _tree(value: Any) -> Any:
    if isinstance(value, Node):
        return Ref(_name(value))
    if isinstance(value, tuple):
        return tuple(_tree(v) for v in value)
    if isinstance(value, list):
        return [_tree(v) for v in value]
    return value


def _name(node: Node) -> str:
    """A value's name; a picked result is named after its call and number."""
    if is_getitem(node) and isinstance(node.args[0], Node):
        return f"{node.args[0].name}_{node.args[1]}"
    return node.name


def _names(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(_name(n) for n in nodes)


def _where(node: Node) -> str:
    """The submodule that a call came from."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values() if path]
    return paths[-1].removeprefix("L['self'].") if paths else ""
