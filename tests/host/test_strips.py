"""Parts of a sample one after the other: the same results, from less memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from chain_case import captured_in, loaded
from generous import GENEROUS
from torch import nn

from epitaxy.problem import open_reference
from epitaxy.proposers.grower import _body
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.chains import chained, strips, strips_of
from epitaxy.proposers.grower.emit_chain import _ChainWriter
from epitaxy.proposers.grower.growth import _text, writable
from epitaxy.proposers.grower.program import merged
from epitaxy.proposers.grower.slices import one_part, one_sample
from epitaxy.proposers.grower.space_samples import parts

T = torch.randn
WIDENED = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.widen = nn.Conv2d(5, 24, 1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.each = nn.Conv2d(24, 24, 3, stride=2, padding=1, groups=24)
        self.same = nn.Conv2d(24, 24, 5, padding=2, groups=24, bias=False)
        self.narrow = nn.Conv2d(24, 5, 1)

    def forward(self, x):
        wide = F.relu6(self.norm(self.widen(x)))
        y = F.silu(self.each(wide))
        z = torch.tanh(self.same(y)) + self.each.bias[:, None, None]
        return self.narrow(z), wide.amax((2, 3)), y

def get_inputs():
    return [torch.randn(4, 5, 19, 13)]

def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def widened(tmp_path_factory):
    """Channels widened, weighed each by themselves, and narrowed."""
    return captured_in(tmp_path_factory.mktemp("strips"), WIDENED, cores=2)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_parts_give_what_whole_samples_give(widened, count):
    problem, captured, folder = widened
    genome = captured.start
    for name, _ in genome.regions:
        genome = genome.with_choice(name, samples=count, stream=1)
    candidate, reference, ours = loaded(problem, captured, folder, genome)
    assert f"g < {count};" in candidate.files["kernel.cpp"]
    with torch.no_grad():
        for seed in (3, 4):
            inputs = open_reference(problem).inputs(seed)
            for x, y in zip(ours(*inputs), reference(*inputs), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        for weight in (reference.widen.weight, ours.widen.weight):
            weight.mul_(-2.0)  # no copies are kept of it
        for x, y in zip(ours(*inputs), reference(*inputs), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_a_count_that_does_not_divide_the_channels_is_one(widened):
    _, captured, _ = widened
    genomes = [captured.start, captured.start]
    for name, _ in captured.start.regions:
        genomes = [g.with_choice(name, samples=c) for g, c in zip(genomes, (1, 5), strict=True)]
    one, five = (captured.candidate(g, "", ()) for g in genomes)
    assert _body(one) == _body(five)


class Block(nn.Module):
    """A widened block; what a `full` one widens is read by a convolution over all channels."""

    def __init__(self, full=False, size=24):
        super().__init__()
        self.widen = nn.Conv2d(8, size, 1)
        self.each = nn.Conv2d(size, size, 3, padding=1, groups=1 if full else size)
        self.narrow = nn.Conv2d(size, 8, 1)

    def forward(self, x):
        return x + self.narrow(torch.relu(self.each(torch.relu(self.widen(x)))))


def test_only_regions_that_keep_channels_apart_follow():
    x = T(4, 8, 14, 14)
    found = strips_of(capture(Block().eval(), [x], accept=writable))
    (strip,) = found.values()
    assert strip.counts == (2, 3)  # parts of eight channels at least
    assert len(strip.regions) == 2
    assert strip.bytes == 24 * 14 * 14 * 4
    assert strip.again == 8 * 14 * 14 * 4
    assert not strips_of(capture(Block(full=True).eval(), [x], accept=writable))


def test_equal_blocks_are_one_strip():
    block = Block().eval()
    twice = capture(nn.Sequential(block, block), [T(4, 8, 14, 14)], accept=writable)
    (strip,) = strips_of(merged(twice, _text)).values()
    assert strip.counts == (2, 3)


def test_a_part_holds_its_share_of_weights_and_memory():
    program = capture(Block().eval(), [T(4, 8, 14, 14)], accept=writable)
    names = [s.region.name for s in program.steps]
    _, (chain,) = chained(program, {}, dict.fromkeys(names, 3))
    (row,) = chain.rows()
    assert [len(strip) for strip in strips(row)] == [2, 1]
    assert [s.shape for s in row[0].written.inputs] == [(1, 8, 14, 14), (8, 8, 1, 1), (8,)]
    assert [s.shape for s in row[1].written.inputs] == [(1, 8, 14, 14), (8, 1, 3, 3), (8,)]
    _, room = _ChainWriter(chain, "")._own(row)
    plane = 14 * 14 * 4
    assert 8 * plane + 24 * plane <= room < 9 * plane + 24 * plane


def test_a_region_called_otherwise_elsewhere_is_not_cut():
    """Equal regions are one function, which cannot be for a part and for a whole sample."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.widen = nn.Conv2d(8, 24, 1)
            self.each = nn.Conv2d(24, 24, 3, padding=1, groups=24)
            self.full = nn.Conv2d(24, 8, 3, padding=1)

        def forward(self, x):
            y = self.full(torch.relu(self.each(torch.relu(self.widen(x)))))
            return self.full(torch.relu(self.widen(y)))

    program = merged(capture(Twice().eval(), [T(4, 8, 14, 14)], accept=writable), _text)
    names = [s.region.name for s in program.steps]
    assert len({*names}) < len(names)
    _, (chain,) = chained(program, {}, dict.fromkeys(names, 3))
    assert all(link.part is None for link in chain.links)
    assert not strips_of(program)


def test_parts_depend_on_nothing_but_their_channels():
    def numbered(x, w):
        y = F.conv2d(x, w)
        return y * torch.arange(float(y.shape[1]))[:, None, None]

    def compared(x, w):
        return F.conv2d(x, w).softmax(1)

    def running(x, w):
        return F.conv2d(x, w).cumsum(1)

    for function in (numbered, compared, running):
        program = capture(function, [T(4, 8, 6, 6), T(16, 8, 1, 1)], accept=writable)
        samples = [one_sample(s.region) for s in program.steps]
        whole = [s for s in samples if s and s.region.outputs[0].shape[1:] == (16, 6, 6)]
        assert whole
        assert any(one_part(s, 2) is None for s in whole)


def test_first_guess_cuts_what_the_second_cache_does_not_hold():
    chip = GENEROUS.replace(cores=4)
    for pixels, expected in ((14, False), (56, True)):
        program = capture(Block(size=128).eval(), [T(4, 8, pixels, pixels)], accept=writable)
        names = frozenset(s.region.name for s in program.steps)
        found = parts(strips_of(program), names, chip)
        assert bool(found) == expected
        assert not parts(strips_of(program), frozenset(), chip)
