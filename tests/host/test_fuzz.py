"""Mutated honest kernels: the judge finds the planted mistakes. `make fuzz` runs them all."""

from __future__ import annotations

import fuzz_run
import pytest

from epitaxy import mutate
from epitaxy.judge import Judge
from epitaxy.mutate import Mutant


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = fuzz_run.Bench("row_sums", tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


def changed(bench, before, after):
    """A mutant of the bench's honest kernel, made by hand."""
    text = bench.honest.files["kernel.cpp"]
    assert before in text
    line = text[: text.index(before)].count("\n") + 1
    return Mutant(
        operator="by hand", line=line, before=before, after=after, text=text.replace(before, after)
    )


def check(fates, count):
    assert len(fates) == count
    assert [f for f in fates if f.outcome == "survived"] == []
    assert sum(f.outcome in fuzz_run.KILLED for f in fates) >= 0.7 * count


def test_mutants_of_a_handwritten_kernel_do_not_survive(bench):
    text = bench.honest.files["kernel.cpp"]
    # A race shows with luck only, on a busy machine: `make fuzz` has those.
    tried = [m for m in mutate.mutants(text, 15, 3) if m.operator != "race"][:12]
    check([bench.fate(m) for m in tried], 12)


def test_mutants_of_a_grown_kernel_do_not_survive():
    check(fuzz_run.run_kernel("l2_norm", 12, 3), 12)


def test_the_same_machine_code_is_equivalent(bench):
    fate = bench.fate(changed(bench, "c += 8)", "c = c + 8)"))
    assert (fate.outcome, fate.reason) == ("equivalent", "the same machine code")


def test_code_that_does_not_compile_is_neither_killed_nor_survived(bench):
    fate = bench.fate(changed(bench, "y[r] = sum;", "y[r] = nothing;"))
    assert fate.outcome == "build_failed"


def test_another_order_of_summation_survives(bench):
    """Honest code is no mutant to be killed: the fuzz would report it as a survivor."""
    fate = bench.fate(changed(bench, "part[k] = part[k] + row", "part[7 - k] = part[7 - k] + row"))
    assert (fate.outcome, "of the limit" in fate.reason) == ("survived", True)


def test_a_write_behind_an_output_needs_the_fences(bench):
    mutant = changed(bench, "y[r] = sum;", "{ y[r] = sum; if (r == 66) y[67] = sum; }")
    fate = bench.fate(mutant)
    assert fate.outcome == "incorrect"
    assert "beyond the ends of an output" in fate.reason
    judge = Judge(bench.judge.problem, bench.machine, baselines=["eager"], without=["fences"])
    try:
        without = judge.judge(bench.candidate(mutant.text), "full")
    finally:
        judge.close()
    assert without.status == "accepted"
    assert any("fences was off" in finding.message for finding in without.findings)


def test_a_read_behind_an_input_is_found(bench):
    fate = bench.fate(changed(bench, "c < columns; ++c", "c < columns + (r == 66); ++c"))
    assert fate.outcome == "incorrect"
