"""Problems: what loads, and one line with its mend for everything that does not."""

import textwrap

import pytest
import torch
import torch.nn.functional as F

import epitaxy
from epitaxy.errors import BadInput, BadProblem
from epitaxy.problem import load, open_reference
from epitaxy.references._work import work

HEAD = "import torch\nimport torch.nn as nn\n"
INPUTS = (
    "\ndef get_inputs():\n    return [torch.rand(4, 8)]\ndef get_init_inputs():\n    return []\n"
)


def write(tmp_path, body, inputs=INPUTS, name="p"):
    path = tmp_path / f"{name}.py"
    path.write_text(HEAD + textwrap.dedent(body) + inputs)
    return path


def model(forward, init="pass"):
    return f"""
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        {init}
    def forward(self, x):
        {forward}
"""


@pytest.mark.parametrize(
    ("body", "inputs", "says"),
    [
        ("x = = 1", INPUTS, "cannot be imported"),
        ("import nothing_of_that_name", INPUTS, "cannot be imported"),
        ("y = 1", INPUTS, "defines no Model"),
        (model("return x"), "", "defines no get_inputs"),
        (model("return x @ x"), INPUTS, "the reference raises"),
        (model("return 'hello'"), INPUTS, "returns str"),
        (model("return x + torch.rand(1)"), INPUTS, "not deterministic"),
        (model("return x / 0 * 0"), INPUTS, "NaN"),
        (model("return x.add_(1)"), INPUTS, "changes its own inputs"),
        (model("return x.to(torch.complex64)"), INPUTS, "unsupported dtype complex64"),
        (model("return x"), INPUTS.replace("(4, 8)", "(4, 0)"), "is empty"),
        (model("return x"), INPUTS.replace("(4, 8)", "(1 << 20, 1 << 20)"), "more memory"),
        (model("return x", "raise ValueError('no')"), INPUTS, "raises ValueError: no"),
    ],
)
def test_bad_problems_say_what_and_how_to_mend_it(tmp_path, body, inputs, says):
    with pytest.raises(BadInput, match=says) as caught:
        load(write(tmp_path, body, inputs))
    assert caught.value.mend
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(BadProblem, match="no such file"):
        load(tmp_path / "nothing.py")
    with pytest.raises(BadProblem, match="is a folder"):
        load(tmp_path)


def test_policy_beside_the_file_and_its_misspelt_key(tmp_path):
    path = write(tmp_path, model("return x * 2"))
    path.with_suffix(".toml").write_text("[epitaxy]\nerror_ratio = 3.0\n")
    assert load(path).policy.error_ratio == 3.0
    path.with_suffix(".toml").write_text("[epitaxy]\nerror_ration = 3.0\n")
    with pytest.raises(BadProblem, match="error_ration"):
        load(path)


def test_parameters_buffers_integers_and_tuples(tmp_path):
    body = """
    class Model(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.table = nn.Embedding(n, 6)
            self.register_buffer("scale", torch.full((6,), 2.0))
        def forward(self, index, factor):
            y = self.table(index) * self.scale * factor
            return y, y.sum(-1)
    def get_inputs():
        return [torch.randint(0, 10, (3, 5)), 1.5]
    def get_init_inputs():
        return [10]
    """
    problem = load(write(tmp_path, body, ""))
    assert [str(s) for s in problem.inputs if s] == ["int64[3, 5]"]
    assert problem.inputs[1] is None
    assert [s.shape for s in problem.outputs] == [(3, 5, 6), (3, 5)]
    reference = open_reference(problem)
    again = reference.inputs(1)[0]
    assert again.max() < 10
    exact = reference.oracle(reference.inputs(1))
    assert exact[0].dtype == torch.float64


def test_a_decorated_function_is_a_problem(tmp_path):
    path = tmp_path / "f.py"
    path.write_text(
        "import epitaxy, torch\n"
        "@epitaxy.problem(x=((4, 8), 'float32'), i=((4,), 'int64'))\n"
        "def f(x, i):\n    return x.sum(1) + i\n"
    )
    problem = epitaxy.load_problem(path)
    assert problem.entry == "f"
    assert problem.outputs[0].shape == (4,)


def test_distributions_keep_the_domain_of_the_given_inputs(tmp_path):
    reference = open_reference(load(write(tmp_path, model("return x.sqrt()"))))
    for name in reference.distributions():
        x = reference.inputs(3, name)[0]
        x = x[~x.isnan()]
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1


def test_errors_are_relative_to_the_oracle_and_catch_every_kind_of_wrong(tmp_path):
    reference = open_reference(load(write(tmp_path, model("return x * 2 - 1"))))
    x = reference.inputs(1)
    honest, exact = reference.run(x), reference.oracle(x)
    assert reference.error(honest, exact, honest) < 1e-6
    assert reference.error([honest[0] + 0.01], exact, honest) > 1e-3
    assert reference.error([torch.zeros_like(honest[0])], exact, honest) > 0.1
    assert reference.error([honest[0] * float("nan")], exact, honest) == float("inf")
    assert reference.error([honest[0].double()], exact, honest) == float("inf")


@pytest.mark.parametrize(
    ("call", "shapes", "flops"),
    [
        (F.scaled_dot_product_attention, [(2, 4, 64, 32)] * 3, 2 * 8 * 64 * 64 * 64),
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            [(2, 4, 64, 32)] * 3,
            2 * 8 * (64 * 65 // 2) * 64,
        ),
        (torch.nn.LSTM(16, 24).eval(), [(5, 3, 16)], 2 * 5 * 3 * 96 * (16 + 24)),
        (torch.nn.GRU(16, 24).eval(), [(5, 3, 16)], 2 * 5 * 3 * 72 * (16 + 24)),
    ],
    ids=["attention", "causal attention", "lstm", "gru"],
)  # fmt: skip
def test_products_that_pytorch_does_not_count_are_counted(call, shapes, flops):
    counted, *_ = work(call, [torch.randn(*shape) for shape in shapes], [])
    assert counted == flops


def whole(*shape):
    return torch.randint(-9, 9, shape, dtype=torch.int8)


@pytest.mark.parametrize(
    ("call", "given", "dtype"),
    [
        (torch._int_mm, [whole(32, 16), whole(16, 8)], "int8"),
        (lambda a, b: a.int() @ b.int(), [whole(32, 16), whole(16, 8)], "int8"),
        (
            lambda a, b: (a.bfloat16() @ b.bfloat16()).float(),
            [torch.randn(8, 8), torch.randn(8, 8)],
            "bfloat16",
        ),
        (
            lambda a, b: (a @ b.T).bfloat16() @ b[:, :2].bfloat16(),
            [torch.randn(8, 8), torch.randn(8, 8)],
            "float32",
        ),
        (torch.relu, [torch.randn(8)], ""),
    ],
    ids=["int8", "wider integers", "result in float32", "mostly float32", "no product"],
)
def test_the_dtype_of_work_is_that_of_what_is_multiplied(call, given, dtype):
    """The result may be wider, and its peak another: a floor of that would call an honest kernel
    faster than physics."""
    assert work(call, given, [])[2] == dtype
