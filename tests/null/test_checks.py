"""Static checks: each refuses what only it refuses, and honest sources pass them all."""

from pathlib import Path

import pytest

import epitaxy
from epitaxy.candidate import Candidate
from epitaxy.plugin import plugins
from epitaxy.problem import Policy, Problem, TensorSpec

SPEC = TensorSpec(shape=(4,), dtype="float32")
FORWARD = """
import torch
import operator
from torch import nn


class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(("float32", (4,)),))
    def forward(self, x):
        y = region0(x)
        self.time = torch.empty(1)
        return operator.getitem(y, 0)
"""
KERNEL = r"""
#include <cmath>
#include <immintrin.h>  // #include "/etc/passwd"
/* system("id"); */
// a comment \
   that goes on: fork();
static inline float one(float v) { const char* s = "popen(\"x\")"; return v + (s ? 1'000.0f : 0); }
#define OP(op) float apply_##op(float a)
extern "C" void region0(const void* const* in, void* const* out) {
  struct { float (*open)(float); int kill = 0; } file;
  file.open(1);
#pragma omp parallel for
  for (long i = 0; i < 4; ++i) ((float*)out[0])[i] = one(((const float*)in[0])[i]) + 'x' - '\'';
}
"""


def findings(files, libraries=("torch",), name=None):
    """Refusals by check for sources; honest ones stand in for what is not given."""
    problem = Problem(
        name="p", reference="r", source="", entry="f", inputs=(SPEC,), outputs=(SPEC,),
        policy=Policy(libraries=libraries),
    )  # fmt: skip
    candidate = Candidate(
        problem=problem.digest, toolchain="cpp", entry="forward.py", proposer="test",
        files={"forward.py": FORWARD, "kernel.cpp": KERNEL, **files},
    )  # fmt: skip
    checks = [plugins("checks").get(n) for n in plugins("checks").names()]
    assert [c.name for c in checks] == plugins("checks").names()
    found = [f for c in checks for f in c.check(candidate, problem) if f.severity == "refusal"]
    assert all(f.mend for f in found)
    return {f.check: f.message for f in found}


def test_honest_sources_pass_every_check():
    assert findings({}) == {}
    assert findings({}, libraries=()) == {}


def test_a_file_of_the_candidates_own_may_be_included():
    kernel = '#include "part.h"\n' + KERNEL
    assert findings({"kernel.cpp": kernel, "part.h": "#include <vector>\n"}) == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import os", "imports os"),
        ("import torch.utils.cpp_extension", "cpp_extension"),
        ("from torch import os", "imports torch.os"),
        ("from torch import *", "imports torch.*"),
        ("from . import other", "imports"),
        ("torch.os.system('id')", "reaches for os"),
        ("torch.hub.load('a', 'b')", "reaches for"),
        ("torch.ops.load_library('x.so')", "reaches for load_library"),
        ("operator.attrgetter('a')(x)", "reaches for attrgetter"),
        ("().__class__.__bases__", "reaches for __"),
        ("(g for g in ()).gi_frame", "reaches for gi_frame"),
        ("eval('1')", "uses eval"),
        ("e = exec", "uses exec"),
        ("_epitaxy_os.environ", "_epitaxy_os of the loader"),
        ("_epitaxy_guarded = abs", "_epitaxy_guarded of the loader"),
        ("torch.library.impl('aten::sin', 'CPU')", "reaches for library"),
        ("x = = 1", "not Python"),
    ],
)
def test_forward_may_only_compute(line, says):
    found = findings({"forward.py": f"{FORWARD}\n{line}\n"})
    assert set(found) == {"sources"}
    assert says in found["sources"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('int r = system("id");', "system"),
        ("auto f = system;", "system"),
        ("char a = '\"'; int r = system(0); char b = '\"';", "system"),
        ("int f(char c) { switch (c) { case'\"': system(0); case'a': return 1; } }", "system"),
        ("char a = u8'\"'; int r = system(0); char b = u8'\"';", "system"),
        ("#define GLUE(a, b) a##b\nint r = sys##tem(0);", "system"),
        ("int r = sys\\\ntem(0);", "system"),
        ("int r = ::open(0, 0);", "open"),
        ("int r = open(0, 0);", "open"),
        ("auto f = ::kill;", "kill"),
        ("auto f = &mmap;", "mmap"),
        ('#include "/etc/passwd"', "/etc/passwd"),
        ("#include </etc/passwd>", "/etc/passwd"),
        ("#include <../secret.h>", "secret.h"),
        ("#include <torch/../../secret.h>", "secret.h"),
        ('# /* */ include "other.h"', "other.h"),
        ("%:include <fstream>", "fstream"),
        ("#include NAME", "NAME"),
        ("#include <sys/mman.h>", "sys/mman.h"),
    ],
)
def test_kernels_may_only_compute(line, says):
    found = findings({"kernel.cpp": f"{KERNEL}\n{line}\n"})
    assert set(found) == {"sources"}
    assert says in found["sources"]


