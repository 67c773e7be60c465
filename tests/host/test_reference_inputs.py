"""Redrawn inputs keep what makes them inputs of this problem; the oracle and the work are true."""

import pytest
import torch

from epitaxy.errors import BadProblem
from epitaxy.problem import load, open_reference

HEAD = "import torch\nimport torch.nn as nn\n"
TAIL = "\ndef get_init_inputs():\n    return []\n"


@pytest.fixture
def reference(tmp_path):
    """Make a live reference from a forward, its inputs and a line of the constructor."""

    def make(forward, inputs, init="pass", arguments="x"):
        body = (
            "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        {init}\n    def forward(self, {arguments}):\n        {forward}\n"
            f"def get_inputs():\n    return [{inputs}]"
        )
        path = tmp_path / "p.py"
        path.write_text(HEAD + body + TAIL)
        return open_reference(load(path))

    return make


def redrawn(live, seed=3):
    """The first input under every distribution but the file's own, and the file's own."""
    given = live.inputs(seed)[0]
    return given, [live.inputs(seed, d)[0] for d in live.distributions()[1:] if d != "special"]


def test_the_given_distribution_is_the_files_own(reference):
    live = reference("return x + i", "torch.randn(4, 8), torch.arange(8)", arguments="x, i")
    torch.manual_seed(7)
    x, i = live.inputs(7)
    torch.manual_seed(7)
    assert torch.equal(x, torch.randn(4, 8))
    assert torch.equal(i, torch.arange(8))


@pytest.mark.parametrize(
    ("inputs", "holds"),
    [
        ("torch.rand(16, 16)", lambda x: bool((x >= 0).all() and (x <= 1).all())),
        ("torch.rand(16, 16) * 9", lambda x: bool((x >= 0).all())),
        (
            "torch.softmax(torch.randn(16, 16), -1)",
            lambda x: torch.allclose(x.sum(-1), torch.ones(16)) and bool((x >= 0).all()),
        ),
        ("torch.randn(16, 16).triu()", lambda x: torch.equal(x, x.triu())),
        ("torch.randn(16, 16).tril()", lambda x: torch.equal(x, x.tril())),
        ("torch.diag(torch.randn(16))", lambda x: torch.equal(x, torch.diag(x.diagonal()))),
        ("(lambda a: a + a.mT)(torch.randn(16, 16))", lambda x: torch.equal(x, x.mT)),
        ("torch.randint(0, 2, (64,)).float() * 2 - 1", lambda x: bool((x.abs() == 1).all())),
        (
            "torch.eye(9)[torch.randint(0, 9, (64,))]",
            lambda x: set(x.unique().tolist()) == {0.0, 1.0} and bool((x.sum(-1) == 1).all()),
        ),
    ],
)  # fmt: skip
def test_domains_are_kept_and_values_change(reference, inputs, holds):
    given, others = redrawn(reference("return x * 2.0", inputs))
    assert holds(given)
    for x in others:
        assert (x.shape, x.dtype) == (given.shape, given.dtype)
        assert holds(x)
        assert not torch.equal(x, given)


def test_a_constant_tensor_of_floats_is_still_redrawn(reference):
    given, others = redrawn(reference("return x * 2.0", "torch.ones(16, 16)"))
    assert bool((given == 1).all())
    assert all(not torch.equal(x, given) for x in others)


def test_integers_stay_the_indices_they_are(reference):
    live = reference(
        "return t[i] + p + o.sum() + k",
        "torch.randn(10, 4), torch.randint(0, 10, (4,)), torch.randperm(4), "
        "torch.tensor([0, 3, 5, 9]), torch.arange(4)",
        arguments="t, i, p, o, k",
    )
    for name in live.distributions():
        _, i, p, o, k = live.inputs(5, name)
        assert 0 <= int(i.min()) <= int(i.max()) < 10
        assert sorted(p.tolist()) == [0, 1, 2, 3]
        assert (o[0], o[-1]) == (0, 9)
        assert bool((o.diff() >= 0).all())
        assert k.tolist() == [0, 1, 2, 3]


