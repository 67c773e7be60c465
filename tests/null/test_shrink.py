"""Problem files with smaller sizes: which constants change, and how."""

from __future__ import annotations

import pytest

from epitaxy.errors import BadInput, BadProblem
from epitaxy.shrink import AUTO, parse, shrink

SOURCE = """import torch

class Model(torch.nn.Module):
    N = 4096  # not at the top

batch_size, dim = 128, 2048
M = 1024 * 2  # rows
height = width = 224
in_channels = 256
kernel_size = 3
features = 64
shape = (32768, 3)
rate = 0.5
total = M * 4
"""


def test_sizes_shrink_and_what_says_what_is_computed_stays():
    made = shrink(SOURCE, 0.25, "x")
    space = {}
    exec(made.source.replace("import torch", "").replace("(torch.nn.Module)", ""), space)
    assert (space["batch_size"], space["dim"], space["M"]) == (32, 512, 512)
    assert (space["height"], space["width"]) == (64, 64), "still a multiple of 32"
    assert (space["in_channels"], space["kernel_size"], space["features"]) == (256, 3, 16)
    assert space["shape"] == (8192, 3)
    assert (space["rate"], space["total"]) == (0.5, 2048)
    assert space["Model"].N == 4096
    assert "M: 2048 to 512" in made.changes
    assert "height=width: 224 to 64" in made.changes
    assert "# rows" in made.source


def test_a_batch_may_become_small():
    assert "batch_size = 4\n" in shrink("batch_size = 16\n", 0.25, "x").source
    paged = "text = '\u2028'  # \x0c a page\nbatch_size = 16\n"
    assert shrink(paged, 0.25, "x").source == paged.replace("16", "4")


def test_one_changes_nothing():
    made = shrink(SOURCE, 1.0, "x")
    assert (made.source, made.changes) == (SOURCE, ())


@pytest.mark.parametrize("text", ["0", "2", "-1", "half", "nan", ""])
def test_other_scales_are_refused(text):
    with pytest.raises(BadInput, match="scale"):
        parse(text)
    assert parse("0.5") == 0.5
    assert parse(AUTO) == AUTO


def test_what_is_not_python_says_so():
    with pytest.raises(BadProblem, match="not valid Python"):
        shrink("def", 0.5, "x")


def test_a_file_that_does_not_run_says_why():
    source = "import torch\nfrom einstein_notation import rearrange\nN = 4096\n"
    with pytest.raises(BadProblem, match="No module named 'einstein_notation'") as caught:
        shrink(source, "auto", "model")
    assert "install" in caught.value.mend


NORM = """import torch

rows, features = 4096, 4096

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(features)

    def forward(self, x):
        return self.norm(x)

def get_inputs():
    return [torch.randn(rows * 4, features)]

def get_init_inputs():
    return []
"""


def test_auto_counts_what_is_one_of_several_results(monkeypatch):
    """A layer norm's output comes with its means: 256 MiB more than the 256 MiB that it reads."""
    monkeypatch.setattr("epitaxy.shrink.total_bytes", lambda: 1 << 40)
    assert shrink(NORM, AUTO, "x").changes == ("rows: 4096 to 2048", "features: 4096 to 2048")


def test_auto_leaves_room_in_memory_for_all_who_are_judged(monkeypatch):
    monkeypatch.setattr("epitaxy.shrink.total_bytes", lambda: 8 << 30)
    space = {}
    exec(shrink(NORM, AUTO, "x").source, space)
    (x,) = space["get_inputs"]()
    assert 8 * x.numel() <= (8 << 30) / 96 < 2 * 4 * 8 * x.numel()
