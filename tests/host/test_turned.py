"""Matrices read across their rows: squares are turned in registers, edges element by element."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together
from test_chunks import captured

from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices

T = torch.randn


def with_nan(*shape):
    x = T(*shape)
    x[0, 1] = float("nan")
    return x


CASES = {
    "symmetric": (lambda a: a + a.T, (with_nan(96, 96),)),
    "odd sizes": (lambda a, b: (a * 2 - b.T).exp(), (T(77, 101), with_nan(101, 77))),
    "nothing but turned": (lambda a: a.transpose(1, 2) * 2, (T(3, 65, 130),)),
    "to channels last": (lambda a: torch.relu(a.permute(0, 2, 3, 1)) + 1, (T(2, 40, 9, 13),)),
    "with rows and columns": (
        lambda a, b, c: torch.where(a > 0, a.T * b[:, None], c),
        (T(70, 70), T(70), T(70)),
    ),
    "two turned": (lambda a, b, c: a.T * b.T + c, (T(64, 81), T(64, 81), T(81, 64))),
}
COLUMNS = {
    "norm to channels last": (
        lambda a, w, b: F.layer_norm(a.permute(0, 2, 3, 1), (40,), w, b),
        (T(2, 40, 9, 13), T(40), T(40)),
    ),
    "softmax to channels last": (
        lambda a: torch.softmax(a.transpose(1, 2), -1) * 2,
        (T(3, 70, 33),),
    ),
    "windows, then a norm": (
        lambda a, w: F.layer_norm(F.conv2d(a, w, groups=48, padding=1).permute(0, 2, 3, 1), (48,)),
        (T(2, 48, 6, 10), T(48, 1, 3, 3)),
    ),
}
OTHERS = {
    "too few rows": (lambda a, b: a + b.T, (T(3, 4000), T(4000, 3))),
    "summed": (lambda a, b: (a + b.T).sum(1), (T(90, 90), T(90, 90))),
    "running sums": (lambda a, b: (a + b.T).cumsum(1), (T(90, 90), T(90, 90))),
    "integers": (lambda a: a + a.T, (torch.randint(-99, 99, (90, 90)).int(),)),
}
WRITTEN = (
    Choices(),
    Choices(width=16, stream=1),
    Choices(width=4, threads=1),
    Choices(width=32, lane=1),
)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases at four widths."""
    together = Together()
    for name, (function, inputs) in (CASES | COLUMNS | OTHERS).items():
        together.add(name, function, inputs, *WRITTEN)
    return together.build(tmp_path_factory.mktemp("turned"))


@pytest.mark.parametrize("number", range(len(WRITTEN)))
@pytest.mark.parametrize("name", CASES | COLUMNS | OTHERS)
def test_it_computes_what_pytorch_does(name, number, grown):
    function, inputs = (CASES | COLUMNS | OTHERS)[name]
    (made,) = grown.outputs(name, number, inputs)
    exact = function(*[x.double() if x.is_floating_point() else x for x in inputs])
    torch.testing.assert_close(made.to(exact.dtype), exact, rtol=3e-6, atol=3e-6, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_what_lies_across_is_turned(name):
    text = emit_region(captured(*CASES[name])[0], Choices())
    assert "epx::turn<" in text
    assert "strided" not in text


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_fill_squares_is_read_as_before(name):
    assert "epx::turn<" not in emit_region(captured(*OTHERS[name])[0], Choices())


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_of_results_are_turned_as_they_are_written(name):
    text = emit_region(captured(*COLUMNS[name])[0], Choices(width=16))
    assert "strided" not in text, text
    assert "turned0" in text
    assert text.count("// kernel") <= 2, "sums and what is made of them go together"
