"""Rows added where data says: bags of embeddings, index_add, scatter_add, in order."""

import ctypes
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from grown_case import build_all, run

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import RegionCall, without

T, N = torch.randn, torch.tensor
TABLE, PLACES = T(13, 21), N([4, 0, 4, 4, 7, 1, 0, 8])


def bags(mode):
    return lambda i, o, w: F.embedding_bag(i, w, o, mode=mode)


CASES = {
    "bag_sum": (bags("sum"), [torch.randint(0, 13, (17,)), N([0, 3, 3, 9]), TABLE]),
    "bag_mean": (bags("mean"), [torch.randint(0, 13, (17,)), N([0, 0, 5, 17]), TABLE]),
    "bag_fixed": (lambda i, w: F.embedding_bag(i, w, mode="sum"), [PLACES.view(4, 2), TABLE]),
    "bag_weighted": (
        lambda i, o, w, s: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=s),
        [PLACES, N([0, 2, 7]), TABLE, T(8)],
    ),
    "index_add": (lambda x, i, v: x.index_add(0, i, v.exp() * 2), [T(9, 21), PLACES, T(8, 21)]),
    "index_put": (
        lambda x, i, v: x.index_put((i,), v, accumulate=True),
        [T(9, 5), PLACES - 9, T(8, 5)],
    ),
    "scatter_add": (
        lambda i, v: torch.zeros(9, 21).scatter_add(0, i[:, None].expand(-1, 21), v),
        [PLACES, T(8, 21)],
    ),
    "looked_up": (
        lambda x, i, t, v: x.index_add(0, t[i], v),
        [T(9, 21), PLACES, torch.randperm(9), T(8, 21)],
    ),
}
GENOMES = [Choices(), Choices(width=4, threads=1), Choices(width=16, dynamic=1)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    found, genome = {}, []
    for number, (name, (function, inputs)) in enumerate(CASES.items()):
        program = capture(function, inputs, accept=writable)
        (step,) = [s for s in program.steps if isinstance(s, RegionCall) and s.region.sums]
        found[name] = (program, step, replace(step.region, name=name))
        genome.append((name, GENOMES[number % 3]))
    folder = tmp_path_factory.mktemp("sums")
    return found, build_all([r for *_, r in found.values()], Genome(tuple(genome)), folder)


def given(program, step, inputs):
    """What the region reads."""
    short = replace(program, steps=program.steps[: program.steps.index(step)], outputs=step.args)
    return run_program(short, {}, inputs)


@pytest.mark.parametrize("name", CASES)
def test_sums_are_pytorchs(name, grown):
    function, inputs = CASES[name]
    program, step, region = grown[0][name]
    wanted = function(*inputs)
    (made,) = run(grown[1], region, given(program, step, inputs))
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(run_program(program, {}, inputs)[0], wanted, rtol=1e-5, atol=1e-6)
    left = without(program, frozenset([step.region.name]))
    torch.testing.assert_close(run_program(left, {}, inputs)[0], wanted)


@pytest.mark.parametrize(
    ("name", "input_", "bad"),
    [
        ("index_add", 1, N([4, 0, 4, 4, 9, 1, 0, 8])),
        ("index_put", 1, N([4, 0, -10, 4, 7, 1, 0, 8])),
        ("scatter_add", 0, N([4, 0, -1, 4, 7, 1, 0, 8])),
        ("bag_weighted", 0, N([4, 0, 4, 4, 13, 1, 0, 8])),
        ("bag_weighted", 1, N([0, 5, 3])),
        ("bag_weighted", 1, N([1, 2, 3])),
        ("bag_weighted", 1, N([0, 2, 9])),
        ("looked_up", 1, N([4, 0, 4, 1 << 29, 7, 1, 0, 8])),
        ("looked_up", 2, N([4, 0, 2, 1, 9, 3, 6, 8, 5])),
    ],
)
def test_places_outside_are_left_to_the_reference(name, input_, bad, grown):
    """The kernel says no, and the caller falls back: whatever PyTorch does happens."""
    inputs = list(CASES[name][1])
    inputs[input_] = bad
    program, step, region = grown[0][name]
    values = dict(zip(program.inputs, inputs, strict=True))
    if any(a not in values for a in step.args):
        held = dict(zip(step.args, given(program, step, CASES[name][1]), strict=True))
        values = {**held, **values}
    tensors = [values[a].contiguous() for a in step.args]
    outs = [torch.empty(region.outputs[0].shape)]
    pack = lambda ts: (ctypes.c_void_p * len(ts))(*[t.data_ptr() for t in ts])  # noqa: E731
    assert getattr(grown[1], region.name)(pack(tensors), pack(outs)) == 1


def test_indices_that_choose_indices_are_checked_before_they_are_used():
    inputs = [T(50, 64), torch.randint(0, 50, (40,)), torch.randint(0, 40, (30,))]
    (step,) = capture(lambda x, t, i: x[t[i]] * 2, inputs, accept=writable).steps
    before, *_ = emit_region(step.region, Choices()).partition("epx::pick")
    assert "if (bad1 || bad2) return 1;" in before
