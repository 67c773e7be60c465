"""The limit on errors: honest orders of summation stay within, lower precision does not."""

import numpy as np
import pytest
import torch

from epitaxy.cases import Cases
from epitaxy.problem import load, open_reference

SUM = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return x.sum()
def get_inputs():
    return [torch.randn(50, 300)]
def get_init_inputs():
    return []
"""
ROWS = SUM.replace("x.sum()", "torch.amax(x, 1) + torch.relu(x).sum(1)")
ORDERS = {
    "pairwise": lambda x: np.sum(x.ravel(), dtype=np.float32),
    "rows": lambda x: np.sum(x.sum(1, dtype=np.float32), dtype=np.float32),
    "columns first": lambda x: np.sum(np.cumsum(x, 0, dtype=np.float32)[-1], dtype=np.float32),
    "sixty-four lanes": lambda x: lanes(x, 64),
    "backwards": lambda x: lanes(x.ravel()[::-1].copy(), 64),
}


def lanes(x, count):
    """Running sums in lanes, then the lanes: what a vector loop does."""
    padded = np.resize(np.append(x.ravel(), np.zeros(-x.size % count, np.float32)),
                       (-(-x.size // count), count))  # fmt: skip
    return np.sum(np.cumsum(padded, 0, dtype=np.float32)[-1], dtype=np.float32)


def cases(tmp_path, source, seed):
    (tmp_path / "p.py").write_text(source)
    return Cases(open_reference(load(tmp_path / "p.py")), seed, lambda *_: None)


def errors(found, compute):
    """(error, limit) on every usable distribution."""
    for number in filter(found.usable, range(found.count)):
        case = found.get(number)
        yield found.error([compute(case.inputs[0])], case), found.limit(case)


@pytest.mark.parametrize("name", ORDERS)
def test_honest_orders_of_a_sum_that_cancels_are_accepted(name, tmp_path):
    for seed in range(0, 2000, 100):
        for error, limit in errors(
            cases(tmp_path, SUM, seed), lambda x: torch.tensor(ORDERS[name](x.numpy()))
        ):
            assert error <= limit, f"seed {seed}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_is_not(dtype, tmp_path):
    found = cases(tmp_path, SUM, 5)
    assert any(e > limit for e, limit in errors(found, lambda x: x.to(dtype).float().sum()))


def test_a_lost_nan_is_seen_and_a_kept_one_is_not(tmp_path):
    found = cases(tmp_path, ROWS, 3)
    assert "special" in found.names
    assert found.usable(found.names.index("special"))

    def honest(x):
        return torch.amax(x, 1) + torch.relu(x).sum(1)

    def loses(x):
        kept = torch.where(torch.isnan(x), 0.0, x)
        return torch.amax(kept, 1) + torch.relu(x).sum(1).nan_to_num()

    assert all(e <= limit for e, limit in errors(found, honest))
    assert not all(e <= limit for e, limit in errors(found, loses))
