"""Mutants: drawn by a seed, one change each, of every kind that the source offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from epitaxy.mutate import NAMES, OPERATORS, mutants

SOURCES = sorted((Path(__file__).parents[1] / "host" / "fuzz_sources").glob("*.cpp"))
HELPED = 'void f() {{ {helper} }}\nextern "C" void region0(const void* const* in) {{ {code} }}\n'
GROWN = """
#pragma omp parallel for
    for (int64_t t = 0; t < 35; ++t) {
      const int64_t i0_ = t / 5;
      V r1_acc[4]; epx::fill(r1_acc, epx::splat<V>(-INFINITY));
      auto pass0 = [&](auto tail, int64_t i, int u, int n) EPX_BODY {
        const V v2 = epx::get<V>(tail, x0 + i0_ * 97 + i1_ * 53 + i, n);
        const V v3 = v2 * v4;
        const V v5 = epx::exp(v3);
        r2_acc[u] = r2_acc[u] + v2;
        r1_acc[u] = epx::keep(tail, V(epx::maximum(r1_acc[u], v2)), r1_acc[u], n);
        epx::put(tail, y0 + i0_ * 97 + i, v3, n);
      };
      epx::sweep<8, 4>(0, 97, pass0);
      const float s1 = float(epx::hmax(r1)) * 0.5f;
      float r3 = 0.0f;
"""
HELPER = "if (i < hi) body(part{}, i, 0, int(hi - i));"
TEXT = HELPED.format(helper=HELPER, code=GROWN)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_each_mutant_differs_in_one_place(path):
    text = path.read_text()
    found = mutants(text, 1000, 1)
    assert len(found) > 10
    assert len({m.text for m in found}) == len(found)
    for mutant in found:
        assert mutant.text != text
        assert mutant.after in mutant.text
        changed = [
            n
            for n, (a, b) in enumerate(
                zip(text.splitlines(), mutant.text.splitlines(), strict=True), 1
            )
            if a != b
        ]
        assert changed == [mutant.line]


def test_every_kind_of_mistake_is_made_in_grown_code():
    assert {m.operator for m in mutants(TEXT, 1000, 1)} == set(NAMES)


def test_operators_come_in_turn():
    assert len({m.operator for m in mutants(TEXT, len(NAMES), 1)}) == len(NAMES)


def test_the_seed_decides():
    assert mutants(TEXT, 30, 1) == mutants(TEXT, 30, 1)
    assert mutants(TEXT, 30, 1) != mutants(TEXT, 30, 2)


def test_helpers_and_kernel_are_told_apart():
    found = mutants(TEXT, 1000, 1)
    assert [m.line for m in found if HELPER in m.before] == [1]
    assert all(m.line > 1 for m in found if HELPER not in m.before)


def test_a_shared_variable_is_no_race_on_one_thread():
    alone = TEXT.replace("#pragma omp parallel for", "")
    assert "race" in {m.operator for m in mutants(TEXT, 1000, 1)}
    assert "race" not in {m.operator for m in mutants(alone, 1000, 1)}


BLOCKS = """
const int64_t i = t % 16, depth = least(G::KC, G::K - d * G::KC);
auto lanes = [&](int c) { return tail ? int(epx::least(N, 37 - j0 - c * N)) : N; };
if (G::depths > 1 && !first) c[r][v] = c[r][v] + load<V>(hold);
f(d == d0, d + 1 == d1, line + j + 2, epx::within(w0_ + -2, 19));
const VI v3 = v4 < epx::splat_int<VI>(int64_t(37));
if (j0 + 16 > 37) tile(part{}); else if (i >= 2 && i < 17) tile(whole{});
"""
WRONG = (
    "t % 17", "depth = G::KC;", "int(N) : N", "&& false) c[r][v]", "d + 2 >= d1", "line + j + 3",
    "within(w0_ + -2, 20)", "int64_t(38)", "int64_t(36)", "> 1000037)", ">= 1 && i", "i < 18)",
)  # fmt: skip


def test_blocks_are_cut_wrongly():
    made = [m.text for m in mutants(BLOCKS, 100, 1, "\n") if m.operator == "wrong block"]
    assert len(made) == len(WRONG)
    for wrong in WRONG:
        assert sum(wrong in text for text in made) == 1, wrong


def test_every_operator_says_its_mistake():
    assert all(operator.mistake for operator in OPERATORS)
