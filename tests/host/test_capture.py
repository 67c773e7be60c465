"""Captured programs compute what PyTorch computes."""

from __future__ import annotations

import operator
import time
from typing import Any

import pytest
import torch
from capture_cases import GROWN, MIXED, Wrapped, X
from torch import nn

from epitaxy.errors import BadProblem
from epitaxy.proposers.grower.algebra import Load, Map, Scan, walk
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import FrameworkCall, Program, RegionCall
from epitaxy.proposers.grower.show import describe


def _module(thing: Any) -> nn.Module:
    return thing.eval() if isinstance(thing, nn.Module) else Wrapped(thing).eval()


def _run(program: Program, module: nn.Module, inputs: tuple[Any, ...]) -> list[torch.Tensor]:
    state = {key: operator.attrgetter(key)(module) for _, key in program.state}
    with torch.no_grad():
        return run_program(program, state, inputs)


def _agrees(program: Program, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    with torch.no_grad():
        wanted = module(*inputs)
    assert program.returns_tuple == isinstance(wanted, tuple | list)
    wanted = list(wanted) if program.returns_tuple else [wanted]
    got = _run(program, module, inputs)
    assert [(g.dtype, g.shape) for g in got] == [(w.dtype, w.shape) for w in wanted]
    for ours, theirs in zip(got, wanted, strict=True):
        loose = theirs.dtype in (torch.float16, torch.bfloat16)
        torch.testing.assert_close(
            ours, theirs, rtol=1e-2 if loose else 1e-4, atol=1e-2 if loose else 1e-5, equal_nan=True
        )


def _regions(program: Program) -> list[Any]:
    return [s.region for s in program.steps if isinstance(s, RegionCall)]


@pytest.mark.parametrize("name", GROWN)
def test_grown_whole(name: str) -> None:
    given, inputs = GROWN[name]
    module = _module(given)
    program = capture(module, inputs)
    assert program.left == ()
    assert _regions(program)
    _agrees(program, module, inputs)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_with_framework(name: str) -> None:
    given, inputs, left = MIXED[name]
    module = _module(given)
    program = capture(module, inputs)
    assert all(any(word in entry for entry in program.left) for word in left), program.left
    _agrees(program, module, inputs)


@pytest.mark.parametrize(
    ("name", "functions"), [("mish", {"exp"}), ("softplus_with_a_step", {"exp", "log1p", "tanh"})]
)
def test_the_tangent_of_a_softplus_takes_one_exponential(name: str, functions: set[str]) -> None:
    (region,) = _regions(capture(_module(GROWN[name][0]), GROWN[name][1]))
    used = {v.fn for v in walk(tuple(s.value for s in region.stores)) if isinstance(v, Map)}
    assert used & {"exp", "log1p", "tanh"} == functions


def test_a_reversed_running_sum_reads_forwards() -> None:
    module = _module(GROWN["reverse_cumsum"][0])
    (region,) = _regions(capture(module, (X,)))
    values = walk(tuple(s.value for s in region.stores))
    assert [v.reverse for v in values if isinstance(v, Scan)] == [True]
    assert all(c > 0 for v in values if isinstance(v, Load) for _, c in v.index.terms)


def test_equal_dimensions_share_axes() -> None:
    """Softmax reads its input at one index only, in all three passes."""
    (region,) = _regions(capture(nn.Softmax(-1), (X,)))
    values = walk(tuple(s.value for s in region.stores))
    assert len([v for v in values if isinstance(v, Load)]) == 1
    assert "max over i2<33" in describe(region)


def test_deep_expressions_stay_small() -> None:
    def twice(x: torch.Tensor) -> torch.Tensor:
        for _ in range(60):
            x = x + x.flip(0) * 0.5
        return x

    (region,) = _regions(capture(_module(twice), (X,)))
    assert len(walk(tuple(s.value for s in region.stores))) < 600


def test_no_lowerable_operator_means_no_region() -> None:
    program = capture(_module(lambda x: x.sort(-1)[0]), (torch.ones(2, 2, 4),))
    assert all(isinstance(s, FrameworkCall) for s in program.steps)


def test_views_stay_with_the_framework_unnamed() -> None:
    module = _module(lambda x: x.transpose(0, 1)[:, 1:])
    program = capture(module, (X,))
    assert not _regions(program)
    assert program.left == ()
    _agrees(program, module, (X,))


def test_non_tensor_inputs_are_fixed() -> None:
    program = capture(_module(GROWN["scalars"][0]), (X, 3.0))
    assert program.inputs[1] is None


def test_training_mode_is_restored() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.ReLU())
    capture(module, (X,))
    assert module.training


class _Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x * self.count


@pytest.mark.parametrize(
    ("thing", "word"),
    [
        (_Counts(), "state"),
        (lambda x: x * 2 if x.sum() > 0 else x, "export"),
        (lambda x: {"y": x + 1}, "dict"),
    ],
)
def test_what_cannot_be_captured_says_so(thing: Any, word: str) -> None:
    with pytest.raises(BadProblem, match=word) as caught:
        capture(_module(thing), (X,))
    assert caught.value.mend


def test_a_network_is_captured_quickly() -> None:
    layers: list[nn.Module] = []
    for k in range(12):
        layers += [nn.Conv2d(3 if k == 0 else 8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    image = torch.ones(1, 3, 16, 16)
    start = time.perf_counter()
    program = capture(module, (image,))
    assert time.perf_counter() - start < 30
    assert program.left == ()
    _agrees(program, module, (image,))
