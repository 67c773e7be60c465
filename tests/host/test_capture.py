"""Captured programs compute what PyTorch computes."""

from __future__ import annotations

import operator
import time
from typing import Any

import pytest
import torch
from capture_cases import GROWN, MIXED, X, Wrapped
from torch import nn

from epitaxy.errors import BadProblem
from epitaxy.proposers.grower.algebra import Load, Scan, walk
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import FrameworkCall, Program, RegionCall


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
