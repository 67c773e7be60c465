"""Short rows side by side: one vector holds several, each reduced within its own lanes."""

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together, oracles

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices

torch.manual_seed(4)
T = torch.randn
CASES = {
    "group_norm": (
        lambda x, w, b: torch.sigmoid(F.group_norm(x, 32, w, b)),
        [T(9, 256), T(256), T(256)],
    ),
    "softmax": (lambda x: torch.softmax(x, -1), [T(5, 7, 4)]),
    "softmax_of_sixteen": (lambda x: torch.softmax(x, -1), [T(33, 16)]),
    "pairs": (
        lambda x: x - x.amin(-1, keepdim=True) * x.prod(-1, keepdim=True),
        [T(3, 7, 2)],
    ),
    "softmax_of_thirty_two": (lambda x: torch.softmax(x, -1), [T(33, 32)]),
    "layer_norm": (lambda x: F.layer_norm(x, (8,)), [T(50, 8)]),
    "many": (lambda x: torch.softmax(x, -1), [T(5000, 8)]),
}
GENOMES = (
    Choices(width=16, unroll=4),
    Choices(width=8, unroll=1, stash=0),
    Choices(width=4, lane=1),
    Choices(width=16, online=0, stream=1, threads=1),
    Choices(width=32),
)
WITHOUT = {
    "a weight for each place": (lambda x, w: F.layer_norm(x, (8,), w), [T(50, 8), T(8)]),
    "rows of six": (lambda x: torch.softmax(x, -1), [T(50, 6)]),
    "rows longer than a vector": (lambda x: torch.softmax(x, -1), [T(50, 32)]),
    "rows across memory": (lambda x: torch.softmax(x, 1), [T(16, 8, 64)]),
    "one result for each row": (lambda x: torch.logsumexp(x, -1), [T(50, 8)]),
    "positions": (lambda x: x.argmax(-1, keepdim=True) + x, [T(50, 8)]),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases compiled together."""
    together = Together()
    for name, (function, inputs) in CASES.items():
        together.add(name, function, inputs, *GENOMES)
    return together.build(tmp_path_factory.mktemp("segments"))


@pytest.mark.parametrize("name", CASES)
def test_short_rows_compute_what_pytorch_computes(name, grown):
    function, inputs = CASES[name]
    for given, exact in oracles(function, inputs):
        for number in range(len(GENOMES)):
            (made,) = grown.outputs(name, number, given)
            torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-5, equal_nan=True)


def emitted(case, width):
    (step,) = capture(*case).steps
    return emit_region(step.region, Choices(width=width))


def test_vectors_hold_whole_rows():
    assert "epx::segment_sum<8>(" in emitted(CASES["group_norm"], 16)
    assert "epx::segment_max<16>(" in emitted(CASES["softmax_of_sixteen"], 16)
    assert "segment_" not in emitted(CASES["softmax_of_sixteen"], 8)


@pytest.mark.parametrize("what", WITHOUT)
def test_what_lies_otherwise_is_reduced_row_by_row(what):
    assert "segment_" not in emitted(WITHOUT[what], 16)


def test_exponentials_of_what_is_not_positive_stay_the_fast_ones():
    assert "epx::exp_fast(" in emitted(CASES["softmax"], 16)
