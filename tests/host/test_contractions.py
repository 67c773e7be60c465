"""Contractions of every shape and layout: grown whole, with the numbers that PyTorch has."""

import dataclasses
import random
import re

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together

from epitaxy.chip import Chip, Level
from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan

torch.manual_seed(3)  # rounding differs from run to run otherwise
T = torch.randn
torch.manual_seed(11)
CHIP = Chip(
    id="four", name="four cores", vendor="v", kind="cpu", measured=True, cores=4, vector_bytes=32,
    vector_registers=16, peak_flops_per_s={"float32": 3.8e11},
    levels=(
        Level(name="L1", bytes=128 << 10, bytes_core=32 << 10, read_bytes_per_s=5e11),
        Level(name="L2", bytes=2 << 20, bytes_core=512 << 10, read_bytes_per_s=3e11),
        Level(name="L3", bytes=32 << 20, bytes_core=4 << 20, read_bytes_per_s=1e11),
        Level(name="DRAM", bytes=24 << 30, read_bytes_per_s=4e10),
    ),
)  # fmt: skip
WIDE = CHIP.replace(
    vector_bytes=64,
    vector_registers=32,
    levels=(
        CHIP.levels[0].replace(bytes_core=48 << 10),
        CHIP.levels[1].replace(bytes_core=1 << 20),
        *CHIP.levels[2:],
    ),
)


def small(*shape):
    """8-bit integers, the least one included."""
    return torch.randint(-128, 128, shape, dtype=torch.int8)


