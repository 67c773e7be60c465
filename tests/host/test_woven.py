"""Results in pairs side by side: both of a pair together, whole vectors of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together, oracles

from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices

T = torch.randn


def pairs(a, b):
    """The numbers of `a` and `b` in turn."""
    return torch.stack((a, b), dim=-1).flatten(-2)


def rotated(x, angle):
    """Pairs of numbers as rows of a plane that is turned."""
    first, second = x[..., ::2], x[..., 1::2]
    c, s = torch.cos(angle), torch.sin(angle)
    return pairs(first * c - second * s, first * s + second * c)


CASES = {
    "stacked": (pairs, [T(3, 5, 37), T(3, 5, 37)]),
    "short": (pairs, [T(9, 5), T(9, 5)]),
    "repeated": (lambda x: x.repeat_interleave(2, -1) * 2 + 1, [T(7, 19)]),
    "larger": (lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest") * 3, [T(2, 3, 9, 21)]),
    "beside": (
        lambda x, y: torch.cat((y, F.interpolate(x, scale_factor=2.0, mode="nearest")), 1),
        [T(1, 4, 8, 24), T(1, 3, 16, 48)],
    ),
    "turned": (rotated, [T(2, 3, 12, 44), T(12, 22)]),
    "numbered": (lambda x: pairs(x * 0.5, torch.arange(33.0) - x), [T(4, 33)]),
    "zeros": (lambda x, w: pairs(F.conv1d(x, w), x.new_zeros(2, 3, 35)), [T(2, 3, 36), T(3, 3, 2)]),
    "one": (lambda x, y: pairs(x[..., 1::2], y), [T(4, 70), T(4, 35)]),
}
GENOMES = [Choices(width=w, stream=s, ahead=s) for w in (4, 8, 16, 32) for s in (0, 1)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    together = Together()
    for name, (function, inputs) in CASES.items():
        together.add(name, function, inputs, *GENOMES)
        text = "".join(emit_region(r, GENOMES[2]) for r in together.regions(name))
        assert "epx::put_pairs" in text
        assert ("strided" in text) == (name == "one")  # what lies beside it may be nobody's memory
    return together.build(tmp_path_factory.mktemp("woven"))


@pytest.mark.parametrize("name", CASES)
def test_pairs_are_what_pytorch_gives(name, grown):
    function, inputs = CASES[name]
    for given, exact in oracles(function, inputs):
        for number in range(len(GENOMES)):
            (made,) = grown.outputs(name, number, given)
            torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-5, equal_nan=True)
