"""MKL's fast path as a baseline: left out only where it is known to change nothing."""

from __future__ import annotations

import pytest

from epitaxy.errors import MachineFault, NoCompiler
from epitaxy.machines import _mkl


@pytest.mark.parametrize(
    ("failure", "kept"),
    [(MachineFault("a worker hung", "try again"), True), (NoCompiler("no g++", "get one"), False)],
)
def test_an_effect_that_was_not_seen_leaves_the_baselines_in(failure, kept, monkeypatch):
    def fail(_):
        raise failure

    monkeypatch.setattr(_mkl, "applies", lambda: True)
    monkeypatch.setattr(_mkl, "_measure", fail)
    found = _mkl.effect(None)
    assert found.ok is kept
    assert failure.message in found.detail
