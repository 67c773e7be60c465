"""Copies of weights are kept between calls, and no longer than the weights are what they were."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import subprocess

import pytest
import torch

from epitaxy import create_study
from epitaxy.compiler import find_compiler
from epitaxy.problem import load
from epitaxy.proposers.grower.emit import header
from epitaxy.toolchains.cpp import plugin

KEEPS = "_keep(const void* const* in"
SOURCE = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1)
        self.square = nn.Conv2d(24, 32, 3, padding=1)
        self.turned = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1)
        self.line = nn.Linear(32, 40)
        self.cell = nn.LSTM(40, 20, 2, bidirectional=True)
        self.last = nn.Linear(40, 40, dtype=torch.bfloat16)

    def forward(self, x):
        y = torch.relu(self.turned(torch.relu(self.square(torch.relu(self.conv(x))))))
        y, _ = self.cell(torch.relu(self.line(y.mean((2, 3)))).view(4, 6, 40))
        return self.last(y.to(torch.bfloat16)).float()

def get_inputs():
    return [torch.randn(24, 3, 12, 12)]

def get_init_inputs():
    return []
"""


def asked(tmp_path, weights="frozen"):
    """The problem, and the grower's first candidate for it."""
    (tmp_path / "p.py").write_text(SOURCE)
    problem = load(tmp_path / "p.py", weights=weights)
    (candidate,) = create_study(problem, ledger=tmp_path / "l.sqlite", budget="1").ask(1)
    return problem, candidate


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The candidate, built and loaded."""
    folder = tmp_path_factory.mktemp("kept")
    problem, candidate = asked(folder)
    build = plugin().build(candidate, problem, folder / "cache")
    assert build.ok, build.log
    text = "".join(candidate.files.values())
    assert KEEPS in text
    assert "a copy of what it holds is kept" in text
    spec = importlib.util.spec_from_file_location("kept_module", f"{build.folder}/model_new.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def both(module):
    """(reference, ours) with the same weights, called once."""
    torch.manual_seed(5)
    reference, ours = module.Model().eval(), module.ModelNew().eval()
    ours.load_state_dict(reference.state_dict())
    agree(reference, ours)
    return reference, ours


X = torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def agree(reference, ours):
    expected = reference(X)
    torch.testing.assert_close(ours(X), expected, rtol=2e-2, atol=2e-2 * float(expected.std()))


def scaled(parameter):
    with torch.no_grad():
        parameter.mul_(1.5)


def scaled_unseen(parameter):
    """No version counter tells of it."""
    parameter.data.mul_(1.5)


def replaced(parameter):
    parameter.data = parameter.data * 1.5


CHANGED = """
conv.weight square.weight line.weight last.weight turned.weight cell.weight_ih_l0
cell.weight_hh_l1_reverse
"""


@pytest.mark.parametrize("name", CHANGED.split())
@pytest.mark.parametrize("change", [scaled, scaled_unseen, replaced])
def test_a_changed_weight_is_copied_anew(name, change, both):
    for model in both:
        change(model.get_parameter(name))
    agree(*both)


def test_a_checkpoint_and_a_new_parameter_are_noticed(both, module):
    reference, ours = both
    other = module.Model()
    for model in both:
        model.load_state_dict(other.state_dict())
    agree(*both)
    fresh = torch.nn.Parameter(torch.randn(40, 32))
    for model in both:
        model.line.weight = fresh
    agree(*both)


def test_each_module_has_copies_of_its_own_which_go_with_it(both, module):
    reference, ours = both
    second, other = module.Model().eval(), module.ModelNew().eval()
    other.load_state_dict(second.state_dict())
    for _ in range(2):
        agree(second, other)
        agree(reference, ours)
    regions = [v for k, v in vars(module).items() if k.startswith(("_region", "_chain"))]
    caches = [c for r in regions for c in kept_by(r)]
    assert caches
    before = sum(len(c.kept) for c in caches)
    del second, other
    gc.collect()
    assert sum(len(c.kept) for c in caches) < before


def kept_by(region):
    """The caches behind one region of a bundle."""
    names = dict(zip(region.__code__.co_freevars, region.__closure__, strict=True))
    return names["call"].cell_contents.__globals__["kept"]


@torch.inference_mode()
def test_weights_without_versions_are_copied_in_every_call(module):
    reference, ours = module.Model().eval(), module.ModelNew().eval()
    ours.load_state_dict(reference.state_dict())
    for _ in range(2):
        agree(reference, ours)
        for model in (reference, ours):
            model.line.weight.mul_(1.5)


def test_live_weights_are_never_kept(tmp_path):
    _, candidate = asked(tmp_path, "live")
    assert KEEPS not in "".join(candidate.files.values())


def test_a_changed_bias_copies_no_matrix(both, module):
    regions = [v for k, v in vars(module).items() if k.startswith(("_region", "_chain"))]

    def copies():
        return {id(made) for r in regions for c in kept_by(r) for made, _ in c.kept.values()}

    before = copies()
    for model in both:
        scaled(model.line.bias)
    agree(*both)
    assert before
    assert copies() == before


# For each of `weights` that calls look at one after the other: in which call a change of one of the
# words that are looked at is noticed at the latest, 0 for never.
LATEST = """
extern "C" int latest(int weights, int most) {
  constexpr int64_t words = 32 * epx::STRIPES;
  const epx::Scratch<float> kept(2 * epx::STRIPES), weight(words);
  std::memset(weight.data, 0, sizeof(float) * words);
  epx::note(kept.data, 0, weight.data, sizeof(float) * words);
  int worst = 0;
  for (int own = 0; own < weights; ++own)
    for (int word = 0; word < epx::STRIPES; ++word) {
      int call = 0;
      bool seen = false;
      weight.data[word] = 1;
      while (!seen && call++ < most)
        for (int w = 0; w < weights; ++w)
          seen |= epx::changed(kept.data, 0, weight.data, sizeof(float) * words) && w == own;
      weight.data[word] = 0;
      if (!seen) return 0;
      worst = call > worst ? call : worst;
    }
  return worst;
}
"""


def test_all_words_of_a_weight_have_their_turn_however_many_weights_there_are(tmp_path):
    (tmp_path / "k.cpp").write_text(header("") + LATEST)
    flags = ["-O1", "-march=native", "-std=c++17", "-fPIC", "-shared", "-Wno-psabi"]
    command = [find_compiler().path, *flags, "-o", tmp_path / "k.so", tmp_path / "k.cpp"]
    subprocess.run(command, check=True)
    latest = ctypes.CDLL(str(tmp_path / "k.so")).latest
    assert all(latest(weights, 500) > 0 for weights in (1, 2, 3, 8, 16, 24, 32, 64))
