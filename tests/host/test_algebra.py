"""Algebra: every rule is true of numbers, and cheaper forms compute what the module computes."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from grown_case import build, run
from torch import nn

from epitaxy.problem import TensorSpec, Work
from epitaxy.proposers.grower import algebra_forms, algebra_masks
from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Load,
    Map,
    Reduce,
    Region,
    Store,
    walk,
)
from epitaxy.proposers.grower.algebra_cost import forms_of
from epitaxy.proposers.grower.algebra_terms import Terms
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import own_work
from epitaxy.proposers.grower.interpret import evaluate
from epitaxy.proposers.grower.program import RegionCall
from epitaxy.proposers.grower.saturate import rules, saturate

M, J, K, L = Axis("i", 3), Axis("j", 4), Axis("k", 5), Axis("l", 2)
REAL = "float32"


def load(buffer, *axes):
    strides, size = [], 1
    for axis in reversed(axes):
        strides.append((axis, size))
        size *= axis.size
    return Load(buffer, Affine(0, tuple(reversed(strides))), REAL)


def of(fn, *args):
    return Map(fn, args, REAL)


def total(value, *over, kind="sum"):
    return Reduce(kind, over, value, REAL)


def number(value):
    return Const(value, REAL)


def product(a, b, over):
    return total(of("mul", a, b), over)


A, B, C = load(0, M, J), load(1, J), load(2, M)
X, W = load(3, M, K), load(4, K, J)
SAMPLES = {
    "a sum of terms is the sum of their sums": total(of("add", A, load(5, M, J)), J),
    "the sum of a negative is the negative of the sum": total(of("neg", A), J),
    "a divisor that does not vary leaves a sum": total(of("div", A, C), J),
    "a factor that does not vary leaves a sum": total(of("mul", C, A), J),
    "one factor of a product is summed before it is multiplied": total(of("mul", X, W), J, K),
    "a sum of sums is one sum": total(total(of("tanh", of("mul", X, W)), K), J),
    "the sum of what does not vary is that many times it": total(C, J),
    "a sum over nothing is its one term": total(C),
    "a product of three matrices may be multiplied from either end": product(
        product(load(3, M, L), load(4, L, K), L), load(5, K, J), K
    ),
    "a scale of a product is a scale of one factor": of("mul", product(X, W, K), B),
    "offsets are added together first": of("add", of("add", A, B), load(5, J)),
    "scales are multiplied together first": of("mul", of("mul", A, B), load(5, J)),
    "scale and offset after a product are one scale and one offset": of(
        "mul", of("add", product(X, W, K), B), load(5, J)
    ),
    "the greatest of an increasing function is the function of the greatest": total(
        of("tanh", A), J, kind="max"
    ),
    "the greatest of sums with what does not vary": total(of("add", A, C), J, kind="max"),
    "the greatest of products with a number above 0": total(
        of("mul", A, number(2.5)), J, kind="max"
    ),
    "a bound that does not vary leaves a greatest value": total(of("maximum", A, C), J, kind="max"),
    "what both sides of a difference have in common cancels": of(
        "sub", of("add", A, C), of("add", B, C)
    ),
    "a value less itself is 0": of("add", A, of("neg", A)),
    "0 times a value is 0": of("mul", A, number(0.0)),
    "adding 0 changes nothing": of("add", A, number(0.0)),
    "terms in either order": of("add", A, B),
    "factors in either order": of("mul", A, B),
}


def sizes(value):
    loads = {v.buffer: v for v in walk((value,)) if isinstance(v, Load)}
    specs = []
    for k in range(max(loads, default=-1) + 1):
        shape = [a.size for a, _ in loads[k].index.terms] if k in loads else [1]
        specs.append(TensorSpec(shape=tuple(shape), dtype=REAL))
    return tuple(specs)


def whole(value, specs):
    """A region that stores `value` over M and J and K, those that it has."""
    axes = tuple(a for a in (M, J, K, L) if a in value.axes)
    stride, terms = 1, []
    for axis in reversed(axes):
        terms.append((axis, stride))
        stride *= axis.size
    store = Store(0, Affine(0, tuple(reversed(terms))), axes, value)
    out = TensorSpec(shape=tuple(a.size for a in axes), dtype=REAL)
    return Region("r", specs, (out,), (store,))


@pytest.mark.parametrize("rule", rules(), ids=lambda r: r.name)
def test_every_rule_is_true_of_numbers(rule):
    """Whatever a rule makes equal, alone with the two orders, evaluates to the same numbers."""
    value = SAMPLES[rule.name]
    terms = Terms((value,))
    name = terms.names[value]
    quiet = [r for r in rules() if r.name.endswith("in either order")]
    without = saturate(terms.lines, [name], [r for r in quiet if r is not rule])
    forms = saturate(terms.lines, [name], list(dict.fromkeys([*quiet, rule])))
    assert forms.nodes != without.nodes or len(forms.classes) != len(without.classes)
    specs = sizes(value)
    numels = [s.numel for s in specs]
    torch.manual_seed(0)
    inputs = [torch.randn(s.shape) for s in specs]
    compared = 0
    for made in forms_of(forms, terms, numels):
        first = evaluate(whole(made[0], specs), inputs, wide=True)[0]
        for other in made[1:]:
            again = evaluate(whole(other, specs), inputs, wide=True)[0]
            torch.testing.assert_close(*torch.broadcast_tensors(again, first))
            compared += 1
    # These two are also what a value is simplified to as it is built.
    built = ("a sum over nothing is its one term", "adding 0 changes nothing")
    assert compared or rule.name in built


def test_every_rule_has_a_sample():
    assert set(SAMPLES) == {r.name for r in rules()}
    assert {r.rounding for r in rules()} <= {"exact", "bounded", "reassociates"}


def captured(module, *inputs):
    program = capture(module, inputs)
    assert not program.left
    (step,) = [s for s in program.steps if isinstance(s, RegionCall)]
    state = dict(module.state_dict()) if isinstance(module, nn.Module) else {}
    keys = dict(program.state)
    given = dict(zip(program.inputs, inputs, strict=True))
    return step.region, [given[a] if a in given else state[keys[a]] for a in step.args]


class SumOfOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 96)

    def forward(self, x):
        return self.linear(x).sum(dim=1, keepdim=True)


class ConvMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 64)
        self.norm = nn.BatchNorm1d(64)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.norm(self.linear(x))


def diagonal(d, b):
    return torch.diag(d) @ b


CHEAPER = {
    "sum of outputs": (SumOfOutputs(), [torch.randn(32, 64)], 10),
    "mean of a convolution": (ConvMean(), [torch.randn(2, 4, 12, 10)], 10),
    "batch norm": (Normed(), [torch.randn(128, 16)], 1),
    "diagonal": (diagonal, [torch.randn(128), torch.randn(128, 96)], 100),
    "chain of products": (
        lambda a, b, c: a @ b @ c,
        [torch.randn(200, 16), torch.randn(16, 200), torch.randn(200, 4)], 10
    ),
    "pool of an activation": (
        lambda x: F.max_pool2d(torch.tanh(x * 2 + 1), 2), [torch.randn(2, 3, 32, 32)], 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEAPER)
def test_a_cheaper_form_computes_the_same(name):
    module, inputs, fewer = CHEAPER[name]
    region, args = captured(module, *inputs)
    found = algebra_forms.rewriting(region)
    assert found is not None
    before, after = found.flops
    assert before >= fewer * after
    assert found.region.algebra == found.rules
    assert set(found.rounding) <= set(found.rules)
    assert not found.cut
    (old,) = evaluate(region, args, wide=True)
    (new,) = evaluate(found.region, args, wide=True)
    torch.testing.assert_close(new, old)


def test_kernels_of_cheaper_forms_compute_what_pytorch_computes(tmp_path):
    forms, wanted = [], []
    for number, (module, inputs, _) in enumerate(CHEAPER.values()):
        region, args = captured(module, *inputs)
        found = algebra_forms.rewriting(region).region
        forms.append((dataclasses.replace(found, name=f"region{number}"), args))
        with torch.no_grad():
            module = module.eval() if isinstance(module, nn.Module) else module
            wanted.append(module(*inputs))
    library = build([form for form, _ in forms], Choices(), tmp_path)
    for (form, args), want in zip(forms, wanted, strict=True):
        (out,) = run(library, form, args)
        torch.testing.assert_close(out, want, rtol=1e-4, atol=2e-6 * float(want.abs().max()))
    assert "// rewritten: a sum of sums is one sum" in library.sources


def as_it_is(region, **decisions):
    return Genome(((region.name, Choices(**decisions)),))


@pytest.mark.parametrize(("side", "share"), [(0, 1), (2, 4 / 9), (4, 1 / 4)])
def test_products_that_a_transform_saves_are_counted_as_algebra(side, share):
    x, w = torch.randn(2, 4, 16, 16), torch.randn(8, 4, 3, 3)
    region, _ = captured(lambda x, w: F.conv2d(x, w, padding=1), x, w)
    whole = 2.0 * 2 * 8 * 16 * 16 * 4 * 9
    work, rules = own_work(Work(flops=whole), [region], [region], as_it_is(region, winograd=side))
    assert (work.flops if work else whole) == pytest.approx(whole * share)
    assert bool(rules) == bool(side)
    strided, _ = captured(lambda x, w: F.conv2d(x, w, stride=2, padding=1), x, w)
    assert own_work(Work(flops=whole), [strided], [strided], as_it_is(strided, winograd=side)) == (
        None,
        (),
    )


@pytest.mark.parametrize(
    ("function", "share"),
    [(lambda a, b: torch.tril(a @ b), 0.5), (lambda a, b: torch.triu(a @ b, 1), 0.5),
     (lambda a, b: torch.tril(a @ b, -50), 0.125), (torch.mm, 1)],
)  # fmt: skip
def test_work_that_a_triangle_leaves_out_is_counted_as_algebra(function, share):
    region, _ = captured(function, torch.randn(100, 8), torch.randn(8, 100))
    whole = 2 * 100 * 100 * 8
    assert algebra_masks.products(region) == whole
    assert algebra_masks.products(region, used=True) == pytest.approx(whole * share, rel=0.03)
    work, rules = own_work(Work(flops=float(whole)), [region], [region], as_it_is(region))
    assert rules == ((algebra_masks.TRIANGLE,) if share < 1 else ())
    assert (work.flops < whole) if share < 1 else (work is None)


@pytest.mark.parametrize(("keys", "groups"), [(96, 1), (40, 1), (96, 3), (77, 1), (197, 1)])
def test_causal_attention_that_says_so_is_no_algebra(keys, groups):
    """The reference's work counts nothing ahead of a row; the same mask written out does."""
    rows = max(keys, 96)
    q, k = torch.randn(1, 6, rows, 16), torch.randn(1, 6 // groups, keys, 16)

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups > 1)

    region, _ = captured(attend, q, k, k.clone())
    flops = 2 * 6 * (16 + 16) * sum(min(i + 1, keys) for i in range(rows))
    assert own_work(Work(flops=float(flops)), [region], [region], as_it_is(region)) == (None, ())


