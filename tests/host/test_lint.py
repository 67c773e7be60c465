"""Lint: planted faults of problems are named with their mend; sound problems raise no alarm."""

import json

import pytest

from epitaxy.cli import main
from epitaxy.lint import lint
from epitaxy.problem import load

FILE = """
import itertools
import random
import torch
import torch.nn as nn
import torch.nn.functional as F
COUNT = itertools.count()
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        {init}
    def forward(self, {arguments}):
        {forward}
def get_inputs():
    {before}
    return [{inputs}]
def get_init_inputs():
    return []
"""
SOUND = {
    "inputs": "torch.randn(64, 4096)", "arguments": "x", "init": "pass", "before": "pass",
    "forward": "return torch.softmax(x, 1)",
}  # fmt: skip
BIAS = "self.b = nn.Parameter(torch.randn(4096))"

PLANTED = {
    # name: (changes to SOUND, severity, check, words of the message)
    "zeros": ({"forward": "return torch.relu(-1 - x.abs())"}, "refusal", "trivial", "zeros"),
    "a flag never raised": ({"forward": "return x > 1e9"}, "refusal", "trivial", "zeros"),
    "a mean of noise": ({"forward": "return x.mean() * 0 + 3.0"},
                        "refusal", "trivial", "a constant"),
    "one of two outputs is constant": (
        {"forward": "return x * 2, torch.ones_like(x) + x * 0"},
        "warning", "trivial", "output 1"),
    "identity": ({"forward": "return torch.clamp(x, -1e9, 1e9)"},
                 "refusal", "trivial", "a copy of x"),
    "identity of the second input": (
        {"forward": "return y + 0 * x", "arguments": "x, y",
         "inputs": "torch.randn(64, 4096), torch.randn(64, 4096)"},
        "refusal", "trivial", "a copy of y"),
    "saturated": ({"forward": "return torch.sigmoid(x.abs() + 40)"},
                  "refusal", "trivial", "a constant"),
    "saturated only on its own inputs": (
        {"forward": "return torch.clamp(x + 1, -50.0, 50.0).tanh()",
         "inputs": "torch.randn(64, 4096) * 0.1 + 40"},
        "warning", "trivial", "its own inputs"),
    "an input that is not used": (
        {"forward": "return x * 2", "arguments": "x, mask",
         "inputs": "torch.randn(64, 4096), torch.rand(64, 4096) < 0.5"},
        "warning", "dependence", "mask"),
    "an input that is drowned": (
        {"forward": "return x * 2 + 1e-12 * y", "arguments": "x, y",
         "inputs": "torch.randn(64, 4096), torch.rand(64, 4096)"},
        "warning", "dependence", "y"),
    "a parameter that is not used": ({"init": "self.spare = nn.Linear(8, 8)"},
                                     "warning", "dependence", "spare.weight, spare.bias"),
    "a bias that softmax cancels": (
        {"init": "self.b = nn.Parameter(torch.randn(64, 1))",
         "forward": "return torch.softmax(x + self.b, 1)"},
        "warning", "dependence", "b"),
    "neutral parameters": (
        {"init": "self.register_buffer('scale', torch.ones(4096))",
         "forward": "return x.tanh() * self.scale"},
        "warning", "parameters", "scale"),
    "fixed inputs": ({"before": "torch.manual_seed(0)"}, "warning", "seeds", "every seed"),
    "inputs of another generator": (
        {"inputs": "torch.full((64, 4096), random.random()) + torch.randn(64, 4096)"},
        "warning", "seeds", "another x"),
    "ill-conditioned": (
        {"forward": "return x.sum(1) - x.flip(1).cumsum(1)[:, -1] + 1e-6 * x[:, 0]"},
        "refusal", "conditioning", "errs by"),
    "badly conditioned": (
        {"forward": "return (x + 500).mean(1) - 500"}, "warning", "conditioning", "so far that"),
    "cancellation": (
        {"forward": "return ((x + 1e5) ** 2).mean(1) - (x + 1e5).mean(1) ** 2"},
        "refusal", "conditioning", "errs by"),
    "small": ({"inputs": "torch.randn(4, 8)"}, "warning", "size", "a call itself costs"),
    "a module that counts its calls": (
        {"init": "self.register_buffer('seen', torch.zeros(3))",
         "forward": "self.seen += 1e-9\n        return torch.softmax(x, 1) + self.seen.sum()"},
        "warning", "determinism", "seen"),
    "unsteady in the last places": (
        {"forward": "return torch.softmax(x, 1) * (1 + 1e-7 * (next(COUNT) % 3))"},
        "warning", "determinism", "from call to call"),
    "unsteady": ({"forward": "return torch.softmax(x, 1) * (1 + 1e-3 * (next(COUNT) % 5))"},
                 "refusal", "determinism", "from call to call"),
    "infinite": ({"forward": "return torch.exp(x * 100)"}, "refusal", "conditioning", "infinity"),
}  # fmt: skip
HONEST = {
    "softmax": {},
    "bias": {"init": BIAS, "forward": "return x.tanh() + self.b"},
    "a norm as its constructor leaves it": {
        "init": "self.n = nn.BatchNorm1d(4096)", "forward": "return self.n(x)"},
    "an argmax": {"forward": "return x.argmax(1)"},
    "a loss": {"forward": "return F.cross_entropy(x, t)", "arguments": "x, t",
               "inputs": "torch.randn(64, 4096), torch.randint(0, 4096, (64,))"},
    "a fixed mask": {"forward": "return x.masked_fill(m, 0.0).sum(1)", "arguments": "x, m",
                     "inputs": "torch.randn(64, 4096), torch.ones(64, 4096).triu(1).bool()"},
    "a relu": {"forward": "return F.relu(x)"},
    "a dropout in eval": {"init": "self.d = nn.Dropout(0.5)", "forward": "return self.d(x) * 2"},
    "a flag": {"forward": "return x * 2 if twice else x + 1", "arguments": "x, twice",
               "inputs": "torch.randn(64, 4096), True"},
}  # fmt: skip


