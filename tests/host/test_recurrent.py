"""Recurrent layers: one region for all steps, with the numbers that PyTorch has."""

from dataclasses import replace

import pytest
import torch
from generous import GENEROUS
from grown_case import build_all, regions_of, renamed, run
from torch import nn

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.genome import DECISIONS, Choices, Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import RegionCall
from epitaxy.proposers.grower.space_recurrent import options

T = torch.randn
CASES = {
    "lstm": (nn.LSTM(13, 20, batch_first=True), [T(5, 7, 13)]),
    "lstm_given_state": (nn.LSTM(8, 16), [T(6, 3, 8), (T(1, 3, 16), T(1, 3, 16))]),
    "lstm_layers_both_ways": (
        nn.LSTM(9, 11, num_layers=2, bidirectional=True, batch_first=True),
        [T(4, 6, 9)],
    ),
    "gru": (nn.GRU(13, 20, batch_first=True), [T(5, 7, 13)]),
    "gru_layers": (nn.GRU(4, 5, num_layers=3), [T(3, 2, 4), T(3, 2, 5)]),
    "gru_both_ways": (nn.GRU(16, 8, bidirectional=True, bias=False), [T(1, 1, 16)]),
    "lstm_layers": (nn.LSTM(9, 11, num_layers=4, batch_first=True), [T(3, 11, 9)]),
    "plain_tanh": (nn.RNN(13, 37, batch_first=True, bidirectional=True), [T(5, 7, 13)]),
    "plain_relu": (nn.RNN(13, 20, nonlinearity="relu", num_layers=2), [T(7, 5, 13)]),
}
GENOMES = [
    Choices(unroll=1, tile_m=3, split_k=3),
    Choices(unroll=2, tile_m=2, tile_n=1, threads=1),
    Choices(width=4, tile_m=4, tile_n=3, dynamic=1),
]


class Spread(nn.Module):
    """A layer whose states are arguments of their own; all it returns in one tuple."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, *states):
        given = states if len(states) > 1 else states[0] if states else None
        y, last = self.layer(x, given) if given is not None else self.layer(x)
        return (y, *last) if isinstance(last, tuple) else (y, last)


def flat(inputs):
    return [t for x in inputs for t in (x if isinstance(x, tuple) else (x,))]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All layers captured and compiled together, threads in step with one another, each with rows
    of its own and each with layers of its own: name -> program, and the library."""
    programs, regions, genome = {}, [], []
    for number, (name, (layer, inputs)) in enumerate(CASES.items()):
        program = capture(Spread(layer), flat(inputs), accept=writable)
        assert program.left == ()
        own = replace(GENOMES[number % 3], form=1, mc=1 + 2 * (number % 3))
        layers = replace(GENOMES[number % 3], form=2, split_k=1 + number % 3)
        for form, chosen in (("", GENOMES[number % 3]), ("_alone", own), ("_own_layers", layers)):
            programs[name + form] = renamed(program, name + form)
            regions += regions_of(programs[name + form])
            genome += [(r.name, chosen) for r in regions_of(programs[name + form])]
    folder = tmp_path_factory.mktemp("recurrent")
    return programs, build_all(regions, Genome(tuple(genome)), folder)


@pytest.mark.parametrize("form", ["", "_alone", "_own_layers"], ids=["team", "alone", "layers"])
@pytest.mark.parametrize("name", CASES)
def test_recurrent_layers_compute_what_pytorch_computes(name, form, grown):
    layer, inputs = CASES[name]
    programs, library = grown
    program = programs[name + form]
    state = dict(Spread(layer).state_dict())
    (step,) = [s for s in program.steps if isinstance(s, RegionCall)]
    with torch.no_grad():
        exact = Spread(layer).double()(*[x.double() for x in flat(inputs)])
        layer.float()
        values = {n: state[key].float() for n, key in program.state}
        values |= dict(zip(program.inputs, flat(inputs), strict=True))
        for s in program.steps:
            if not isinstance(s, RegionCall):  # the first states, where none are given
                values[s.results[0]] = torch.zeros(s.args[0])
        made = run(library, step.region, [values[a] for a in step.args])
        meant = run_program(
            program, {k: v.double().float() for k, v in state.items()}, flat(inputs)
        )
    values |= dict(zip(step.results, made, strict=True))
    for wanted, same, ours in zip(exact, meant, program.outputs, strict=True):
        torch.testing.assert_close(values[ours].double(), wanted, rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(same.double(), wanted, rtol=1e-5, atol=2e-6)


def test_every_form_of_a_recurrent_layer_is_described():
    _, _, meaning = DECISIONS["form"].partition("of a recurrent layer, ")
    assert all(f"{form}: " in meaning for form in options(GENEROUS)["form"])


def test_layers_with_projections_stay_with_pytorch():
    program = capture(Spread(nn.LSTM(6, 8, proj_size=3)), [T(4, 2, 6)], accept=writable)
    assert any("lstm" in name for name in program.left)
