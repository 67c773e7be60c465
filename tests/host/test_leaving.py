"""Regions left to the framework: the same results, a decision of the genome, found by share."""

import pytest
import torch

import epitaxy
from epitaxy.problem import load, open_reference
from epitaxy.product import export
from epitaxy.proposers.grower.growth import grow_program
from epitaxy.proposers.grower.program import RegionCall, leavable, without
from epitaxy.proposers.grower.shares import run, shares

NET = """
import torch
class Model(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.norm = torch.nn.LayerNorm(n)
        self.fc = torch.nn.Linear(n, 64)
    def forward(self, x):
        y = torch.relu(self.conv(x)).mean((2,))
        y = self.norm(y)
        y = torch.nn.functional.gelu(self.fc(y))
        return y, y.max(-1).values
def get_inputs():
    return [torch.randn(16, 8, 48, 64)]
def get_init_inputs():
    return [64]
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("leaving") / "net.py"
    path.write_text(NET)
    reference = open_reference(load(path))
    return reference, grow_program(reference)


def test_every_region_can_be_left_and_computes_the_same(net):
    reference, grown = net
    names = {r.name for r in grown.regions}
    assert len(names) > 1
    assert leavable(grown.program) == names
    outputs = run(reference, without(grown.program, frozenset(names)), {})
    assert not any(isinstance(s, RegionCall) for s in without(grown.program, names).steps)
    for ours, theirs in zip(outputs, reference.run(reference.inputs(0)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_shares_are_of_the_whole(net):
    reference, grown = net
    found = shares(reference, grown.program)
    assert set(found) == {r.name for r in grown.regions}
    assert all(0 <= share <= 1 for share in found.values())
    assert 0 < sum(found.values()) <= 1 + 1e-9


class Seen:
    """What a proposer sees at the start of a search."""

    seed, toolchains = 0, ("cpp",)

    def __init__(self, problem, chip):
        self.problem, self.chip = problem, chip

    def judged(self):
        return ()

    pending = history = judged


def test_a_candidate_may_leave_a_product_to_the_framework(net, tmp_path):
    from test_docs import CHIP

    from epitaxy.proposers.grower import Grower

    reference, grown = net
    proposed = Grower().propose(Seen(reference.problem, CHIP), 8)
    mixed = [c for c in proposed if "leave=1" in c.genome]
    assert mixed, "leaving is among the first things tried"
    assert all(c.regions for c in proposed), "something is always grown"
    candidate = max(mixed, key=lambda c: len(c.left))
    text = candidate.files["forward.py"]
    assert "torch.ops.aten.convolution" in text
    assert len(candidate.regions) + candidate.genome.count("leave=1") == len(grown.regions)
    export(candidate, None, reference.problem, tmp_path / "out")
    made = epitaxy.load(tmp_path / "out")(64).eval()
    made.load_state_dict(reference.state())
    inputs = reference.inputs(3)
    with torch.no_grad():
        for ours, theirs in zip(made(*inputs), reference.run(inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_takes_little_time_is_neither_searched_nor_left(net):
    from test_docs import CHIP

    from epitaxy.proposers.grower.space import spaces

    _, grown = net
    light, *heavy = [r.name for r in grown.regions]
    measured = {light: 0.001, **dict.fromkeys(heavy, 0.5)}
    found = spaces(grown.regions, CHIP, shares=measured, leavable=leavable(grown.program))
    assert found[light] == {}
    assert all(found[name] for name in heavy)
    assert next(reversed(found)) == light, "the heaviest first"