def write(tmp_path, changes):
    path = tmp_path / "p.py"
    path.write_text(FILE.format(**(SOUND | changes)))
    return path


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_found_and_come_with_a_mend(name, tmp_path):
    changes, severity, check, words = PLANTED[name]
    found = lint(load(write(tmp_path, changes)))
    hits = [f for f in found if f.check == check and words in f.message]
    assert hits, found
    assert severity == hits[0].severity
    assert hits[0].mend
    assert "\n" not in hits[0].message


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("name", HONEST)
def test_sound_problems_raise_no_alarm(name, deep, tmp_path):
    found = lint(load(write(tmp_path, HONEST[name])), deep=deep)
    assert [f for f in found if f.severity != "note"] == []


def test_the_command_refuses_with_its_exit_code_and_as_json(tmp_path, capsys):
    assert main(["lint", str(write(tmp_path, {}))]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    bad = str(write(tmp_path, {"forward": "return torch.sigmoid(x.abs() + 40)"}))
    assert main(["lint", bad]) == 1
    assert capsys.readouterr().out.startswith("refusal  trivial: ")
    assert main(["lint", bad, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["refused"] is True
    assert document["findings"][0]["mend"]
    assert main(["lint", str(tmp_path / "nothing.py")]) == 2


def test_more_memory_than_is_free_is_warned_of(tmp_path, monkeypatch):
    from epitaxy.references._trials import Trials

    monkeypatch.setattr(Trials, "available_bytes", lambda self: 1 << 20)
    found = lint(load(write(tmp_path, {})), deep=False)
    assert [(f.check, f.severity) for f in found] == [("memory", "warning")]
    assert "GiB are free" in found[0].message
