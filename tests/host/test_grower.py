"""The grower end to end: PyTorch -> algebra -> C++ -> the same numbers, under many genomes."""

import random

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together, build, run
from torch import nn

from epitaxy.errors import BadInput
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import DECISIONS, Choices, Genome, parse
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.interpret import run_program
from epitaxy.proposers.grower.program import RegionCall


def rms(x, w):
    return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5) * w.view(1, -1, 1)


def masked_reverse(x, m):
    return torch.flip(torch.cumsum(torch.flip(x * m, [1]), 1), [1])


def exclusive(x):
    first = torch.zeros_like(x.select(1, 0).unsqueeze(1))
    return torch.cumsum(torch.cat((first, x), 1)[:, :-1], 1)


def exclusive_after(x):
    """Running sums of what lies before, by moving those that include each element."""
    first = torch.zeros_like(x.select(1, 0).unsqueeze(1))
    return torch.cat((first, torch.cumsum(x.narrow(1, 0, x.size(1) - 1), 1)), 1)


torch.manual_seed(3)  # rounding differs from run to run otherwise
T = torch.randn
CASES = {
    "chain": (lambda x, b: torch.tanh(x + b) * torch.sigmoid(x) - x.abs(), [T(5, 7, 33), T(33)]),
    "gelu": (F.gelu, [T(3, 1001)]),
    "clamp_where": (lambda x: torch.where(x > 0, x.clamp(max=1.0), x.exp() - 1), [T(4, 77)]),
    "softmax": (lambda x: torch.softmax(x, 1), [T(9, 133)]),
    "softmax_columns": (lambda x: torch.softmax(x, 1), [T(3, 17, 41)]),
    "log_softmax": (lambda x: F.log_softmax(x, -1), [T(6, 50)]),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), [T(6, 50, 3)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (96,), w, b), [T(4, 5, 96), T(96), T(96)]),
    "rms_norm": (rms, [T(3, 12, 50), T(12)]),
    "group_norm": (lambda x, w, b: F.group_norm(x, 4, w, b), [T(2, 12, 9, 5), T(12), T(12)]),
    "instance_norm": (F.instance_norm, [T(2, 3, 9, 11)]),
    "l2_norm": (lambda x: x / x.norm(dim=1, keepdim=True), [T(7, 65)]),
    "l1_norm": (lambda x: x / x.abs().mean(1, keepdim=True), [T(7, 65)]),
    "frobenius": (lambda x: x / torch.norm(x, p="fro"), [T(8, 33, 12)]),
    "cross_entropy": (F.cross_entropy, [T(12, 40), torch.randint(0, 40, (12,))]),
    "mse": (F.mse_loss, [T(64, 100), T(64, 100)]),
    "huber": (F.smooth_l1_loss, [T(64, 100), T(64, 100)]),
    "hinge": (lambda x, y: torch.clamp(1 - x * y, min=0).mean(), [T(99), T(99).sign()]),
    "kl": (
        lambda p, q: F.kl_div(torch.log(p), q, reduction="batchmean"),
        [T(8, 30).softmax(-1), T(8, 30).softmax(-1)],
    ),
    "cosine": (lambda a, b: (1 - F.cosine_similarity(a, b, dim=1)).mean(), [T(20, 35), T(20, 35)]),
    "triplet": (F.triplet_margin_loss, [T(20, 35), T(20, 35), T(20, 35)]),
    "argmax": (lambda x: torch.argmax(x, 1), [T(5, 70)]),
    "argmin_columns": (lambda x: torch.argmin(x, 1), [T(5, 30, 21)]),
    "max_values": (lambda x: torch.max(x, dim=1)[0], [T(5, 30, 21)]),
    "mean_var": (lambda x: x.mean(1) + x.var(1), [T(5, 30)]),
    "prod": (lambda x: torch.prod(x * 0.1 + 1, 1), [T(5, 30)]),
    "sum_all": (lambda x: x.square().sum(), [T(50, 300)]),
    "cumsum": (lambda x: torch.cumsum(x, 1), [T(5, 640)]),
    "cumsum_columns": (lambda x: torch.cumsum(x, 0), [T(64, 37)]),
    "cumprod": (lambda x: torch.cumprod(x * 0.01 + 1, 1), [T(5, 133)]),
    "masked_reverse": (masked_reverse, [T(5, 130), torch.rand(5, 130) > 0.5]),
    "exclusive": (exclusive, [T(5, 130)]),
    "exclusive_after": (exclusive_after, [T(5, 130)]),
    "exclusive_columns": (lambda x: F.pad(torch.cumsum(x, 0)[:-1], (0, 0, 1, 0)), [T(64, 37)]),
    "exclusive_product": (
        lambda x: F.pad(torch.cumprod(x * 0.01 + 1, 1)[:, :-1], (1, 0), value=2.0),
        [T(5, 133)],
    ),
    "exclusive_reverse": (lambda x: exclusive_after(x.flip(1)).flip(1), [T(5, 75)]),
    "three_late": (lambda x, m: F.pad((x * m).cumsum(1)[:, :-3], (3, 0)), [T(5, 97), T(5, 97)]),
    "sums_between_zeros": (lambda x: F.pad(x.cumsum(1), (2, 3)), [T(5, 97)]),
    "products_from_the_end": (
        lambda x: F.pad((x * 0.01 + 1).flip(1).cumprod(1).flip(1), (0, 2)),
        [T(5, 75)],
    ),
    "sums_of_others": (lambda x: x * exclusive_after(x) + x.cumsum(1), [T(5, 130)]),
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), [T(2, 3, 50)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1, 1), [T(2, 3, 25, 31)]),
    "max_pool2d_dilated": (lambda x: F.max_pool2d(x, 4, 1, 1, 3), [T(2, 3, 25, 31)]),
    "max_pool3d": (lambda x: F.max_pool3d(x, 3, 2, 1), [T(1, 2, 9, 12, 15)]),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 4, 1, 2), [T(2, 3, 40)]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1, False, False), [T(2, 3, 25, 31)]),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 3, 2, 1), [T(1, 2, 9, 12, 15)]),
    "pool_fused": (lambda x: F.max_pool2d(F.relu(x * 2 + 1), 2).tanh(), [T(2, 3, 16, 16)]),
    "two_outputs": (lambda x: (x.mean(1), torch.softmax(x, 1)), [T(5, 30)]),
    "reshape_transpose": (lambda x: x.view(4, 6, 5).transpose(1, 2).contiguous() * 2, [T(4, 30)]),
}
GENOMES = [
    Choices(),
    Choices(width=16, unroll=1, stash=0, stream=0, split=8, sum=2, ahead=1),
    Choices(width=4, unroll=8, tile=16, split=4, sum=0, lane=1, dynamic=1, prefetch=16, windows=0),
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases, each under the first decisions and under others."""
    together = Together()
    for name, (function, inputs) in CASES.items():
        picked = random.Random(name).choice(GENOMES[1:])
        together.add(name, function, inputs, GENOMES[0], picked)
    return together.build(tmp_path_factory.mktemp("grown"))


@pytest.mark.parametrize("name", CASES)
def test_regions_compute_what_pytorch_computes(name, grown):
    function, inputs = CASES[name]
    want = function(*inputs)
    want = list(want) if isinstance(want, tuple) else [want]
    meant = run_program(grown.programs[name, 0], {}, inputs)
    for got, expected in zip(meant, want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert len(grown.regions(name)) == 1
    for number in range(2):
        outs = grown.outputs(name, number, inputs)
        for got, expected in zip(outs, want, strict=True):
            scale = float(expected.abs().max()) if expected.is_floating_point() else 0.0
            torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-6 * max(scale, 1.0))


@pytest.mark.parametrize("function", [lambda x: x.cumsum(1), exclusive_after])
def test_running_sums_ask_early_for_what_they_read(function):
    (step,) = capture(function, [T(5, 640)], accept=writable).steps
    assert "epx::prefetch(" in emit_region(step.region, Choices(prefetch=16))
    assert "epx::prefetch(" not in emit_region(step.region, Choices())


@pytest.mark.parametrize("dim", [0, 1])
def test_infinite_sums_stay_infinite(dim, tmp_path):
    x = T(40, 100)
    x[3, 5], x[7, 9], x[8, 9] = float("inf"), float("-inf"), float("nan")
    together = Together()
    together.add("sums", lambda x: x.sum(dim), [x], *(Choices(sum=how) for how in (0, 1, 2)))
    together.build(tmp_path)
    for number in range(3):
        (made,) = together.outputs("sums", number, [x])
        torch.testing.assert_close(made, x.sum(dim), equal_nan=True)


def test_nan_and_infinity_pass_through_as_in_pytorch(tmp_path):
    x = T(4, 100)
    x[0, 3], x[1, 4], x[2, 5] = float("nan"), float("inf"), float("-inf")

    def function(x):
        return torch.relu(x), x.amax(1), x.argmax(1), torch.clamp(x, -1, 1), torch.softmax(x, 1)

    program = capture(function, [x])
    regions = [s for s in program.steps if isinstance(s, RegionCall)]
    library = build([s.region for s in regions], Choices(), tmp_path)
    values = {program.inputs[0]: x}
    for step in regions:
        outs = run(library, step.region, [values[a] for a in step.args])
        values.update(zip(step.results, outs, strict=True))
    for name, expected in zip(program.outputs, function(x), strict=True):
        torch.testing.assert_close(values[name], expected, rtol=1e-5, atol=1e-7, equal_nan=True)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.head = nn.Linear(4 * 3 * 3, 50)

    def forward(self, x):
        x = F.max_pool2d(torch.sort(self.norm(self.conv(x)), dim=1)[0], 2)
        return F.log_softmax(self.head(x.flatten(1)), 1)


def test_what_cannot_be_grown_stays_with_the_framework_and_is_named():
    model, x = Mixed().eval(), T(2, 3, 8, 8)
    program = capture(model, [x])
    assert any("sort" in name for name in program.left)
    assert not any("linear" in name or "mm" in name for name in program.left)
    assert sum(isinstance(s, RegionCall) for s in program.steps) >= 1
    state = {k: v.detach() for k, v in model.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(run_program(program, state, [x])[0], model(x))


def test_a_genome_reads_back_as_it_prints_and_refuses_unknown_decisions():
    genome = Genome((("region0", Choices(split=3)), ("region1", Choices(width=16))))
    assert parse(str(genome)) == genome
    assert set(DECISIONS) == set(Choices.__dataclass_fields__)
    with pytest.raises(BadInput, match="unknown decision"):
        parse("region0(speed=9)")
    with pytest.raises(BadInput):
        parse("nothing here")
