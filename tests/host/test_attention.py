"""Attention of every kind: one kernel, with the numbers that PyTorch has, special ones included."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from generous import GENEROUS
from grown_case import Together

from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan
from epitaxy.proposers.grower.space import first_guess

torch.manual_seed(3)  # rounding differs from run to run otherwise
T = torch.randn


S = [T(2, 3, 37, 12), T(2, 3, 37, 12), T(2, 3, 37, 12)]


def written(mask=None, bias=None):
    """Attention written out, as most models do."""

    def attend(q, k, v):
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores if bias is None else scores + bias(*scores.shape[-2:]).to(scores)
        if mask is not None:
            scores = scores.masked_fill(mask(*scores.shape[-2:]), float("-inf"))
        return scores.softmax(-1) @ v

    return attend


def future(rows, keys):
    return torch.ones(rows, keys, dtype=torch.bool).triu(1)


def outside(rows, keys):
    apart = torch.arange(rows)[:, None] - torch.arange(keys)[None, :]
    return (apart < 0) | (apart >= 9)


def slopes(rows, keys):
    apart = torch.arange(keys)[None, :] - torch.arange(rows)[:, None]
    return 0.5 ** torch.arange(1, S[0].shape[1] + 1).view(-1, 1, 1) * apart


def sdpa(**options):
    return lambda *args: F.scaled_dot_product_attention(*args[:3], *args[3:], **options)


def heads(q, k, v):
    """Heads next to each other in memory, the result as the next layer wants it."""
    q, k, v = (x.view(2, -1, 3, 16).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(2, -1, 48)


def capped(q, k, v):
    return (20 * torch.tanh(q @ k.transpose(-1, -2) / 20)).softmax(-1) @ v


MASK = torch.rand(2, 1, 21, 45) > 0.3
Q, K, V = T(2, 3, 21, 16), T(2, 3, 45, 16), T(2, 3, 45, 16)
CASES = {
    "plain": (sdpa(), [Q, K, V]),
    "scale": (sdpa(scale=0.3), [Q, K, V]),
    "causal": (sdpa(is_causal=True), S),
    "causal_across": (sdpa(is_causal=True), [Q, K, V]),
    "causal_three": (sdpa(is_causal=True), [x[0] for x in S]),
    "truths": (sdpa(), [Q, K, V, MASK]),
    "numbers": (sdpa(), [Q, K, V, T(21, 45)]),
    "broadcast": (sdpa(), [Q, K[:1], V]),
    "odd_sizes": (sdpa(), [T(1, 2, 13, 7), T(1, 2, 19, 7), T(1, 2, 19, 11)]),
    "three_dimensions": (sdpa(), [T(5, 13, 24), T(5, 70, 24), T(5, 70, 24)]),
    "groups": (sdpa(enable_gqa=True), [T(2, 6, 21, 16), T(2, 2, 45, 16), T(2, 2, 45, 16)]),
    "one_head_of_keys": (
        sdpa(enable_gqa=True),
        [T(2, 6, 21, 16), T(2, 1, 45, 16), T(2, 1, 45, 16)],
    ),
    "one_query": (sdpa(), [T(2, 3, 1, 16), T(2, 3, 131, 16), T(2, 3, 131, 16)]),
    "one_query_of_groups": (
        sdpa(enable_gqa=True),
        [T(2, 6, 1, 20), T(2, 2, 131, 20), T(2, 2, 131, 20)],
    ),
    "heads_inside": (heads, [T(2, 37, 48), T(2, 37, 48), T(2, 37, 48)]),
    "written": (written(), [Q, K, V]),
    "written_causal": (written(future), S),
    "sliding": (written(outside), S),
    "alibi": (written(future, slopes), S),
    "capped": (capped, [Q, K, V]),
    "scaled_queries": (lambda q, k, v: ((q * 0.25) @ k.mT).softmax(-1) @ v, [Q, K, V]),
    "computed": (
        lambda q, k, v: (torch.tanh(q) @ (k + 1).mT).softmax(-1) @ v.exp() * 2 + 1,
        [Q, K, V],
    ),
    "itself": (lambda x: (x @ x.mT).softmax(-1) @ x, [T(3, 26, 16)]),
}  # fmt: skip
GENOMES = [
    Choices(unroll=1, nc=32, mc=12, dynamic=1),
    Choices(unroll=2, tile_m=4, tile_n=1, nc=16, mc=8, pack_a=1, pack_b=0, split_k=3),
    Choices(width=4, tile_m=12, tile_n=1, nc=512, mc=64, threads=1, pack_b=0),
    Choices(form=1, tile_m=2, nc=24, split_k=2, prefetch=64),
    Choices(attend=0, unroll=1),
]


def spoiled(x, *places):
    x = x.clone()
    for place, value in places:
        x[place] = value
    return x


NAN, INF = float("nan"), float("inf")
SPECIAL = {
    "nan_query": (sdpa(is_causal=True), [spoiled(S[0], ((0, 1, 5, 2), NAN)), *S[1:]]),
    "nan_key": (sdpa(is_causal=True), [S[0], spoiled(S[1], ((0, 1, 5, 2), NAN)), S[2]]),
    "nan_value": (sdpa(is_causal=True), [*S[:2], spoiled(S[2], ((1, 1, 30, 2), NAN))]),
    "inf_value": (written(future), [*S[:2], spoiled(S[2], ((1, 1, 30, 2), INF))]),
    "nan_value_written": (written(outside), [*S[:2], spoiled(S[2], ((1, 1, 9, 2), NAN))]),
    "nan_key_written": (written(future), [S[0], spoiled(S[1], ((1, 1, 9, 2), NAN)), S[2]]),
    "no_keys": (sdpa(), [Q, K, V, spoiled(MASK, ((0, 0, 3), False))]),
    "no_keys_written": (written(lambda r, k: torch.ones(r, k, dtype=torch.bool).triu(-3)), S),
    "large": (written(future), [x * 20 for x in S]),  # far beyond what exp bears unshifted
    "equal": (sdpa(is_causal=True), [torch.full_like(x, 0.5) for x in S]),
}


EVERY_GENOME = ("written_causal",)


def picked(name, fitting):
    """The decisions that a case is written under."""
    return GENOMES if name in EVERY_GENOME else [random.Random(name).choice(fitting)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases, each under the decisions picked for it."""
    together = Together()
    for cases, fitting in ((CASES, GENOMES), (SPECIAL, GENOMES[:3])):
        for name, (function, inputs) in cases.items():
            together.add(name, function, inputs, *picked(name, fitting))
    return together.build(tmp_path_factory.mktemp("attention"))