UNCHANGED = {
    "layer norm": (lambda x: F.layer_norm(x, (64,)), [torch.randn(32, 64)]),
    "softmax": (lambda x: torch.softmax(x * 0.3, -1), [torch.randn(32, 64)]),
    "standardised": (lambda x: (x - x.mean(0)) / x.std(0), [torch.randn(64, 32)]),
    "product": (torch.mm, [torch.randn(32, 32), torch.randn(32, 32)]),
    "gated sum": (lambda x, w: torch.sigmoid(x @ w).sum(1), [torch.randn(32, 64)] * 2),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_has_no_cheaper_form_stays(name):
    function, inputs = UNCHANGED[name]
    if name == "gated sum":
        inputs = [inputs[0], inputs[1].T.contiguous()]
    region, _ = captured(function, *inputs)
    assert algebra_forms.rewriting(region) is None


def test_deviations_from_a_mean_stay_deviations():
    """Their sum is rounding alone: taken apart, it would lose what the second mean is for."""
    region, _ = captured(lambda x: (x - x.mean(1, keepdim=True)).mean(1), torch.randn(64, 256))
    assert algebra_forms.rewriting(region) is None


def test_a_diagonal_lets_nan_through():
    region, args = captured(diagonal, torch.randn(16), torch.randn(16, 8))
    args[1][3, 5] = torch.nan
    kept, lost = (algebra_masks.diagonals(region, finite) for finite in (False, True))
    (right,) = evaluate(region, args)
    assert torch.isnan(right[:, 5]).all()
    assert torch.equal(torch.isnan(evaluate(kept, args)[0]), torch.isnan(right))
    assert not torch.isnan(evaluate(lost, args)[0][0, 5])


def test_a_chain_of_products_is_multiplied_from_the_cheaper_end():
    m, n, p, q = Axis("m", 40), Axis("n", 30), Axis("p", 50), Axis("q", 2)
    value = product(product(load(0, m, n), load(1, n, p), n), load(2, p, q), p)
    specs = tuple(TensorSpec(shape=s, dtype=REAL) for s in ((40, 30), (30, 50), (50, 2)))
    out = TensorSpec(shape=(40, 2), dtype=REAL)
    store = Store(0, Affine(0, ((m, 2), (q, 1))), (m, q), value)
    region = Region("r", specs, (out,), (store,))
    found = algebra_forms.rewriting(region)
    assert found.rules == ("a product of three matrices may be multiplied from either end",)
    assert found.flops == (2 * 40 * 50 * (30 + 2), 2 * 30 * 2 * (50 + 40))
    inputs = [torch.randn(s.shape) for s in specs]
    torch.testing.assert_close(
        evaluate(found.region, inputs, wide=True), evaluate(region, inputs, wide=True)
    )
