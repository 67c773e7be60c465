"""A kernel holds what the constructor decided: what is made otherwise runs the reference."""

import copy
import warnings

import pytest
import torch

from epitaxy.candidate import Candidate
from epitaxy.checks.sources import plugin
from epitaxy.problem import load, open_reference
from epitaxy.product.compose import bundle
from epitaxy.product.export import load as load_product
from epitaxy.proposers.grower.growth import grow_program
from epitaxy.proposers.grower.made import made_as

SOURCE = """
import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, layers=2, eps=1e-5, act="tanh", bias=True, p=0.1):
        super().__init__()
        self.norm = nn.LayerNorm(16, eps=eps)
        self.layers = nn.ModuleList(nn.Linear(16, 16, bias=bias) for _ in range(layers))
        self.act = {"tanh": torch.tanh, "relu": torch.relu}[act]
        self.last = nn.GELU() if act == "tanh" else nn.SiLU()
        self.drop = nn.Dropout(p)

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(self.norm(x)))
        return self.drop(self.last(x))


def get_inputs():
    return [torch.randn(8, 16)]


def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """ModelNew of the first guess; nothing is built before it is called."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "made.py").write_text(SOURCE)
    problem = load(folder / "made.py")
    grown = grow_program(open_reference(problem))
    files = {"kernel.cpp": "// none\n", "forward.py": grown.forward}
    candidate = Candidate(
        problem=problem.digest, toolchain="cpp", files=files, entry="forward.py", proposer="grower"
    )
    assert not plugin().check(candidate, problem), "the static checks take it"
    (folder / "model_new.py").write_text(bundle(candidate, problem))
    return load_product(folder)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"eps": 0.1}, "norm.eps is 0.1, tuned for 1e-05"),
        ({"layers": 3}, "it has 8 parts, tuned with 7"),
        ({"act": "relu"}, "act is .*relu.*, tuned for .*tanh"),
        ({"bias": False}, r"layers.0 holds \['weight'\], tuned with \['bias', 'weight'\]"),
    ],
)
def test_what_is_made_otherwise_runs_the_reference_aloud(product, made, reason):
    with pytest.warns(RuntimeWarning, match=reason) as said:
        model = product(**made).eval()
    assert said[0].filename == __file__
    reference = type(model)(**made).eval()
    assert type(model) is not product
    reference.load_state_dict(model.state_dict())
    x = torch.randn(8, 16)
    assert torch.equal(model(x), reference(x))
    assert torch.equal(copy.deepcopy(model)(x), reference(x))


def test_what_is_made_alike_has_the_kernel(product):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(product()) is product
        assert type(product(2, eps=1e-5, p=0.5)) is product, "dropout is of training"


def test_a_constructor_that_takes_nothing_decides_nothing():
    assert made_as(torch.nn.Identity.__base__()) == ()

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.eps = 1.0

    assert made_as(Plain()) == ()
    ((_, _, _, attributes),) = made_as(torch.nn.Softmax(-1))
    assert attributes == {"dim": -1}


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (torch.nn.LSTM, "batch_first", (True, False)),
        (torch.nn.RNN, "nonlinearity", ("tanh", "relu")),
        (torch.nn.Conv1d, "padding_mode", ("zeros", "circular")),
    ],
)
def test_what_a_constructor_hands_on_to_its_base_decides_too(kind, name, values):
    found = [made_as(kind(4, 4, 1, **{name: value})) for value in values]
    assert found[0] != found[1]
