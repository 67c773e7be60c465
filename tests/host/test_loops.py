"""Loops over time steps, written in Python: one region each, with the numbers PyTorch has."""

import pytest
import torch
from grown_case import build_all, regions_of, renamed, run
from torch import nn

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import RegionCall, without

T = torch.randn


def selective_scan(x, step, rate, b, c):
    """State-space steps whose decay is computed from the input; C h is summed in the loop."""
    decay = torch.exp(torch.sigmoid(step)[..., None] * -torch.exp(rate))
    drive = (step * x)[..., None] * b[:, :, None]
    h, found = torch.zeros_like(drive[:, 0]), []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + drive[:, t]
        found.append((h * c[:, t, None]).sum(-1))
    return torch.stack(found, 1)


def time_last(x, decay, gate, skip):
    """Time is the last axis; the collected values are gated after the loop."""
    h, found = x.new_zeros(x.shape[:2]), []
    for t in range(x.shape[2]):
        h = decay[..., t].sigmoid() * h + x[..., t]
        found.append(h * h.tanh())
    y = torch.stack(found, dim=-1)
    return (y + x * skip[:, None]) * torch.nn.functional.silu(gate)


def gated_unbound(x, f):
    """The first step stands apart, slices are taken beforehand, the last state is wanted too."""
    h, found = None, []
    for x_t, f_t in zip(x.unbind(1), f.sigmoid().unbind(1), strict=True):
        h = x_t if h is None else f_t * h + (1 - f_t) * x_t
        found.append(h.unsqueeze(1))
    return torch.cat(found, 1), h


def linear_attention(q, k, v, g):
    """The state is a matrix for each head; the query is multiplied with it in every step."""
    state, out = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3]), []
    for t in range(q.shape[2]):
        state = state * g[:, :, t, None, None] + k[:, :, t, :, None] * v[:, :, t, None]
        out.append(torch.einsum("bhd,bhde->bhe", q[:, :, t], state))
    return torch.stack(out, 2), state


def delta_rule(q, k, v, beta):
    """What the state already holds for a key is read before it is written: two sums a step."""
    state, out = q.new_zeros(q.shape[0], q.shape[2], v.shape[2]), []
    for t in range(q.shape[1]):
        held = (k[:, t, :, None] * state).sum(1)
        state = state + k[:, t, :, None] * (beta[:, t, None] * (v[:, t] - held))[:, None]
        out.append((q[:, t, :, None] * state).sum(1))
    return torch.stack(out, 1)


def running_softmax(k, v, w):
    """Three states, one a running maximum: weighted averages of everything so far."""
    most, top, low = torch.full_like(k[:, 0], -1e30), torch.zeros_like(v[:, 0]), 0 * v[:, 0]
    out = []
    for t in range(k.shape[1]):
        new = torch.maximum(most - w, k[:, t])
        old, now = torch.exp(most - w - new), torch.exp(k[:, t] - new)
        top, low, most = old * top + now * v[:, t], old * low + now, new
        out.append(top / low)
    return torch.stack(out, 1)


def backwards(x, a):
    """From the last step to the first, written into a tensor."""
    out, h = torch.empty_like(x), torch.zeros_like(x[0])
    for t in reversed(range(x.shape[0])):
        h = a * h + x[t]
        out[t] = h.relu()
    return out


def swapped(x):
    """Two states change places: both old values are needed."""
    a, b, out = torch.zeros_like(x[0]), torch.ones_like(x[0]), []
    for t in range(x.shape[0]):
        a, b = b * 0.5 + x[t], a
        out.append(a - b)
    return torch.stack(out), a, b


def every_step(x, f):
    """Every step's value is read apart."""
    h, found = x.new_zeros(x.shape[0], x.shape[2]), []
    for t in range(x.shape[1]):
        h = f * h + x[:, t : t + 1].squeeze(1)
        found.append(h * 2)
    return found[0] * found[1] + found[2] * found[3] - found[4] * found[5]


