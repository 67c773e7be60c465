"""Edits of assembly: what they change, what they must leave, and that they say when they cannot."""

import pytest

from epitaxy.errors import BadCandidate
from epitaxy.profiling import edits

TEXT = """\t.globl\tregion0
\t.type\tregion0, @function
region0:
.LFB0:
\t.cfi_startproc
\tmovq\t(%rdi), %rax
\tvmovaps\t%ymm1, 32(%rsp)
\tvmovups\t%ymm1, (%rdx)
.L3:
\tvmovups\t(%rax), %ymm0
\tvdivps\t32(%rsp), %ymm0, %ymm0
\tvfmadd132ps\t.LC1(%rip), %ymm1, %ymm0
\tvmovaps\t%ymm0, 64(%rsp)
\tvmovaps\t64(%rsp), %ymm9
\tvsqrtps\t%ymm0, %ymm2
\tcall\texpf@PLT
\tlock xaddl\t%ecx, (%rsi)
\tmovq\t%rcx, (%r8)
\tvmovntps\t%ymm0, (%rdx,%rax)
\tvmovups\t%ymm2, 4(%rdx)
\taddq\t$32, %rax
\tcmpq\t%rax, %rcx
\tjne\t.L3
\tret
"""


def changed(edit):
    """Lines that an edit made of others, and lines that it left out."""
    before, after = TEXT.splitlines(), edit(TEXT).splitlines()
    return [" ".join(x.split()) for x in after if x not in before], [
        " ".join(x.split()) for x in before if x not in after
    ]


def test_stores_go_aside_and_the_stack_and_integers_stay():
    new, gone = changed(edits.without_stores)
    assert new == ["vmovups %ymm0, -512(%rsp)", "vmovups %ymm2, -512(%rsp)"]
    assert gone == ["vmovntps %ymm0, (%rdx,%rax)", "vmovups %ymm2, 4(%rdx)"]


def test_loads_read_ones_and_addresses_stay():
    new, gone = changed(edits.without_loads)
    assert new[0] == "vmovups .Lepitaxy_ones(%rip), %ymm0"
    assert gone == ["vmovups (%rax), %ymm0"]
    assert new.count(".long 0x3f800000") == 16
    both, _ = changed(edits.without_memory)
    assert "vmovups .Lepitaxy_ones(%rip), %ymm0" in both
    assert "vmovups %ymm2, -512(%rsp)" in both


def test_stores_past_the_caches_are_fenced():
    new, gone = changed(edits.streaming)
    assert new == ["vmovntps %ymm2, 4(%rdx)", "sfence"]
    assert gone == ["vmovups %ymm2, 4(%rdx)"]
    assert changed(edits.not_streaming) == (
        ["vmovups %ymm0, (%rdx,%rax)"],
        ["vmovntps %ymm0, (%rdx,%rax)"],
    )


def test_dear_operations_become_cheap():
    new, _ = changed(edits.cheap_divides)
    assert new == ["vmulps 32(%rsp), %ymm0, %ymm0", "vmovups %ymm0, %ymm2"]
    assert changed(edits.without_math_calls)[1] == ["call expf@PLT"]
    assert changed(edits.without_atomics)[0] == ["xaddl %ecx, (%rsi)"]


def test_vectors_leave_the_stack_in_loops_alone():
    new, gone = changed(edits.without_spills)
    assert new == ["vdivps %ymm0, %ymm0, %ymm0", "", "vxorps %ymm9, %ymm9, %ymm9"]
    assert gone == [
        "vdivps 32(%rsp), %ymm0, %ymm0", "vmovaps %ymm0, 64(%rsp)", "vmovaps 64(%rsp), %ymm9",
    ]  # fmt: skip


def test_the_mode_is_set_where_a_function_begins():
    new, gone = changed(edits.flush_denormals)
    assert new == ["movl $40896, -648(%rsp)", "ldmxcsr -648(%rsp)"]
    assert gone == []


@pytest.mark.parametrize(
    "edit",
    [
        edits.without_stores, edits.without_loads, edits.streaming, edits.not_streaming,
        edits.cheap_divides, edits.without_math_calls, edits.without_atomics,
        edits.without_spills, edits.flush_denormals,
    ],
)  # fmt: skip
def test_nothing_to_change_is_said(edit):
    with pytest.raises(BadCandidate):
        edit("f:\n\tmovq\t(%rdi), %rax\n.L1:\n\taddq\t$1, %rax\n\tjne\t.L1\n\tret\n")
