"""Capture a PyTorch module as a Program: regions to grow between framework calls."""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx import Node

from epitaxy.errors import BadProblem
from epitaxy.proposers.grower import picks, recurrent, wholes
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.axes import Inexpressible
from epitaxy.proposers.grower.decompose import decompositions
from epitaxy.proposers.grower.framework import framework_call
from epitaxy.proposers.grower.lower_attention import uncounted
from epitaxy.proposers.grower.lower_core import Lowering, is_getitem, op_of
from epitaxy.proposers.grower.lower_partition import Choices, Partition, Unit, shape_like
from epitaxy.proposers.grower.program import FrameworkCall, Program, RegionCall, reads

_TOLD = (
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
)
"""What the exporter adds to its graph to check itself: nothing that the module computes."""
_EMBEDDED = 4096
_ATTEMPTS = 400


def capture(
    model: Any, inputs: Sequence[Any], accept: Callable[[Region], bool] = lambda region: True
) -> Program:
    """The straight-line program that `model`, in eval mode, computes on inputs of these shapes.

    Non-tensor inputs are fixed to their value. What cannot be expressed, and what `accept` turns
    down, stays a framework call. A plain function is captured too.
    Raises BadProblem when PyTorch cannot export the module or it writes to its own state.
    """
    model = model if isinstance(model, torch.nn.Module) else _Function(model)
    was_training = model.training
    model.eval()
    deep = sys.getrecursionlimit()
    sys.setrecursionlimit(max(deep, 20_000))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = _exported(model, inputs)
            return _Capture(model, exported, inputs, accept).program()
    finally:
        sys.setrecursionlimit(deep)
        model.train(was_training)


class _Function(torch.nn.Module):
    """A function as a module, which is what can be exported."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        """The function's result."""
        return self.function(*args)


def _exported(model: torch.nn.Module, inputs: Sequence[Any]) -> Any:
    error: Exception | None = None
    for strict in (False, True):
        try:
            program = torch.export.export(model, tuple(inputs), strict=strict)
            return program.run_decompositions(decompositions())
        except Exception as failed:  # export raises almost anything
            error = error or failed
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise BadProblem(
        f"PyTorch cannot export the module: {first}",
        "avoid Python control flow and shapes that depend on tensor values",
    )