CASES = {
    "selective_scan": (
        selective_scan,
        [T(2, 9, 20), T(2, 9, 20), T(20, 6), T(2, 9, 6), T(2, 9, 6)],
    ),
    "time_last": (time_last, [T(3, 11, 7), T(3, 11, 7), T(3, 11, 7), T(11)]),
    "gated_unbound": (gated_unbound, [T(3, 8, 19), T(3, 8, 19)]),
    "linear_attention": (
        linear_attention,
        [T(2, 3, 6, 5), T(2, 3, 6, 5), T(2, 3, 6, 9), T(2, 3, 6)],
    ),
    "delta_rule": (delta_rule, [T(2, 6, 5), T(2, 6, 5) * 0.3, T(2, 6, 12), T(2, 6).sigmoid()]),
    "running_softmax": (running_softmax, [T(3, 9, 17), T(3, 9, 17), T(17).abs()]),
    "backwards": (backwards, [T(7, 3, 10), T(10).sigmoid()]),
    "swapped": (swapped, [T(8, 21)]),
    "every_step": (every_step, [T(4, 6, 13), T(13).sigmoid()]),
}
GENOMES = [
    Choices(tile=16, unroll=2),
    Choices(width=4, tile=4, unroll=1, threads=1),
    Choices(width=8, tile=64, unroll=4, dynamic=1),
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All loops captured and compiled together: name -> program, and the library."""
    programs, regions, genome = {}, [], []
    for number, (name, (function, inputs)) in enumerate(CASES.items()):
        programs[name] = renamed(capture(function, inputs, accept=writable), name)
        regions += regions_of(programs[name])
        genome += [(r.name, GENOMES[number % 3]) for r in regions_of(programs[name])]
    folder = tmp_path_factory.mktemp("loops")
    return programs, build_all(regions, Genome(tuple(genome)), folder)


@pytest.mark.parametrize("name", CASES)
def test_loops_compute_what_pytorch_computes(name, grown):
    function, inputs = CASES[name]
    programs, library = grown
    program = programs[name]
    (step,) = [s for s in program.steps if isinstance(s, RegionCall) and s.region.loop]
    exact = function(*(x.double() for x in inputs))
    exact = exact if isinstance(exact, tuple) else (exact,)
    values = dict(zip(program.inputs, inputs, strict=True))
    before = program.steps[: program.steps.index(step)]
    if not before:  # what the loop reads is what was given
        made = run(library, step.region, [values[a] for a in step.args])
        values |= dict(zip(step.results, made, strict=True))
        for s in program.steps[1:]:
            if isinstance(s, RegionCall):
                outs = run(library, s.region, [values[a] for a in s.args])
                values |= dict(zip(s.results, outs, strict=True))
    meant = run_program(program, {}, inputs)
    for wanted, same, ours in zip(exact, meant, program.outputs, strict=True):
        torch.testing.assert_close(same.double(), wanted, rtol=1e-5, atol=1e-5)
        if ours in values:
            torch.testing.assert_close(values[ours].double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_loop_can_be_left_to_the_framework(name, grown):
    function, inputs = CASES[name]
    program = grown[0][name]
    loops = [s for s in program.steps if isinstance(s, RegionCall) and s.region.loop]
    assert all(s.framework for s in loops)
    plain = without(program, frozenset(s.region.name for s in loops))
    wanted = function(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for same, right in zip(run_program(plain, {}, inputs), wanted, strict=True):
        torch.testing.assert_close(same, right)


class Shared(nn.Module):
    """The same layer again and again: no channel runs by itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        for _ in range(6):
            x = torch.tanh(self.layer(x))
        return x


def test_layers_that_mix_all_channels_are_no_loop():
    program = capture(Shared(), [T(3, 8)], accept=writable)
    assert not any(isinstance(s, RegionCall) and s.region.loop for s in program.steps)