CASES = {
    # shapes
    "primes": (torch.mm, [T(37, 61), T(61, 53)]),
    "tiny": (torch.mm, [T(2, 3), T(3, 5)]),
    "one_by_one": (torch.mm, [T(1, 1), T(1, 1)]),
    "one_row": (torch.mm, [T(1, 300), T(300, 65)]),
    "one_column": (torch.mm, [T(65, 300), T(300, 1)]),
    "outer": (torch.mm, [T(33, 1), T(1, 47)]),
    "few_rows": (torch.mm, [T(5, 129), T(129, 260)]),
    "few_rows_linear": (lambda x, w: torch.tanh(F.linear(x, w)), [T(5, 129), T(77, 129)]),
    "tall": (torch.mm, [T(515, 8), T(8, 12)]),
    "long_inner": (torch.mm, [T(9, 5003), T(5003, 17)]),
    "asked_for": (torch.mm, [T(37, 517), T(517, 53)]),  # sums long enough to ask for results
    "asked_heads": (
        lambda a, b: (a @ b).view(2, 5, 3, 16).transpose(1, 2).contiguous(),
        [T(2, 5, 520), T(520, 48)],
    ),
    # layouts
    "left_turned": (lambda a, b: a.T @ b, [T(61, 37), T(61, 53)]),
    "right_turned": (lambda a, b: a @ b.T, [T(37, 61), T(53, 61)]),
    "both_turned": (lambda a, b: a.T @ b.T, [T(61, 37), T(53, 61)]),
    "result_turned": (lambda a, b: (a @ b).T.contiguous(), [T(37, 61), T(61, 53)]),
    "sliced": (lambda a, b: a[1:, 2:50] @ b[::2, 3:], [T(20, 61), T(96, 53)]),
    "symmetric": (lambda a: a @ a.T, [T(37, 61)]),
    "batched": (torch.bmm, [T(3, 15, 29), T(3, 29, 31)]),
    "batch_broadcast": (torch.matmul, [T(4, 1, 13, 15), T(2, 15, 16)]),
    "four_dimensions": (
        lambda a, b: torch.einsum("bijl,lk->bijk", a, b),
        [T(2, 3, 5, 21), T(21, 33)],
    ),
    "matrix_vector": (torch.mv, [T(65, 300), T(300)]),
    "vector_matrix": (lambda x, a: x @ a, [T(300), T(300, 65)]),
    "dot": (torch.dot, [T(1000), T(1000)]),
    "heads": (
        lambda a, b: (a @ b).view(2, 5, 3, 16).transpose(1, 2).contiguous(),
        [T(2, 5, 33), T(33, 48)],
    ),
    "odd_heads": (
        lambda a, b: (a @ b).view(2, 5, 4, 7).transpose(1, 2).contiguous(),
        [T(2, 5, 33), T(33, 28)],
    ),
    "scores": (
        lambda q, k: torch.einsum("bthd,bshd->bhts", q, k),
        [T(2, 9, 3, 16), T(2, 11, 3, 16)],
    ),
    # masks and diagonals
    "triangular": (lambda a, b: torch.tril(torch.tril(a) @ torch.tril(b)), [T(45, 45), T(45, 45)]),
    "lower_band": (lambda a, b: torch.tril(a @ b, 3) * 1.0, [T(45, 45), T(45, 45)]),
    "upper_masked": (lambda a, b: torch.triu(a @ b, -2), [T(45, 33), T(33, 61)]),
    "upper": (lambda a, b: torch.triu(a) @ torch.triu(b), [T(45, 45), T(45, 45)]),
    "diagonal": (lambda a, b: torch.diag(a) @ b, [T(37), T(37, 41)]),
    "channels_first": (
        lambda x, w, b, r: F.linear(x, w, b).permute(0, 3, 1, 2) * 0.5 + r,
        [T(2, 4, 12, 65), T(53, 65), T(53), T(2, 53, 4, 12)],
    ),
    # work around the product
    "bias_gelu": (lambda x, w, b: F.gelu(F.linear(x, w, b)), [T(2, 13, 65), T(53, 65), T(53)]),
    "residual": (
        lambda x, w, b, r: torch.relu(F.linear(x, w, b)) * 0.5 + r,
        [T(26, 65), T(53, 65), T(53), T(26, 53)],
    ),
    "row_scale": (lambda x, w, s: (x @ w) / s.unsqueeze(1), [T(26, 65), T(65, 53), T(26).exp()]),
    "added": (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        [T(53), T(26, 65), T(65, 53)],
    ),
    "gated": (lambda x, w, v: F.silu(x @ w) * (x @ v), [T(15, 60), T(60, 28), T(60, 28)]),
    "activated_left": (lambda x, w: torch.tanh(x) @ w, [T(15, 60), T(60, 28)]),
    "softmax_after": (lambda a, b: torch.softmax(a @ b, -1), [T(3, 15, 17), T(17, 19)]),
    "norm_after": (
        lambda x, w: F.layer_norm(x + F.linear(x, w), (40,)),
        [T(3, 15, 40), T(40, 40)],
    ),
    "sum_after": (lambda x, w: F.linear(x, w).sum(1, keepdim=True), [T(15, 40), T(30, 40)]),
    "mean_after": (lambda x, w: (x @ w).mean(0), [T(15, 40), T(40, 30)]),
    "two_layers": (lambda x, w, v: torch.relu(x @ w) @ v, [T(25, 60), T(60, 38), T(38, 14)]),
    "attention": (
        lambda q, k, v: torch.softmax(q @ k.transpose(-1, -2) * 0.25, -1) @ v,
        [T(2, 3, 10, 16), T(2, 3, 12, 16), T(2, 3, 12, 16)],
    ),
    "both_outputs": (lambda a, b: (a @ b, torch.softmax(a @ b, -1)), [T(13, 5), T(5, 11)]),
    "cubed": (lambda a: a @ a @ a, [T(33, 33) * 0.2]),
    # narrow types
    "bf16": (lambda a, b: (a @ b).float(), [T(37, 61).bfloat16(), T(61, 53).bfloat16()]),
    "bf16_linear": (
        lambda x, w, b: F.gelu(F.linear(x, w, b)).float(),
        [T(15, 64).bfloat16(), T(45, 64).bfloat16(), T(45).bfloat16()],
    ),
    "bf16_row": (lambda x, w: F.linear(x, w).float(), [T(1, 99).bfloat16(), T(45, 99).bfloat16()]),
    "int8": (lambda a, b: a.int() @ b.int(), [small(37, 61), small(61, 53)]),
    "int8_linear": (lambda a, b: a.int() @ b.int().T, [small(19, 100), small(53, 100)]),
    "int8_left_turned": (lambda a, b: (a.int().T @ b.int()) * 3, [small(61, 37), small(61, 53)]),
    "int8_row": (lambda a, b: a.int() @ b.int().T, [small(1, 100), small(53, 100)]),
    "int8_ends": (
        lambda a, b: a.int() @ b.int(),
        [small(40, 203) // 128 * 255 + 127, small(203, 66) // 128 * 255 + 127],
    ),
    "int8_of_bytes": (lambda a, b: a.int() @ b.int(), [small(37, 61), small(61, 53).byte()]),
    "int8_exact_floats": (
        lambda a, b, s: (a.to(s.dtype) @ b.to(s.dtype).T) * s,
        [small(19, 101), small(53, 101), T(53)],
    ),
    "int8_weights": (
        lambda x, w, s, b: F.linear(x, w.to(x.dtype) * s[:, None], b),
        [T(19, 65), small(53, 65), T(53), T(53)],
    ),
    "quantised": (
        lambda x, w, s: ((x * 16).round().clamp(-128, 127).char().int() @ w.int().T) * s,
        [T(19, 65), small(53, 65), T(53)],
    ),
}
GENOMES = [
    Choices(unroll=1, across=1, ahead=1),
    Choices(tile_m=4, tile_n=3, kc=24, mc=8, nc=48, pack_a=1, pack_b=0, split_k=3, dynamic=1),
    Choices(width=4, tile_m=12, tile_n=1, kc=64, mc=24, nc=32, pack_a=1, prefetch=64, stream=0),
    Choices(tile_m=3, tile_n=4, kc=40, split_k=2, pack_b=0, unroll=2, threads=1),
    Choices(form=1, tile_m=4, nc=24),
    Choices(form=2, nc=40, prefetch=16, stream=0),
    Choices(form=4, tile_m=5, kc=24, mc=24, nc=24),
    Choices(form=4, width=16, tile_m=14, mc=500, split_k=2, pack_a=1),
    Choices(form=4, width=16, tile_m=14, mc=24, nc=24),
    Choices(width=16, tile_m=4, tile_n=1, kc=24, mc=8, nc=32, pack_b=2),
    Choices(width=16, tile_m=5, tile_n=2, kc=200, mc=10, nc=64, stream=0),  # asks for results
]


def compute(function, inputs, choices, folder):
    """The outputs of `function` by its regions under `choices`, in a library of their own."""
    state = function.state_dict() if isinstance(function, torch.nn.Module) else {}
    alone = Together()
    alone.add("alone", function, inputs, choices)
    return alone.build(folder).outputs("alone", 0, inputs, state)


EVERY_GENOME = (
    "primes", "few_rows_linear", "upper_masked", "int8_ends", "channels_first", "scores",
)  # fmt: skip


def picked(name):
    """The decisions that a case is written under."""
    return GENOMES if name in EVERY_GENOME else [random.Random(name).choice(GENOMES)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases, each under the decisions picked for it."""
    together = Together()
    for name, (function, inputs) in CASES.items():
        together.add(name, function, inputs, *picked(name))
    return together.build(tmp_path_factory.mktemp("contractions"))


@pytest.mark.parametrize("name", CASES)
def test_contractions_compute_what_pytorch_computes(name, grown):
    function, inputs = CASES[name]
    exact = function(*[x.double() for x in inputs])
    exact = [e.double() for e in (exact if isinstance(exact, tuple) else (exact,))]
    for number in range(len(picked(name))):
        got = grown.outputs(name, number, inputs)
        for ours, wanted in zip(got, exact, strict=True):
            scale = float(wanted.abs().max())
            torch.testing.assert_close(ours.double(), wanted, rtol=1e-5, atol=1e-5 * max(scale, 1))


def test_products_of_small_integers_are_of_bytes_and_scales_stay_outside(tmp_path):
    function, inputs = CASES["int8_exact_floats"]
    (step,) = capture(function, inputs).steps
    assert "DOT = 3" in emit_region(step.region, Choices())
    assert "DOT = 1" in emit_region(step.region, Choices(form=1)), "lanes along k take pairs"
    function, inputs = CASES["int8_weights"]
    (step,) = capture(function, inputs).steps
    kernels = plan(coalesce(step.region), Choices()).kernels
    assert len(kernels) == 1, "the weights are not converted beforehand"


def test_a_dozen_rows_go_over_the_right_operand_row_by_row(tmp_path):
    choices = Choices(form=2, nc=64, prefetch=64)
    inputs = [T(12, 63), T(63, 130)]
    (got,) = compute(torch.mm, inputs, choices, tmp_path)
    torch.testing.assert_close(got, torch.mm(*inputs), rtol=1e-5, atol=1e-5)
    (step,) = capture(torch.mm, inputs).steps
    assert "contract_rows<Shape>" in emit_region(step.region, choices)


def test_small_products_of_a_batch_are_one_piece_each_and_fetch_the_next(tmp_path):
    inputs = [T(40, 13, 35), T(40, 35, 21)]
    (step,) = capture(torch.bmm, inputs).steps
    guess = space.first_guess(step.region, CHIP)
    assert (guess.ahead, guess.mc >= 13, guess.nc >= 21) == (1, True, True)
    (got,) = compute(torch.bmm, inputs, guess, tmp_path)
    torch.testing.assert_close(got, torch.bmm(*inputs), rtol=1e-5, atol=1e-5)


def test_a_first_guess_suits_the_shape():
    def guess(m, k, n):
        (step,) = capture(torch.mm, [T(m, k), T(k, n)]).steps
        return space.first_guess(step.region, CHIP)

    outer = guess(4096, 32, 4096)
    assert (outer.across, outer.stream) == (1, 0), "large results go through the caches, row by row"
    assert guess(8, 1024, 1024).form == 2, "a few rows: the right operand is read as it lies"
    long = guess(64, 32768, 64)
    assert (long.split_k > 1, long.pack_a) == (True, 0), "the threads share a long sum"
    (step,) = capture(torch.mm, [T(128, 32768), T(32768, 128)]).steps
    long = space.first_guess(step.region, WIDE)
    assert long.tile_m <= 12, "rows that share a set of 12 ways are not more than it has"
    assert (long.pack_a, long.pack_b) == (0, 0), "either is read where it lies"
    second = WIDE.levels[1].replace(bytes_core=700 << 10)  # as it is measured on some machines
    seen = WIDE.replace(levels=(WIDE.levels[0], second, *WIDE.levels[2:]))
    small = space.first_guess(step.region, seen)
    assert small.pack_b == 0, "fewer of its rows at a time, but still where they lie"
    assert small.kc * 128 * 4 <= (700 << 10) // 2, "half of the second cache holds them"
    odd = guess(509, 1021, 747)
    blocks = -(-509 // odd.mc) * -(-747 // odd.nc)
    assert blocks >= 4 * CHIP.cores, "pieces enough to end together"


def test_weights_that_two_tiles_of_rows_meet_wait_for_the_second_in_its_cache():
    def depth(rows, steps, columns):
        (step,) = capture(F.linear, [T(rows, steps), T(columns, steps)]).steps
        guess = space.first_guess(dataclasses.replace(step.region, weights=(1,)), WIDE)
        assert (guess.form, guess.keep, guess.dynamic) == (0, 1, 0), "each thread from end to end"
        assert (guess.tile_m < rows) == (rows == 16)
        return guess.kc

    assert depth(16, 4096, 2048) == 1024
    assert depth(16, 1200, 8192) == 1200, "little more than that"
    assert depth(10, 4096, 2048) == 4096, "one tile reads them once"


def test_a_large_result_leaves_the_caches_where_a_vector_is_a_line_of_them():
    def stream(n, chip):
        (step,) = capture(torch.mm, [T(4096, 32), T(32, n)]).steps
        return space.first_guess(step.region, chip).stream

    def last(**sizes):
        third = WIDE.levels[2].replace(**sizes)
        return WIDE.replace(levels=(*WIDE.levels[:2], third, WIDE.levels[3]))

    shared = last(bytes_core=16 << 20)
    assert stream(4096, shared) == 1, "64 MiB would be read before they are written"
    assert stream(512, shared) == 1, "a quarter of the last cache"
    assert stream(128, shared) == 0, "small results stay for those who read them"
    assert stream(4096, CHIP) == 0, "half a line at a time is not streamed well"
    assert stream(512, last(bytes=128 << 20, bytes_core=8 << 20)) == 1, "most of it is far away"
    assert stream(512, last(bytes=128 << 20, bytes_core=64 << 20)) == 0, "all of it is near"
    assert stream(512, last(bytes_core=0)) == 1, "what a core finds near it is not known"


def test_of_two_operands_that_lie_the_other_way_round_neither_is_turned(tmp_path):
    function, inputs = CASES["both_turned"][0], [T(96, 70), T(85, 96)]

    def guess(function, *inputs, chip=WIDE):
        (step,) = capture(function, inputs).steps
        return space.first_guess(step.region, chip)

    chosen = guess(function, *inputs)
    assert chosen.form == 4, "blocks of the result are turned instead"
    (got,) = compute(function, inputs, chosen, tmp_path)
    torch.testing.assert_close(got, function(*inputs), rtol=1e-5, atol=1e-4)
    assert guess(lambda a, b: a @ b.T, T(70, 96), T(85, 96)).form != 4, "one is turned either way"
    assert guess(lambda a, b: a.T @ b, T(96, 70), T(96, 85)).form != 4, "the left one is copied"
    assert guess(function, *inputs, chip=CHIP).form != 4, "registers are too few"


@pytest.mark.parametrize(
    ("m", "n", "copied", "why"),
    [
        (509, 747, 0, "few rows read it: nobody waits for a copy"),
        (768, 896, 0, "its rows are 56 lines apart: they stay in the second cache"),
        (2048, 747, 1, "many rows read it"),
        (509, 1024, 1, "its rows share sets of the second cache"),
        (509, 1000, 1, "each row has a page of its own"),
    ],
)
def test_a_right_operand_is_read_in_place_by_some_rows(m, n, copied, why):
    (step,) = capture(torch.mm, [T(m, 1024), T(1024, n)]).steps
    assert bool(space.first_guess(step.region, WIDE).pack_b) == copied, why
    assert space.first_guess(step.region, CHIP).pack_b == 1, "with few registers it is copied"


def test_copies_that_more_than_two_threads_share_go_past_the_caches():
    (step,) = capture(torch.mm, [T(2048, 1024), T(1024, 747)]).steps
    assert space.first_guess(step.region, WIDE).pack_b == 2
    assert space.first_guess(step.region, WIDE.replace(cores=2)).pack_b == 1


def test_more_than_two_threads_copy_rows_of_their_own_rather_than_one_for_all():
    inputs = [T(256, 1024).bfloat16(), T(1024, 1024).bfloat16()]
    (step,) = capture(F.linear, inputs).steps
    guess = space.first_guess(step.region, WIDE)
    assert guess.nc >= 1024, "one block takes all columns of its rows"
    assert "PACK_A = 1" in emit_region(step.region, guess)


def test_a_vector_by_a_few_long_rows_is_shared_by_all_threads():
    (step,) = capture(torch.mm, [T(256, 8192), T(8192, 1)]).steps
    text = emit_region(step.region, space.first_guess(step.region, WIDE))
    assert "contract_lines<Shape>" in text
    (columns,) = re.findall(r" JC = (\d+),", text)
    assert 256 // int(columns) >= 2 * WIDE.cores, "pieces of work, of which threads take the next"


def test_rows_that_share_sets_are_read_in_place_where_as_many_fit_as_a_tile_has():
    (step,) = capture(torch.mm, [T(256, 1024), T(1024, 1024)]).steps
    guess, few = space.first_guess(step.region, WIDE), space.first_guess(step.region, CHIP)
    ways = WIDE.levels[0].bytes_core // 4096
    assert (guess.pack_a, guess.tile_m <= max(8, ways)) == (0, True)
    assert few.pack_a == 1, "with few registers they are read too often"


@pytest.mark.parametrize(
    ("k", "columns", "choices", "asked"),
    [
        (512, 64, {}, True),
        (511, 64, {}, False),
        (512, 64, {"stream": 1}, False),
        (512, 64, {"width": 8}, False),
        (4096, 64, {"split_k": 4, "kc": 256}, False),
    ],
)
def test_lines_of_results_are_asked_for_where_sums_are_long(k, columns, choices, asked):
    (step,) = capture(torch.mm, [T(128, k), T(k, columns)]).steps
    text = emit_region(step.region, Choices(**{"width": 16, "stream": 0, **choices}))
    assert "epx::contract<" in text
    assert (", finish, place);" in text) == asked


def test_lanes_run_along_rows_where_the_right_operand_would_be_turned_at_every_call():
    layer = torch.nn.Linear(384, 96)
    made = capture(lambda x, w: F.linear(x, w).transpose(1, 2) + 1, [T(4, 784, 384), layer.weight])
    (step,) = made.steps
    kept = dataclasses.replace(step.region, weights=(1,))
    guess = space.first_guess(kept, WIDE)
    assert (guess.form, guess.pack_a, guess.split_k) == (4, 0, 1)
    assert guess.mc < 784, "blocks of the pixels, not of the channels"
    assert "TURNED = 1" in emit_region(kept, guess)
    assert space.first_guess(step.region, WIDE).form == 0, "both would be copied at every call"
    assert space.first_guess(kept, CHIP).form == 0, "not measured with few registers"
    (step,) = capture(F.linear, [T(3136, 384), layer.weight]).steps
    kept = dataclasses.replace(step.region, weights=(1,))
    assert space.first_guess(kept, WIDE).form == 0, "a weight is turned once"


def test_turned_blocks_of_few_rows_are_right_under_the_first_guess(tmp_path):
    """112 rows of 7 x 16: a block that began within a vector would write over its neighbour."""
    layer, x = torch.nn.Linear(384, 96, bias=False), T(7, 16, 384)
    (step,) = capture(lambda x, w: F.linear(x, w).transpose(1, 2) + 1, [x, layer.weight]).steps
    guess = space.first_guess(dataclasses.replace(step.region, weights=(1,)), WIDE)
    assert guess.form == 4
    with torch.no_grad():
        (got,) = compute(
            lambda x, w: F.linear(x, w).transpose(1, 2) + 1, [x, layer.weight], guess, tmp_path
        )
        torch.testing.assert_close(got, layer(x).transpose(1, 2) + 1, rtol=1e-4, atol=1e-5)


def test_a_long_sum_that_threads_share_is_not_turned():
    (step,) = capture(lambda a, b: a.T @ b.T, [T(32768, 128), T(128, 32768)]).steps
    guess = space.first_guess(step.region, WIDE)
    assert guess.form == 0
    assert guess.split_k > 1


@pytest.mark.parametrize(("m", "k", "n"), [(120, 4096, 256), (128, 32768, 128), (16, 5000, 48)])
def test_parts_of_a_long_sum_have_as_many_depths_each(m, k, n):
    (step,) = capture(torch.mm, [T(m, k), T(k, n)]).steps
    for chip in (WIDE, CHIP):
        guess = space.first_guess(step.region, chip.replace(cores=4))
        depths, parts = -(-k // guess.kc), guess.split_k
        most, least = -(-depths // parts), depths // parts
        assert parts == 1 or most == least or most > 8, (guess.kc, parts)


def test_a_product_of_int8_matrices_by_its_own_operator(tmp_path):
    inputs = [small(32, 64), small(64, 40)]
    (got,) = compute(torch._int_mm, inputs, Choices(), tmp_path)
    assert torch.equal(got, torch._int_mm(*inputs))


def test_a_sum_over_nothing_stays_with_pytorch():
    program = capture(torch.mm, [T(3, 0), T(0, 4)], accept=writable)
    assert program.left == ("aten.mm.default",)


class Block(torch.nn.Module):
    """A transformer's block, written out."""

    def __init__(self, width):
        super().__init__()
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(width) for _ in range(2)])
        self.project = torch.nn.Linear(width, 3 * width)
        self.join = torch.nn.Linear(width, width)
        self.wide = torch.nn.Linear(width, 4 * width)
        self.narrow = torch.nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.project(self.norms[0](x)).split(width, 2)
        q, k, v = (t.view(batch, length, 4, width // 4).transpose(1, 2) for t in parts)
        scores = q @ k.transpose(-1, -2) * (width // 4) ** -0.5
        future = torch.ones(length, length).triu(1) > 0
        mixed = torch.softmax(scores.masked_fill(future, -1e9), -1) @ v
        x = x + self.join(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(F.gelu(self.wide(self.norms[1](x))))


def test_a_transformer_block_is_grown_whole(tmp_path):
    block, x = Block(32).eval(), T(2, 11, 32)
    with torch.no_grad():
        (got,) = compute(block, [x], GENOMES[0], tmp_path)
        torch.testing.assert_close(got, block(x), rtol=1e-4, atol=1e-5)


def test_small_layers_share_a_region_and_large_ones_have_their_own():
    def regions(size):
        layers = [torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, size)]
        program = capture(torch.nn.Sequential(*layers), [T(64, size)], accept=writable)
        return [step.region.source for step in program.steps]

    assert len(regions(16)) == 1
    first, second = regions(256)
    assert first == ("aten.linear.default", "aten.relu.default")
    assert second == ("aten.linear.default",)