def exactly(function, inputs):
    return function(*[x.double() if x.is_floating_point() else x for x in inputs])


@pytest.mark.parametrize("name", CASES)
def test_attention_computes_what_pytorch_computes(name, grown):
    function, inputs = CASES[name]
    exact = exactly(function, inputs)
    for number in range(len(picked(name, GENOMES))):
        (got,) = grown.outputs(name, number, inputs)
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_attention_is_one_kernel(name, grown):
    kernels = [k for r in grown.regions(name) for k in plan(coalesce(r), Choices()).kernels]
    assert sum(k.attention is not None for k in kernels) == 1


@pytest.mark.parametrize("name", SPECIAL)
def test_special_numbers_are_pytorchs(name, grown):
    function, inputs = SPECIAL[name]
    exact = exactly(function, inputs)
    honest = (function(*inputs).double() - exact).nan_to_num(0.0, 0.0, 0.0).abs().max()
    (got,) = grown.outputs(name, 0, inputs)
    limit = max(1e-5, 4 * float(honest))
    torch.testing.assert_close(got.double(), exact, rtol=2e-4, atol=limit, equal_nan=True)


def test_keys_ahead_that_are_no_numbers_are_pytorchs_where_it_has_no_blocks(grown):
    assert [len(r.checks) for r in grown.regions("causal")] == [0]
    assert [len(r.checks) for r in grown.regions("causal_three")] == [2], "keys and values"


@pytest.mark.parametrize(
    ("keys", "expected"), [((16, 4, 4096, 64), 256), ((1, 4, 256, 64), 0), ((16, 4096, 4, 64), 0)]
)
def test_keys_in_memory_are_fetched_early_for_few_queries(keys, expected):
    def attend(q, k, v):
        if keys[1] > keys[2]:
            k, v = k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v)

    k = torch.zeros(keys)
    (step,) = capture(attend, [torch.zeros(keys[0], 4, 1, 64), k, k]).steps
    wide = GENEROUS.replace(vector_bytes=64)
    assert first_guess(step.region, wide).prefetch == expected
    assert first_guess(step.region, GENEROUS).prefetch == 0
    text = emit_region(step.region, first_guess(step.region, wide))
    assert f"FAR = {expected * 16 // 64}" in text
