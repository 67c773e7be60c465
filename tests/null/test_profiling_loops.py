"""What is read off a listing: loops, strides, chains, spills. Listings are as gcc writes them."""

import pytest

from epitaxy.profiling.instructions import Instruction
from epitaxy.profiling.loops import hot_loop, loops
from epitaxy.profiling.static import figures
from epitaxy.profiling.view import view

CONTIGUOUS = """
0000000000001200 <region0._omp_fn.0>:
region0._omp_fn.0():
/tmp/made-1/kernel.cpp:6
    1200:	push   %rbp
    1201:	mov    %rsp,%rbp
    1204:	cmp    %rdx,%rcx
    1207:	jl     1250 <region0._omp_fn.0+0x50>
/tmp/made-1/kernel.cpp:7 (discriminator 3)
    1230:	vmovaps %ymm2,%ymm0
    1234:	vfmadd132ps (%r9,%rcx,1),%ymm1,%ymm0
    123a:	vmovups %ymm0,(%r10,%rcx,1)
    1240:	add    $0x20,%rcx
    1244:	cmp    %rcx,%rbx
    1247:	jne    1230 <region0._omp_fn.0+0x30>
    1249:	leave
    124a:	ret
    1250:	xor    %edx,%edx
    1252:	jmp    1230 <region0._omp_fn.0+0x30>
    1254:	jle    1249 <region0._omp_fn.0+0x49>
    1256:	ret
"""
CHAIN = """
0000000000001000 <region0>:
    1000:	vxorps %xmm0,%xmm0,%xmm0
    1004:	mov    $0xfa0,%edx
    1010:	vaddss (%rax),%xmm0,%xmm0
    1014:	vmulss 0x4(%rax),%xmm3,%xmm4
    1018:	vaddss %xmm4,%xmm0,%xmm0
    101c:	vmovss %xmm4,-0x20(%rsp)
    1020:	vmovss -0x20(%rsp),%xmm5
    1024:	add    %rdx,%rax
    1028:	cmp    %rcx,%rax
    102b:	jne    1010 <region0+0x10>
    102d:	ret
"""


def only(listing):
    found = loops(listing)
    assert len(found) == 1
    return found[0], figures(found[0])


def test_a_loop_that_is_written_well():
    loop, found = only(CONTIGUOUS)
    assert (loop.function, loop.span, loop.inner) == ("region0._omp_fn.0", (0x1230, 0x1247), True)
    assert found["vector_bits"] == 256
    assert found["vector_share"] == 1
    assert (found["loads"], found["stores"], found["fma"]) == (1, 1, 1)
    assert (found["load_bytes"], found["store_bytes"]) == (32, 32)
    assert (found["strided_loads"], found["spills"], found["chain"]) == (0, 0, 0)


def test_a_chain_of_scalars_over_columns():
    _, found = only(CHAIN)
    assert found["chain"] == 2
    assert found["vector_share"] == 0
    assert found["largest_stride_bytes"] == 4000
    assert found["strided_loads"] == 2
    assert found["spills"] == 2


ENTERED_IN_THE_MIDDLE = """
0000000000001000 <region0>:
    1000:	jmp    1010 <region0+0x10>
    1004:	vmovups %ymm0,(%rdi,%rax,1)
    1008:	vaddps %ymm0,%ymm1,%ymm1
    100c:	add    $0x20,%rax
    1010:	vmovups (%rsi,%rax,1),%ymm0
    1014:	cmp    %rax,%rcx
    1018:	je     1030 <region0+0x30>
    101c:	jmp    1004 <region0+0x4>
    1030:	ret
"""


def test_a_loop_may_be_entered_in_its_middle():
    loop, found = only(ENTERED_IN_THE_MIDDLE)
    assert loop.span == (0x1004, 0x101C)
    assert (found["loads"], found["stores"]) == (1, 1)


def test_samples_say_which_loop_is_hot():
    both = loops(CONTIGUOUS + CHAIN)
    assert hot_loop(both)[0].function == "region0._omp_fn.0"
    loop, share = hot_loop(both, [0x1014, 0x1018, 0x1234, 0x1018])
    assert (loop.function, share) == ("region0", 0.75)
    assert hot_loop([]) == (None, 0.0)


def test_the_reader_sees_marks_and_source_lines():
    loop, _ = only(CONTIGUOUS)
    shown = view(loop, "only one", {"kernel.cpp": "\n" * 6 + "y[i] = x[i] * 2 + 1;\n"})
    assert shown.source == "kernel.cpp:7"
    assert shown.code == {"kernel.cpp:7": "y[i] = x[i] * 2 + 1;"}
    marks = {line.text.split()[0]: line.marks for line in shown.lines}
    assert marks["vfmadd132ps"] == ("256 bits", "load stride 32", "FMA")
    assert marks["vmovups"] == ("256 bits", "store stride 32")
    assert marks["jne"] == ("branch",)
    assert "1 FMA" in shown.summary


def test_spills_are_marked():
    loop, _ = only(CHAIN)
    shown = view(loop, "", {})
    assert [m for line in shown.lines for m in line.marks if "spill" in m or "reload" in m] == [
        "spill", "reload",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "loads", "stores", "size"),
    [
        ("vmovups %ymm0,0x40(%rdi)", False, True, 32),
        ("vmovss  (%rax,%rdx,4),%xmm0", True, False, 4),
        ("vbroadcastss (%rax),%ymm1", True, False, 4),
        ("lock add %eax,(%rdi)", True, True, 4),
        ("cmp    %rax,(%rdi)", True, False, 8),
        ("addl   $0x1,(%rdi)", True, True, 4),
        ("lea    0x8(%rdi),%rax", False, False, 0),
        ("vmovntps %ymm0,(%rdi)", False, True, 32),
        ("prefetcht0 0x100(%rdi)", False, False, 0),
    ],
)
def test_what_an_instruction_does_to_memory(text, loads, stores, size):
    i = Instruction(0, text)
    assert (i.loads, i.stores, i.bytes) == (loads, stores, size)
