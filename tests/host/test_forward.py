"""`forward.py` as text: what a program says is what the file does."""

from __future__ import annotations

import ast

import pytest
import torch
from product_case import PROBLEM, PROGRAM, SOFTMAX, X

from epitaxy.errors import BadCandidate
from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.forward import write_forward
from epitaxy.proposers.grower.program import FrameworkCall, Program, Ref, RegionCall


def body(program: Program, problem=PROBLEM, constants=()) -> list[str]:
    text = write_forward(program, problem, constants)
    ast.parse(text)
    return [line.strip() for line in text.partition("    def forward(")[2].splitlines()[1:]]


def call(target: str, *args: object, results: tuple[str, ...] = ("y",), **kwargs: object):
    return FrameworkCall(target=target, args=args, kwargs=tuple(kwargs.items()), results=results)


def program(*steps: object, outputs: tuple[str, ...] = ("y",), **more: object) -> Program:
    return Program(inputs=("x",), state=(), steps=steps, outputs=outputs, **more)  # type: ignore[arg-type]


def test_a_program_reads_like_a_forward():
    text = write_forward(PROGRAM, PROBLEM)
    assert "region0 replaces: aten.add.Tensor, aten._softmax.default" in text
    assert "class ModelNew(Model):" in text
    assert "Stays with PyTorch: aten.linear." in text
    assert "('bias', 'float32', (33,))" in text
    assert body(PROGRAM) == [
        "h = torch.ops.aten.linear.default(x, w, b)",
        "y, = _region0(h, bias)",
        "return y",
    ]


def test_plain_values_are_written_exactly():
    step = call(
        "torch.full_like",
        Ref("x"),
        float("-inf"),
        dtype=torch.float32,
        device=torch.device("cpu"),
        memory_format=torch.contiguous_format,
    )
    line = body(program(step))[0]
    scope = {"torch": torch, "x": torch.zeros(2)}
    exec(line, scope)
    assert torch.equal(scope["y"], torch.full((2,), float("-inf")))


def test_trees_hold_references():
    step = call("torch.cat", [Ref("x"), Ref("x")], results=("y",), dim=-1)
    assert body(program(step)) == ["y = torch.cat([x, x], dim=-1)", "return y"]
    picked = call("operator.getitem", Ref("x"), (slice(None, 3), 1))
    assert body(program(picked))[0] == "y = operator.getitem(x, (slice(None, 3, None), 1))"
    assert write_forward(program(picked), PROBLEM).startswith("import operator\n")


def test_several_results_and_returned_tuples():
    step = call("torch.max", Ref("x"), 1, results=("values", "indices"))
    assert body(program(step, outputs=("values", "indices"), returns_tuple=True)) == [
        "values, indices = torch.max(x, 1)",
        "return (values, indices)",
    ]
    one = program(call("torch.relu", Ref("x")), returns_tuple=True)
    assert body(one)[-1] == "return (y,)"


def test_values_are_let_go_after_their_last_use():
    steps = (
        call("torch.relu", Ref("x"), results=("a",)),
        call("torch.neg", Ref("a"), results=("b",)),
        call("torch.exp", Ref("b"), results=("y",)),
    )
    assert body(program(*steps)) == [
        "a = torch.relu(x)",
        "b = torch.neg(a)",
        "del a",
        "y = torch.exp(b)",
        "return y",
    ]


def test_awkward_names_become_identifiers():
    steps = (
        call("torch.relu", Ref("x"), results=("class",)),
        call("torch.neg", Ref("class"), results=("1.self",)),
        call("torch.exp", Ref("1.self"), results=("torch",)),
    )
    lines = body(program(*steps, outputs=("torch",)))
    assert lines[-1] != "return torch"
    assert "v1_self = torch.neg(class_)" in lines


def test_one_region_called_twice_is_declared_once():
    spec = TensorSpec(shape=(33,), dtype="float32")
    steps = (
        RegionCall(region=SOFTMAX, args=("x", "bias"), results=("a",)),
        RegionCall(region=SOFTMAX, args=("a", "bias"), results=("y",)),
    )
    text = write_forward(
        Program(inputs=("x",), state=(("bias", "bias"),), steps=steps, outputs=("y",)),
        PROBLEM.replace(parameters=(spec,)),
    )
    assert text.count("_epitaxy_kernel(") == 1
    assert "y, = _region0(a, bias)" in text


def test_plain_inputs_need_their_values():
    problem = PROBLEM.replace(inputs=(X, None))
    two = Program(
        inputs=("x", None),
        state=(),
        steps=(call("torch.relu", Ref("x")),),
        outputs=("y",),
    )
    assert '("value", 2.5),' in write_forward(two, problem, [2.5])
    with pytest.raises(BadCandidate, match="not known"):
        write_forward(two, problem)
    with pytest.raises(BadCandidate, match="takes 2 inputs"):
        write_forward(two, PROBLEM)


@pytest.mark.parametrize("target", ["os.system", "torch.ops; import os", "eval"])
def test_only_framework_functions_are_called(target):
    with pytest.raises(BadCandidate, match="cannot call"):
        write_forward(program(call(target, Ref("x"))), PROBLEM)


def test_values_without_text_are_refused():
    with pytest.raises(BadCandidate, match="cannot write a Tensor"):
        write_forward(program(call("torch.add", Ref("x"), torch.ones(1))), PROBLEM)


def test_on_other_chips_what_is_made_lies_where_the_inputs_lie():
    """The program is captured on the CPU; a GPU's kernels need it all on the GPU."""
    made = program(
        call("torch.ops.aten.arange.default", 4, device="cpu", pin_memory=False, results=("i",)),
        call("torch.ops.aten.add.Tensor", Ref("x"), Ref("i")),
    )
    assert "device='cpu'" in write_forward(made, PROBLEM)
    text = write_forward(made, PROBLEM, language="Triton")
    assert "i = torch.ops.aten.arange.default(4, device=x.device, pin_memory=False)" in text
