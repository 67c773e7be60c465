"""Files as people write them: what is taken, and what is refused with a mend that helps."""

import pytest

from epitaxy.errors import BadProblem
from epitaxy.problem import load

TEXT = """import torch
class Model(torch.nn.Module):
    def forward(self, x, y):
        return x - 2 * y
def get_inputs():
    return INPUTS
"""


def problem(tmp_path, inputs, head="", encoding="utf-8"):
    path = tmp_path / "model.py"
    path.write_text(head + TEXT.replace("INPUTS", inputs), encoding=encoding)
    return load(path)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    found = problem(tmp_path, "[torch.ones(4, 4), 2.0]", encoding="utf-8-sig")
    assert [str(spec) for spec in found.inputs] == ["float32[4, 4]", "None"]


@pytest.mark.parametrize(
    ("inputs", "head", "says", "mend"),
    [
        ("{'y': torch.ones(4), 'x': torch.zeros(4)}", "", "gives a dict", "order of arguments"),
        ("[[torch.ones(4), torch.ones(4)], 1]", "", "gives a list", "an argument of its own"),
        ("[__import__('numpy').ones(4), 1]", "", "gives a ndarray", "give tensors"),
        ("[torch.ones(4), 1]", "import beside\n", "No module named 'beside'", "one file"),
        ("[torch.ones(4).to_sparse(), 1]", "", "sparse_coo", "dense tensors"),
    ],
)
def test_what_is_refused(tmp_path, inputs, head, says, mend):
    (tmp_path / "beside.py").write_text("")
    with pytest.raises(BadProblem, match=says) as caught:
        problem(tmp_path, inputs, head)
    assert mend in caught.value.mend