def test_masks_that_never_change_are_kept_and_others_redrawn(reference):
    live = reference(
        "return x.masked_fill(m, 0.0) + f + r",
        "torch.randn(8, 8), torch.ones(8, 8).triu(1).bool(), "
        "torch.full((8, 8), float('-inf')).triu(1).clamp(min=-1e30), torch.rand(8, 8) < 0.5",
        arguments="x, m, f, r",
    )
    given = live.inputs(5)
    other = live.inputs(5, "normal")
    assert torch.equal(other[1], given[1])
    assert torch.equal(other[2], given[2])
    assert not torch.equal(other[3], given[3])


@pytest.mark.parametrize(
    "forward",
    [
        "return x.float().sum(-1)",
        "return x.to(torch.float32).sum(-1)",
        "return torch.sum(x, -1, dtype=torch.float32)",
        "return (x @ torch.ones(4096, 4096, dtype=torch.float32)).sum(-1)",
        "return (x @ self.w).sum(-1)",
    ],
)
def test_the_oracle_is_float64_whatever_the_model_asks_for(reference, forward):
    live = reference(forward, "torch.randn(4, 4096)", init="self.w = torch.ones(4096, 4096)")
    x = live.inputs(1)
    exact = live.oracle(x)[0]
    assert exact.dtype == torch.float64
    assert live.notes == []
    assert torch.get_default_dtype() == torch.float32
    assert 0 < live.error(live.run(x), [exact], live.run(x)) < 1e-5


def test_an_oracle_that_cannot_be_float64_is_said(reference):
    forward = "return torch.from_numpy(x.numpy().astype('float32')) @ self.w"
    live = reference(forward, "torch.randn(4, 4)", "self.w = nn.Parameter(torch.randn(4, 4))")
    x = live.inputs(1)
    assert torch.equal(live.oracle(x)[0], live.run(x)[0])
    assert "no float64 oracle" in live.notes[0]


@pytest.mark.parametrize(
    ("forward", "inputs", "init", "read"),
    [
        ("return x * 2", "torch.randn(8, 16)", "pass", 8 * 16 * 4),
        ("return x[:, :4] * 2", "torch.randn(8, 16)", "pass", 8 * 4 * 4),
        ("return x * x + x", "torch.randn(8, 16)", "pass", 8 * 16 * 4),
        ("return self.t(x)", "torch.randint(0, 999, (3,))", "self.t = nn.Embedding(999, 8)",
         3 * 8 + 3 * 8 * 4),
        ("return self.t(x)", "torch.randint(0, 999, (2, 5))", "self.t = nn.EmbeddingBag(999, 8)",
         10 * 8 + 10 * 8 * 4),
        ("return x * 2", "torch.randn(8, 16)", "self.unused = nn.Linear(99, 99)", 8 * 16 * 4),
        ("return self.f(x)", "torch.randn(8, 16)", "self.f = nn.Linear(16, 4, bias=False)",
         8 * 16 * 4 + 4 * 16 * 4),
    ],
)  # fmt: skip
def test_only_bytes_that_are_read_count(reference, forward, inputs, init, read):
    work = reference(forward, inputs, init).problem.work
    assert work.bytes_read == read
    assert work.flops == (2 * 8 * 16 * 4 if "Linear(16" in init else 0)


@pytest.mark.parametrize(
    ("forward", "init"),
    [
        ("return x.expand(1 << 22, 1 << 20).contiguous()", "pass"),
        ("return x", "self.w = torch.empty(1 << 42)"),
    ],
)
def test_more_memory_than_there_is_is_refused_before_it_is_taken(reference, forward, init):
    with pytest.raises(BadProblem, match="needs more memory than there is"):
        reference(forward, "torch.randn(1, 1 << 20)", init)


def test_unseen_inputs_keep_what_indices_need(reference):
    """Offsets rise, permutations stay permutations, and both are new; free indices are mixed."""
    given = (
        "torch.randn(64), torch.randint(0, 99, (256,)).sort().values, torch.randperm(256),"
        " torch.randint(0, 9, (256,)), torch.rand(256) < 0.5"
    )
    live = reference("return x", given, arguments="x, starts, order, kind, mask")
    first, second = live.inputs(1), live.inputs(2)
    for seed in range(20):
        _, starts, order, kind, mask = live.unseen(first, second, seed)
        assert bool((starts.diff() >= 0).all())
        assert not torch.equal(starts, first[1])
        assert torch.equal(order.sort().values, torch.arange(256))
        assert not torch.equal(order, first[2])
        changed = kind != first[3]
        assert 0 < int(changed.sum()) <= 16
        assert int((mask[1:] != mask[:-1]).sum()) > 1
