"""What a problem is made of, for one that no candidate was written for."""

from epitaxy import knowledge
from epitaxy.ledger import Ledger
from epitaxy.problem import load

SOFTMAX = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs():
    return [torch.randn(8, 32)]

def get_init_inputs():
    return []
"""


def test_operators_of_a_new_problem_are_captured(tmp_path):
    file = tmp_path / "softmax.py"
    file.write_text(SOFTMAX)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert knowledge.operators(load(file), ledger) == ("amax", "div", "exp", "sub", "sum")


def test_what_cannot_be_grown_is_known_by_the_names_in_its_source(tmp_path):
    file = tmp_path / "eigenvalues.py"
    file.write_text(SOFTMAX.replace("softmax(x, dim=-1)", "linalg.eigvalsh(x @ x.T)"))
    problem = load(file)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert knowledge.search(problem, ledger) == []
        assert knowledge.operators(problem, ledger)
