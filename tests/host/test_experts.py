"""Rows that go to experts: only those that are routed are computed, with PyTorch's numbers."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from grown_case import build_all, run
from torch import nn

from epitaxy.chip import find_chip
from epitaxy.problem import Work
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit_expr import Unsupported
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import own_work, writable
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import RegionCall, without
from epitaxy.proposers.nki.kernels import write_region as nki_region
from epitaxy.proposers.pallas.kernels import write_region as pallas_region

WIDTH, HIDDEN, EXPERTS = 19, 21, 5


class Expert(nn.Module):
    def __init__(self, gated: bool, bias: bool):
        super().__init__()
        self.up = nn.Linear(WIDTH, HIDDEN, bias=bias)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=bias) if gated else None
        self.down = nn.Linear(HIDDEN, WIDTH, bias=bias)

    def forward(self, x):
        if self.gate is None:
            return self.down(F.gelu(self.up(x)))
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Masked(nn.Module):
    """Every expert works on every row; gates are zero for all but two."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(Expert(False, True) for _ in range(EXPERTS))

    def forward(self, x, logits):
        top, chosen = torch.topk(torch.softmax(logits, -1), 2, dim=-1)
        gates = torch.zeros_like(logits).scatter(-1, chosen, top / top.sum(-1, keepdim=True))
        out = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            out = out + gates[..., e : e + 1] * expert(x)
        return out


class Chosen(nn.Module):
    """The same with weights in one tensor, a `where`, and a sum that begins with Python's 0."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN) * 0.2)
        self.second = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) * 0.2)

    def forward(self, x, logits):
        top, chosen = torch.topk(logits, 2, dim=-1)
        weights = top.softmax(-1)
        out = 0
        for e in range(EXPERTS):
            here = chosen == e
            weight = (here * weights).sum(-1, keepdim=True)
            y = torch.relu(x @ self.first[e]) @ self.second[e]
            out = out + torch.where(here.any(-1, keepdim=True), weight * y, 0.0)
        return out


class Gathered(nn.Module):
    """Rows are picked, worked on and added back: sizes that only the data tell."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(Expert(True, False) for _ in range(EXPERTS))

    def forward(self, x, logits):
        weights, chosen = torch.topk(F.softmax(logits, dim=1), 2, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        mask = F.one_hot(chosen, num_classes=EXPERTS).permute(2, 1, 0)
        for e, expert in enumerate(self.experts):
            k, row = torch.where(mask[e])
            made = expert(x[row]) * weights[row, k, None]
            out.index_add_(0, row, made)
        return out


class Given(nn.Module):
    """The experts of each row are an input: some twice, some of no expert at all."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, 8) for _ in range(EXPERTS))

    def forward(self, x, chosen):
        out = x.new_zeros(x.shape[0], 8)
        for e, expert in enumerate(self.experts):
            row, k = torch.where(chosen == e)
            out.index_add_(0, row, torch.tanh(expert(x[row])))
        return out


def rows(*shape):
    return [torch.randn(*shape, WIDTH), torch.randn(*shape, EXPERTS)]


twice = [torch.randn(7, WIDTH), torch.tensor([[4, 4], [3, 1]]).repeat(4, 1)[:7]]
CASES = {
    "masked": (Masked(), rows(3, 5)),
    "chosen": (Chosen(), rows(11)),
    "gathered": (Gathered(), rows(23)),
    "given": (Given(), twice),
}
GENOMES = [
    Choices(tile_m=4, tile_n=2, unroll=2),
    Choices(width=4, tile_m=3, tile_n=1, unroll=1, threads=1),
    Choices(tile_m=2, tile_n=3, dynamic=1),
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All captured and compiled together: name -> (program, its region), and the library."""
    found, genome = {}, []
    for number, (name, (module, inputs)) in enumerate(CASES.items()):
        program = capture(module, inputs, accept=writable)
        (step,) = [s for s in program.steps if isinstance(s, RegionCall) and s.region.routed]
        region = replace(step.region, name=name)
        found[name] = (program, step, region)
        genome.append((name, GENOMES[number % 3]))
    folder = tmp_path_factory.mktemp("experts")
    return found, build_all([r for *_, r in found.values()], Genome(tuple(genome)), folder)


def values_before(program, step, module, inputs):
    """What the region reads, by the program's own steps before it."""
    before = program.steps[: program.steps.index(step)]
    state = dict(module.state_dict())
    short = replace(program, steps=before, outputs=step.args)
    return run_program(short, state, inputs)


@pytest.mark.parametrize("name", CASES)
def test_experts_compute_what_pytorch_computes(name, grown):
    module, inputs = CASES[name]
    program, step, region = grown[0][name]
    with torch.no_grad():
        given = values_before(program, step, module, inputs)
        (made,) = run(grown[1], region, given)
        wanted = module(*inputs)
        (meant,) = run_program(program, dict(module.state_dict()), inputs)
        left = without(program, frozenset([step.region.name]))
        (same,) = run_program(left, dict(module.state_dict()), inputs)
    assert step.results == program.outputs
    torch.testing.assert_close(made.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(meant, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same, wanted)


@pytest.mark.parametrize("expert", [0, EXPERTS - 1])
def test_all_rows_may_go_to_the_same_experts(expert, grown):
    module, (x, _) = CASES["gathered"]
    program, step, region = grown[0]["gathered"]
    logits = torch.eye(EXPERTS)[[expert] * len(x)] * 9 + torch.arange(EXPERTS) * 0.1
    with torch.no_grad():
        (made,) = run(grown[1], region, values_before(program, step, module, [x, logits]))
        torch.testing.assert_close(made, module(x, logits), rtol=1e-4, atol=1e-5)


def test_nan_and_infinities_reach_every_expert(grown):
    """Zero times NaN is NaN: such rows go to all experts, as they do in PyTorch."""
    module, (x, logits) = CASES["masked"]
    program, step, region = grown[0]["masked"]
    x = x.clone()
    x[0, 3, 2], x[1, 1, 0], x[2, 0, 1] = torch.nan, torch.inf, -torch.inf
    with torch.no_grad():
        (made,) = run(grown[1], region, values_before(program, step, module, [x, logits]))
        wanted = module(x, logits)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert made[0, 3].isnan().all()


def test_rows_that_are_left_out_count_as_algebra(grown):
    _, step, _ = grown[0]["masked"]
    dense = 2.0 * 15 * EXPERTS * 2 * WIDTH * HIDDEN
    genome = Genome(((step.region.name, Choices()),))
    work, rules = own_work(Work(flops=dense), [step.region], [step.region], genome)
    assert work is not None
    assert work.flops == pytest.approx(dense * 2 / EXPERTS)
    assert any("gate" in rule for rule in rules)
    _, step, _ = grown[0]["gathered"]
    genome = Genome(((step.region.name, Choices()),))
    assert own_work(Work(flops=dense), [step.region], [step.region], genome)[0] is None


def test_other_targets_leave_experts_alone(grown):
    """What they cannot write is refused, never written without its results."""
    _, step, _ = grown[0]["masked"]
    choices = Choices()
    for write, chip in ((pallas_region, "tpu_v5e"), (nki_region, "trainium2")):
        with pytest.raises(Unsupported):
            write(step.region, choices, find_chip(chip))