class _Capture:
    def __init__(
        self, model: torch.nn.Module, exported: Any, inputs: Sequence[Any], accept: Any
    ) -> None:
        self.model = model
        self.accept = accept
        self.exported = exported
        self.inputs = inputs
        self.graph = exported.graph_module.graph
        for told in _TOLD:
            for node in self.graph.find_nodes(op="call_function", target=told):
                self.graph.erase_node(node)
        self.graph.eliminate_dead_code()
        self.scalars: dict[Node, float] = {}
        self.steps: list[RegionCall | FrameworkCall] = []
        self.left: list[str] = []
        self.wholes: dict[Node, RegionCall] = {}

    def program(self) -> Program:
        """The whole program."""
        state, names = self._inputs()
        self.wholes = wholes.take(self.graph, self.accept, self.scalars)
        outputs, is_tuple = self._outputs()
        units, partition, regions = self._lowered()
        for k, unit in enumerate(units):
            if unit.grown:
                self.steps.append(regions[k])
            elif unit.nodes[0] in self.wholes:
                self.steps.append(self.wholes[unit.nodes[0]])
            elif (layer := self._own_region(unit.nodes[0])) is not None:
                self.steps.append(layer)
            else:
                self._framework(unit.nodes[0])
        read = {a for s in self.steps for a in reads(s)} | set(outputs)
        kept = tuple((n, key) for n, key in state if n in read)
        steps = (*self._constants(read), *self.steps)
        return Program(names, kept, steps, outputs, is_tuple, tuple(self.left))

    # -- signature ---------------------------------------------------------------------------

    def _inputs(self) -> tuple[list[tuple[str, str]], tuple[str | None, ...]]:
        state: list[tuple[str, str]] = []
        given: list[str | None] = []
        nodes = {n.name: n for n in self.graph.nodes if n.op == "placeholder"}
        for spec in self.exported.graph_signature.input_specs:
            name = spec.arg.name
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                state.append((name, spec.target))
            elif spec.kind == InputKind.CONSTANT_TENSOR:
                self._constant(nodes[name], spec.target, state)
            elif spec.kind == InputKind.USER_INPUT:
                given.append(None if isinstance(spec.arg, ConstantArgument) else name)
        if len(given) != len(self.inputs):
            raise BadProblem(
                "an input is a container of tensors", "pass every tensor as its own argument"
            )
        return state, tuple(given)

    def _constant(self, node: Node, target: str, state: list[tuple[str, str]]) -> None:
        tensor = self.exported.constants[target]
        if tensor.numel() == 1 and not tensor.is_complex() and tensor.ndim == 0:
            self.scalars[node] = tensor.item()
        elif _attribute(self.model, target) is not None:
            state.append((node.name, target))
        elif tensor.numel() > _EMBEDDED:
            raise BadProblem(
                f"the module makes a constant of {tensor.numel()} numbers in forward",
                "register it as a buffer",
            )

    def _constants(self, read: set[str]) -> list[FrameworkCall]:
        """Calls that make the lifted constants that are still read."""
        calls = []
        for spec in self.exported.graph_signature.input_specs:
            if spec.kind != InputKind.CONSTANT_TENSOR or spec.arg.name not in read:
                continue
            if _attribute(self.model, spec.target) is None:
                tensor = self.exported.constants[spec.target]
                kwargs = (("dtype", tensor.dtype),)
                calls.append(
                    FrameworkCall("torch.tensor", (tensor.tolist(),), kwargs, (spec.arg.name,))
                )
        return calls

    def _outputs(self) -> tuple[tuple[str, ...], bool]:
        names = []
        (end,) = self.graph.find_nodes(op="output")
        returned = end.args[0]  # a loop taken as a whole has other names than the signature
        for spec, node in zip(self.exported.graph_signature.output_specs, returned, strict=True):
            if spec.kind != OutputKind.USER_OUTPUT:
                raise BadProblem(
                    f"the module writes to its state ({spec.target}) in forward",
                    "return the new value instead",
                )
            if not hasattr(spec.arg, "name") or isinstance(spec.arg, ConstantArgument):
                raise BadProblem(
                    "the module returns something that is no tensor", "return tensors only"
                )
            names.append(node.name)
        shape = self.exported.call_spec.out_spec
        kind = getattr(shape, "type", None)
        if kind is not None and not issubclass(kind, tuple | list):
            raise BadProblem(
                f"the module returns a {kind.__name__}", "return a tensor or a tuple of tensors"
            )
        return tuple(names), kind is not None

    # -- regions -----------------------------------------------------------------------------

    def _lowered(self) -> tuple[list[Unit], Partition, dict[int, RegionCall]]:
        """Partition and lower, storing or leaving nodes until everything can be expressed."""
        choices = Choices()
        for _ in range(_ATTEMPTS):
            partition = Partition(self.graph, choices)
            units = partition.units(self.graph)
            regions: dict[int, RegionCall] = {}
            for k, unit in enumerate(units):
                if not unit.grown:
                    continue
                try:
                    regions[k] = self._region(f"region{len(regions)}", unit, partition)
                except Inexpressible as reason:
                    _learn(choices, unit, partition, reason.node)
                    break
                if not self.accept(regions[k].region):
                    choices.left.update(unit.nodes)
                    break
            else:
                return units, partition, regions
        choices.left.update(n for n in self.graph.nodes if n.op == "call_function")
        partition = Partition(self.graph, choices)
        return partition.units(self.graph), partition, {}

    def _region(self, name: str, unit: Unit, partition: Partition) -> RegionCall:
        lowering = Lowering(unit.nodes, partition.free, self.scalars)
        roots = partition.roots(unit.nodes)
        region = replace(lowering.region(name, roots), uncounted=uncounted(unit.nodes))
        args = tuple(n.name for n in lowering.inputs)
        call = RegionCall(region, args, tuple(r.name for r in roots))
        return self._leavable(call, unit, partition)

    def _own_region(self, node: Node) -> RegionCall | None:
        """A call that is a region by itself."""
        return recurrent.step(node, self.accept) or picks.step(node, self.accept)

    # -- framework ---------------------------------------------------------------------------

    def _framework(self, node: Node) -> None:
        self.steps.append(framework_call(node))
        found = op_of(node)
        if found is None or found.kind not in ("view", "make"):
            self.left.append(_title(node))

    def _leavable(self, call: RegionCall, unit: Unit, partition: Partition) -> RegionCall:
        """`call` with the framework's own calls, where they read nothing but what it reads."""
        nodes, stack = set(unit.nodes), list(unit.nodes)
        while stack:
            for source in stack.pop().all_input_nodes:
                source = partition.producer(source)
                if source in partition.free and source not in nodes:
                    nodes.add(source)
                    stack.append(source)
        order = sorted((n for n in nodes if not is_getitem(n)), key=partition.order.__getitem__)
        calls = tuple(framework_call(n) for n in order)
        known = set(call.args)
        for step in calls:
            if not reads(step) <= known:
                return call
            known.update(step.results)
        return replace(call, framework=calls) if set(call.results) <= known else call


def _learn(choices: Choices, unit: Unit, partition: Partition, node: Any) -> None:
    """Store the node whose elements were wanted oddly; leave it when that did not help."""
    if isinstance(node, Node) and node in unit.nodes and node not in choices.stored:
        node = _finished(node, unit)
        choices.stored.add(node)
        choices.stored.update(u for u in node.users if is_getitem(u))
    elif isinstance(node, Node) and node in partition.grown:
        choices.left.add(node)
    else:
        # Only data-dependent reads and running values are ever refused without a name.
        kinds = {n: op_of(n) for n in unit.nodes}
        odd = {n for n, k in kinds.items() if k is not None and k.kind in ("gather", "scan")}
        choices.left.update(odd or unit.nodes)


def _finished(node: Node, unit: Unit) -> Node:
    """The end of the element-wise work on a contraction's result, else the node itself."""
    found = op_of(node)
    while found is not None and found.kind in ("contract", "point") and len(node.users) == 1:
        (user,) = node.users
        after = op_of(user)
        alike = user.op == "call_function" and shape_like(user)
        if user not in unit.nodes or after is None or after.kind != "point" or not alike:
            break
        if user.meta["val"].shape != node.meta["val"].shape:
            break
        node = user
    return node


def _attribute(model: torch.nn.Module, path: str) -> Any:
    try:
        return operator.attrgetter(path)(model)
    except AttributeError:
        return None


def _title(node: Node) -> str:
    """The operator and the submodule it came from, for people."""
    stack: Mapping[str, Any] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    path = path.removeprefix("L['self'].")
    return f"{node.target} ({path})" if path and path != "L['self']" else str(node.target)
