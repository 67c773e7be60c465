"""Graphs: what TorchDynamo captured, written as a problem file of its own.

The text depends on the graph, its shapes and dtypes, not on names or weights: the same computation
gives the same text, whoever captured it, and its digest is the problem's name in the ledger.
"""

from __future__ import annotations

import ast
import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.errors import BadProblem
from epitaxy.parsing import parsed
from epitaxy.record import digest_text

LARGEST_TABLE = 1 << 16
"""Characters that a buffer (a mask, a table) may take in the text, compressed."""
_VARY = "its shapes vary (torch.compile with dynamic=False makes a graph for each)"
_KNOWN = {
    "torch": "import torch",
    "math": "import math",
    "operator": "import operator",
    "_operator": "import _operator",
    "device": "from torch import device",
    "inf": "from math import inf",
    "nan": "from math import nan",
}
_HEAD = '''"""A graph that TorchDynamo captured, as a problem of its own."""

import base64
import math
import zlib

import torch
{imports}

def _table(text, dtype, shape):
    """A buffer with the values that it had when the graph was captured."""
    raw = bytearray(zlib.decompress(base64.b85decode(text)))
    return torch.frombuffer(raw, dtype=dtype).reshape(shape).clone()


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
'''


@dataclass(frozen=True)
class Graph:
    """A captured graph: its text, and where its arguments go.

    Argument number `inputs[k]` of the graph is the k-th argument of the problem; argument
    `state[k][1]` is its parameter or buffer `state[k][0]`; `attributes` holds, by such a name,
    tensors that are part of the graph itself.
    """

    source: str
    inputs: tuple[int, ...]
    state: tuple[tuple[str, int], ...]
    attributes: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """The problem's name: `graph_` and twelve characters of the text's digest."""
        return f"graph_{digest_text(self.source)[:12]}"

    def write(self, folder: Path) -> Path:
        """The problem file in `folder`, for `epitaxy.problem.load`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.py"
        path.write_text(self.source, encoding="utf-8")
        return path


def transcribe(module: Any, example_inputs: Sequence[Any]) -> Graph:
    """The Graph of an fx GraphModule as TorchDynamo hands it to a backend.

    Raises BadProblem for what cannot be written down: sizes that vary, nested graphs, operators
    from elsewhere than torch.
    """
    return _Writer(module, example_inputs).graph()


class _Writer:
    def __init__(self, module: Any, example_inputs: Sequence[Any]) -> None:
        import torch

        self.torch = torch
        self.module = module
        self.examples = list(example_inputs)
        self.new = torch.fx.Graph()
        self.values: dict[Any, Any] = {}
        self.inputs: list[tuple[int, str]] = []
        self.state: list[tuple[str, int]] = []
        self.attributes: list[tuple[str, Any]] = []
        self.setters: list[str] = []

    def graph(self) -> Graph:
        """The whole text."""
        places = [n for n in self.module.graph.nodes if n.op == "placeholder"]
        if len(places) != len(self.examples):
            raise _not_fixed("its arguments are not those of its graph")
        order = dict(zip(places, range(len(places)), strict=True))
        for node, place in order.items():
            if not self._is_state(node, self.examples[place]):
                self._input(node, place)
        for node, place in order.items():
            if node not in self.values:
                name = self._attribute(node, self.examples[place])
                self.state.append((name, place))
        for number, node in enumerate(self.module.graph.nodes):
            if node.op != "placeholder":
                self._step(node, number)
        return Graph(
            self._text(),
            tuple(place for place, _ in self.inputs),
            tuple(self.state),
            tuple(self.attributes),
        )

    def _is_state(self, node: Any, example: Any) -> bool:
        if not isinstance(example, self.torch.Tensor):
            kind = type(example).__name__
            raise _not_fixed(_VARY if kind == "SymInt" else f"one of its arguments is a {kind}")
        if any(not isinstance(n, int) for n in example.shape):
            raise _not_fixed(_VARY)
        return isinstance(example, self.torch.nn.Parameter) or "_buffers_" in str(node.target)

    def _input(self, node: Any, place: int) -> None:
        name = f"x{len(self.inputs)}"
        self.values[node] = self.new.placeholder(name)
        self.inputs.append((place, self._drawn(node, self.examples[place])))

    def _drawn(self, node: Any, example: Any) -> str:
        """An expression for a fresh input like the example."""
        shape, dtype = tuple(example.shape), example.dtype
        if dtype.is_floating_point:
            return f"torch.randn({shape}, dtype={dtype})"
        return f"torch.randint(0, {self._bound(node, example)}, {shape}).to({dtype})"

    def _bound(self, node: Any, example: Any) -> int:
        """One more than the largest integer that may stand in an input."""
        if example.dtype == self.torch.bool:
            return 2
        for user in node.users:
            if user.target is self.torch.nn.functional.embedding:
                return int(user.args[1].meta["example_value"].shape[0])
        largest = int(example.max()) if example.numel() else 1
        return 1 << max(1, math.ceil(math.log2(largest + 2)))

    def _attribute(self, node: Any, tensor: Any) -> str:
        """Make a parameter or buffer of the new module; its name."""
        name = f"p{len(self.setters)}"
        self.values[node] = self.new.get_attr(name)
        self.setters.append(self._setter(name, str(node.target), tensor))
        return name

    def _setter(self, name: str, called: str, tensor: Any) -> str:
        shape, kind = tuple(tensor.shape), tensor.dtype
        if isinstance(tensor, self.torch.nn.Parameter) and kind.is_floating_point:
            fan_in = max(1, math.prod(shape[1:]))
            draw = f"torch.randn({shape}, dtype={kind})"
            if len(shape) > 1:
                draw += f" * {fan_in**-0.5:.3g}"
            elif "bias" not in called:  # a scale
                draw = f"torch.rand({shape}, dtype={kind}) + 0.5"
            return f"self.{name} = torch.nn.Parameter({draw}, requires_grad=False)"
        if "running_var" in called:
            return f'self.register_buffer("{name}", torch.rand({shape}, dtype={kind}) + 0.5)'
        if "running_mean" in called:
            return f'self.register_buffer("{name}", torch.randn({shape}, dtype={kind}) * 0.1)'
        raw = tensor.detach().contiguous().reshape(-1).view(self.torch.uint8).numpy().tobytes()
        text = base64.b85encode(zlib.compress(raw, 9)).decode()
        if len(text) > LARGEST_TABLE:
            raise BadProblem(
                f"a buffer of {len(raw)} bytes is part of the module ({called})",
                "make it a parameter, or compute it in forward",
            )
        return f'self.register_buffer("{name}", _table({text!r}, {kind}, {shape}))'

    def _step(self, node: Any, number: int) -> None:
        if node.op == "get_attr":
            value = self.module
            for part in str(node.target).split("."):
                value = getattr(value, part)
            if not isinstance(value, self.torch.Tensor):
                raise _not_fixed("it contains another graph")
            self.attributes.append((self._attribute(node, value), value))
        elif node.op == "output":
            self.new.output(self._outputs(node))
        elif node.op == "call_module":
            raise _not_fixed("it contains another module")
        else:
            args = self.torch.fx.node.map_arg(node.args, self.values.__getitem__)
            kwargs = self.torch.fx.node.map_arg(node.kwargs, self.values.__getitem__)
            self.values[node] = self.new.create_node(
                node.op, node.target, args, kwargs, name=f"v{number}"
            )

    def _outputs(self, node: Any) -> tuple[Any, ...]:
        found = node.args[0]
        found = found if isinstance(found, tuple | list) else (found,)
        if not found or any(n not in self.values for n in found):
            raise _not_fixed("it returns something that is no tensor")
        return tuple(self.values[n] for n in found)

    def _text(self) -> str:
        code = self.new.python_code("self")
        # fx lists names that it may need; what counts is what the text reads.
        read = {n.id for n in ast.walk(parsed(code.src)) if isinstance(n, ast.Name)}
        used = read & set(code.globals)
        foreign = used - set(_KNOWN)
        if foreign:
            raise BadProblem(
                f"the module calls something outside torch: {', '.join(sorted(foreign))}",
                "leave that part to PyTorch: optimize what is around it",
            )
        imports = "\n".join(_KNOWN[n] for n in sorted(used) if n not in ("torch", "math"))
        body = "".join(f"    {line}".rstrip() + "\n" for line in code.src.strip().splitlines())
        draws = "".join(f"        {draw},\n" for _, draw in self.inputs)
        return (
            _HEAD.replace("{imports}", imports)
            + "".join(f"        {line}\n" for line in self.setters)
            + f"\n{body}\n\ndef get_inputs():\n    return [\n{draws}    ]\n\n\n"
            + "def get_init_inputs():\n    return []\n"
        )  # fmt: skip


def _not_fixed(what: str) -> BadProblem:
    return BadProblem(
        f"the graph cannot be written down: {what}",
        "give tensors of fixed shapes, and no control flow that depends on values",
    )
