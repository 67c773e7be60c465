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


ONLY_FLOAT32 = (
    SUM.replace("import torch", "import numpy as np\nimport torch").replace(
        "x.sum()", "torch.from_numpy(only32(x.numpy())).exp().sum(1)"
    )
    + """
def only32(x):
    if x.dtype != np.float32:
        raise TypeError("float32 only")
    return x
"""
)


def test_where_float64_cannot_run_that_is_said_and_honest_orders_are_still_accepted(tmp_path):
    (tmp_path / "p.py").write_text(ONLY_FLOAT32)
    said = []
    found = Cases(open_reference(load(tmp_path / "p.py")), 4, lambda *n: said.append(n))
    honest = list(errors(found, lambda x: x.exp().flip(1).sum(1)))
    assert len(honest) >= 5
    assert all(0 < limit < 1e-2 and e <= limit for e, limit in honest)
    assert not all(
        e <= limit for e, limit in errors(found, lambda x: x.half().float().exp().sum(1))
    )
    assert [check for check, message in said if "float64 oracle" in message] == ["oracle"]


GATHER = """
import torch
class Model(torch.nn.Module):
    def forward(self, x, i, order, starts):
        return x[i] + x[order].cumsum(0)[starts]
def get_inputs():
    return [torch.randn(64, 8), torch.randint(3, 60, (40,)), torch.randperm(64),
            torch.tensor([0] + sorted(torch.randint(0, 63, (38,)).tolist()) + [63])]
def get_init_inputs():
    return []
"""


def test_integers_are_skewed_within_the_range_that_the_file_shows(tmp_path):
    (tmp_path / "p.py").write_text(GATHER)
    live = open_reference(load(tmp_path / "p.py"))
    given = live.inputs(2)[1]
    seen = {}
    for name in live.distributions():
        _, i, order, starts = live.inputs(2, name)
        assert int(given.min()) <= int(i.min()) <= int(i.max()) <= int(given.max())
        assert sorted(order.tolist()) == list(range(64)), "a permutation stays one"
        assert starts.tolist() == sorted(starts.tolist()), "offsets still rise"
        assert (int(starts[0]), int(starts[-1])) == (0, 63)
        seen[name] = i
    assert len(set(seen["equal_indices"].tolist())) == 1
    ends = {int(given.min()), int(given.max())}
    assert set(seen["extreme_indices"].tolist()) <= ends
    assert seen["sorted_indices"].tolist() == sorted(seen["sorted_indices"].tolist())
    found = Cases(live, 4, lambda *_: None)
    assert all(map(found.usable, range(found.count)))


def test_rows_without_duplicates_keep_none(tmp_path):
    (tmp_path / "p.py").write_text(
        GATHER.replace("torch.randint(3, 60, (40,))", "torch.randperm(60)[:40] + 1")
    )
    live = open_reference(load(tmp_path / "p.py"))
    for name in live.distributions():
        assert len(set(live.inputs(2, name)[1].tolist())) == 40


@pytest.mark.parametrize(
    ("special", "kinds"), [("none", set()), ("nan", {"nan"}), ("all", {"nan", "inf", "-inf"})]
)
def test_special_values_follow_the_problems_policy(special, kinds, tmp_path):
    (tmp_path / "p.py").write_text(ROWS.replace("(50, 300)", "(500, 30)"))
    live = open_reference(load(tmp_path / "p.py", special=special))
    assert ("special" in live.distributions()) == bool(kinds)
    if kinds:
        x = live.inputs(3, "special")[0]
        assert {str(float(v)) for v in x[~x.isfinite()]} == kinds


def test_magnitudes_are_mixed_within_every_row(tmp_path):
    (tmp_path / "p.py").write_text(ROWS)
    x = open_reference(load(tmp_path / "p.py")).inputs(3, "mixed")[0].abs().log10()
    assert bool(((x.amax(1) - x.amin(1)) > 5).all())


def test_outputs_below_the_range_of_float32_judge_nobody(tmp_path):
    (tmp_path / "p.py").write_text(SUM.replace("x.sum()", "torch.exp(-x.abs()).amax(1)"))
    notes = []
    found = Cases(open_reference(load(tmp_path / "p.py")), 4, lambda *n: notes.append(n[1]))
    usable = [found.names[n] for n in range(found.count) if found.usable(n)]
    assert "shifted" not in usable
    assert any("vanish below the range" in note for note in notes)