@pytest.mark.parametrize(
    ("check", "line", "says"),
    [
        ("opaque", '__asm__("syscall");', "__asm__"),
        ("opaque", 'asm("" "syscall" : "+v"(x));', "asm"),
        ("opaque", 'asm("" : "=r"(x));', "asm"),
        ("opaque", 'asm("" : "+v"(x) : : "rsp");', "asm"),
        ("opaque", 'register long x asm("rsp");', "asm"),
        ("opaque", 'const char* s = ".incbin";', ".incbin"),
        ("opaque", 'auto s = R"(")"; system(0); auto t = R"(")";', "raw string"),
        ("opaque", 'auto s = u8R"x(a)x";', "raw string"),
        ("opaque", "int \\u0073ystem(int);", "escapes"),
        ("opaque", '__attribute__((section(".text"))) const char code[] = {1};', "section"),
        ("opaque", '[[gnu::section(".text")]] const char code[] = {1};', "section"),
        ("clocks", "#include <chrono>", "chrono"),
        ("clocks", "long t = __rdtsc();", "__rdtsc"),
        ("clocks", "double t = omp_get_wtime();", "omp_get_wtime"),
        ("clocks", 'extern "C" long clock();', "clock"),
    ],
)
def test_kernels_hide_nothing_and_know_no_time(check, line, says):
    found = findings({"kernel.cpp": f"{KERNEL}\n{line}\n"})
    assert set(found) == {check}
    assert says in found[check]


def test_all_that_grown_kernels_build_on_passes():
    folder = Path(epitaxy.__file__).parent / "proposers" / "grower"
    parts = sorted(folder.glob("*.h"))
    assert len(parts) > 5
    for part in parts:
        assert findings({"kernel.cpp": f"{part.read_text()}\n{KERNEL}\n"}) == {}, part.name


def test_a_value_may_be_kept_in_its_register():
    line = 'void f(float& v) { asm("" : "+v"(v)); }'
    assert findings({"kernel.cpp": f"{KERNEL}\n{line}\n"}) == {}


@pytest.mark.parametrize(
    ("check", "line", "says"),
    [
        ("clocks", "import time", "imports time"),
        ("clocks", "e = torch.Event()", "reaches for Event"),
        ("patches", "torch.relu = abs", "changes torch.relu"),
        ("patches", "t = torch\nt.relu = abs", "changes t.relu"),
        ("patches", "nn.functional.relu = abs", "changes nn.functional.relu"),
        ("patches", "type(x).copy_ = abs", "changes type(x).copy_"),
        ("patches", "del torch.relu", "changes torch.relu"),
        ("patches", "a = torch.nn.Linear(1, 1)\na = torch\na.relu = abs", "changes a.relu"),
    ],
)
def test_forward_changes_nothing_of_others_and_knows_no_time(check, line, says):
    found = findings({"forward.py": f"{FORWARD}\n{line}\n"})
    assert set(found) == {check}
    assert says in found[check]


def test_modules_that_a_file_makes_are_its_own_to_change():
    assert findings({"forward.py": f"{FORWARD}\na = nn.Linear(1, 1)\na.bias = None\n"}) == {}


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("forward.py", "y = torch.nn.functional.softmax(x, -1)", "torch.nn.functional.softmax"),
        ("forward.py", "y = nn.functional.relu(x)", "nn.functional.relu"),
        ("forward.py", "y = x @ x", "@"),
        ("forward.py", "y = x.matmul(x)", "Tensor.matmul"),
        ("forward.py", "y = (x + 1).softmax(-1)", "Tensor.softmax"),
        ("forward.py", "y = x.erfinv()", "Tensor.erfinv"),
        ("forward.py", "y = Model.forward(None, x)", "Model.forward"),
        ("forward.py", "class ModelNew(Model): pass", "inherits"),
        ("kernel.cpp", "#include <torch/extension.h>", "torch/extension.h"),
    ],
)
def test_without_torch_in_the_policy_nothing_is_left_to_it(name, line, says):
    files = {name: {"forward.py": FORWARD, "kernel.cpp": KERNEL}[name] + f"\n{line}\n"}
    assert findings(files) == {}
    found = findings(files, libraries=())
    assert set(found) == {"libraries"}
    assert says in found["libraries"]


@pytest.mark.parametrize("line", ["#include <cblas.h>", "void cblas_sgemm(int);"])
def test_a_blas_must_be_listed_by_name(line):
    files = {"kernel.cpp": f"{KERNEL}\n{line}\n"}
    assert set(findings(files)) == {"libraries"}
    assert findings(files, libraries=("torch", "blas")) == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("s = torch.cuda.current_stream()", "reaches for cuda"),
        ("g = torch.cuda.CUDAGraph()", "reaches for"),
        ("s = torch.Stream()", "reaches for Stream"),
        ("from torch import cuda", "imports torch.cuda"),
        ("x = torch.accelerator.current_stream()", "reaches for accelerator"),
    ],
)
def test_streams_and_graphs_of_a_gpu_are_out_of_reach(line, says):
    found = findings({"forward.py": f"{FORWARD}\n{line}\n"})
    assert set(found) == {"sources"}
    assert says in found["sources"]


@pytest.mark.parametrize("clock", ["clock64()", "wall_clock64()", "__nanosleep(9)"])
def test_clocks_of_a_gpu_are_out_of_reach(clock):
    assert set(findings({"kernel.cu": f"void f(float* y) {{ y[0] = 1; {clock}; }}"})) == {"clocks"}
