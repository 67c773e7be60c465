"""Mutated honest kernels: the judge finds the planted mistakes. `make fuzz` runs them all."""

from __future__ import annotations

import re

import fuzz_kernels
import fuzz_run
import pytest

from epitaxy import mutate
from epitaxy.judge import Judge
from epitaxy.mutate import Mutant


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = fuzz_run.Bench("row_sums", tmp_path_factory.mktemp("fuzz"), timed=False)
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
    found = list(fuzz_run.run_kernel("l2_norm", 8, 3, {}, fuzz_run.Budget()))
    check(found, 8)
    known = {f.key: f for f in found}
    assert list(fuzz_run.run_kernel("l2_norm", 8, 3, known, fuzz_run.Budget(1e-9))) == found


def test_the_same_machine_code_is_equivalent(bench):
    fate = bench.fate(changed(bench, "c += 8)", "c = c + 8)"))
    assert (fate.outcome, fate.reason) == ("equivalent", "the same machine code")


def test_code_that_does_not_compile_is_neither_killed_nor_survived(bench):
    fate = bench.fate(changed(bench, "y[r] = sum;", "y[r] = nothing;"))
    assert fate.outcome == "build_failed"


def test_another_order_of_summation_survives(bench):
    """Honest code is no mutant to be killed: the fuzz would report it as a survivor."""
    fate = bench.fate(changed(bench, "part[k] = part[k] + row", "part[7 - k] = part[7 - k] + row"))
    assert fate.outcome == "survived"


def without(bench, mutant, guard):
    """What the judge refuses before it times anything, with a guard taken away."""
    judge = Judge(bench.judge.problem, bench.machine, baselines=["eager"], without=[guard])
    try:
        return judge.refuse(bench.candidate(mutant.text))
    finally:
        judge.close()


FENCES = {
    "a write behind an output": ("y[r] = sum;", "{ y[r] = sum; if (r == 66) y[67] = sum; }"),
    "a read behind an input that NaN there would not show": (
        "y[r] = sum;",
        "y[r] = sum; if (r == 66 && row[1301] > 1e38f) y[r] = 0;",
    ),
    "a read of no consequence far behind an input": (
        "y[r] = sum;",
        "y[r] = row[1301 + 16] == 123.25f ? 0 : sum;",
    ),
}
BOUNDS = {
    "a read behind an array": (
        "k < 8; ++k) sum = sum + part[k]",
        "k <= 8; ++k) if (k < 8 || part[k] == 7) sum = sum + part[k]",
    ),
    "a variable never set": (
        "float part[8] = {0, 0, 0, 0, 0, 0, 0, 0};",
        "float part[8], more; for (auto& p : part) p = 0; if (more < -1e38f) part[0] = more;",
    ),
}


@pytest.mark.parametrize("change", FENCES.values(), ids=FENCES)
def test_it_needs_the_fences(bench, change):
    mutant = changed(bench, *change)
    fate = bench.fate(mutant)
    assert fate.outcome in ("incorrect", "crashed")
    assert fate.reason.startswith("fences: it")
    assert without(bench, mutant, "fences") is None


@pytest.mark.parametrize("change", BOUNDS.values(), ids=BOUNDS)
def test_it_needs_the_build_with_bounds_checked(bench, change):
    mutant = changed(bench, *change)
    fate = bench.fate(mutant)
    assert fate.outcome in ("incorrect", "crashed")
    assert fate.reason.startswith("bounds: it")
    assert without(bench, mutant, "bounds") is None


def test_a_read_behind_an_input_is_found(bench):
    fate = bench.fate(changed(bench, "c < columns; ++c", "c < columns + (r == 66); ++c"))
    assert fate.outcome == "incorrect"


def test_every_kind_of_mistake_finds_a_place(tmp_path):
    """Code that is written in another way since must not leave a pattern without anything to do."""
    idle = dict(enumerate(mutate.OPERATORS))
    for name in fuzz_kernels.NAMES:
        honest = fuzz_kernels.honest(name, fuzz_kernels.problem(name, tmp_path))
        text = honest.files["kernel.cpp"]
        idle = {n: o for n, o in idle.items() if not re.search(o.pattern, text)}
    assert [f"{o.name}: {o.pattern}" for o in idle.values()] == []
