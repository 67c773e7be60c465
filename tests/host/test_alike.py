"""Layers that compute the same are one region, called several times; narrow pools; sizes told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from generous import GENEROUS
from grown_case import pair
from test_chains import captured_in
from torch import nn

from epitaxy.problem import open_reference
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import multiplied_inputs, writable
from epitaxy.proposers.grower.program import RegionCall, calls, leavable, merged, with_weights
from epitaxy.proposers.grower.slices import one_sample
from epitaxy.proposers.grower.space import spaces
from epitaxy.proposers.grower.space_samples import apart
from epitaxy.shrink import AUTO, shrink
from epitaxy.toolchains.cpp import plugin

LAYERS = """
import torch
import torch.nn as nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(256, 256)

    def forward(self, x):
        return torch.relu(self.up(x))

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(Layer() for _ in range(4)))

    def forward(self, x):
        return self.layers(x)

batch_size = 256

def get_inputs():
    return [torch.randn(batch_size, 256)]

def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """A network of layers that are alike."""
    return captured_in(tmp_path_factory.mktemp("alike"), LAYERS)


def test_layers_that_compute_the_same_are_written_once(layers):
    _, captured, _ = layers
    program = captured.program.program
    called = calls(program)
    assert max(called.values()) >= 3
    assert len(captured.regions) == len(called) < sum(called.values())
    text = captured.candidate(captured.start, "", ()).files["kernel.cpp"]
    for region in captured.regions:
        assert text.count(f'extern "C" int {region.name}(') == 1


def test_each_call_has_its_own_weights_and_copies_of_them(layers):
    problem, captured, folder = layers
    build = plugin().build(captured.candidate(captured.start, "", ()), problem, folder / "cache")
    assert build.ok, build.log
    reference, ours = pair(f"{build.folder}/model_new.py")
    inputs = open_reference(problem).inputs(3)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(ours(*inputs), reference(*inputs), rtol=1e-4, atol=1e-5)
        for model in (reference, ours):
            model.layers[2].up.weight.mul_(-2.0)
        torch.testing.assert_close(ours(*inputs), reference(*inputs), rtol=1e-4, atol=1e-5)


def test_work_counts_every_call(layers):
    problem, captured, _ = layers
    program = captured.program.program
    total = sum(calls(program).values())
    assert total == sum(isinstance(s, RegionCall) for s in program.steps)
    candidate = captured.candidate(captured.start, "", ())
    assert candidate.work is None  # nothing is saved, in no call
    assert leavable(program) == set(calls(program))


class Twice(nn.Module):
    """The same product by a weight and by what it has made itself."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(256, 256))

    def forward(self, x):
        y = torch.relu(x @ self.w)
        z = torch.relu(y @ self.w)
        return torch.relu(y @ z)


def test_copies_are_kept_of_weights_alone_where_calls_are_alike():
    program = capture(Twice().eval(), [torch.randn(256, 256)], accept=writable)
    program = merged(with_weights(program, multiplied_inputs), lambda r: emit_region(r, Choices()))
    weights = {name for name, _ in program.state}
    of = [[step.args[i] in weights for i in step.region.weights] for step in program.steps]
    assert of == [[True], [True], []]
    assert program.steps[0].region == program.steps[1].region


def test_a_light_region_that_is_called_often_is_searched():
    (large,) = capture(torch.mm, [torch.randn(512, 512), torch.randn(512, 512)]).steps
    (light,) = capture(torch.tanh, [torch.randn(64, 64)]).steps
    regions = [replace(r.region, name=n) for n, r in (("large", large), ("light", light))]
    assert spaces(regions, GENEROUS)["light"] == {}
    assert spaces(regions, GENEROUS, called={"light": 1000})["light"]


def test_a_narrow_pool_keeps_its_lanes_along_the_row():
    pool = capture(nn.MaxPool2d(2), [torch.randn(8, 6, 28, 28)])
    (step,) = (s for s in pool.steps if isinstance(s, RegionCall))
    assert "get_strided<V>" in emit_region(step.region, Choices(width=16))


def test_a_layer_that_reads_its_weights_for_one_row_waits_for_all_samples(layers):

    class Chip:
        cores, vector_bytes = 2, 32

    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 96), nn.ReLU()
    )
    program = capture(net.eval(), [torch.randn(32, 3, 16, 16)])
    regions = [s.region for s in program.steps if isinstance(s, RegionCall)]
    samples = {r.name: one_sample(r) for r in regions}
    conv = {r.name for r in regions if "aten.convolution.default" in r.source}
    assert None not in samples.values()
    assert len(samples) > len(conv)
    assert apart(samples, Chip()) == conv


def test_a_constructor_that_reads_values_is_no_hindrance_to_scaling():
    source = LAYERS.replace(
        "super().__init__()\n        self.layers",
        "super().__init__()\n        self.rates = [x.item() for x in torch.linspace(0, 1, 4)]\n"
        "        self.layers",
    ).replace("batch_size = 256", "batch_size = 1 << 24")
    source = source.replace("1 << 24", str(1 << 24))
    (change,) = shrink(source, AUTO, "x").changes
    assert change.startswith("batch_size: 16777216 to ")
