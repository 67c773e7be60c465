"""Kernels in CUDA C++ and HIP: built by the real compilers, checked by our runtime on this CPU."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path

import pytest

from epitaxy.checked import CheckingJudge
from epitaxy.chip import find_chip
from epitaxy.compiler import find_compiler
from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.handmade import read_folder
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.product import export
from epitaxy.record import FrozenDict
from epitaxy.testing import ToolchainConformance
from epitaxy.toolchains._absent import same_text_but_numbers
from epitaxy.toolchains._builder import Refused
from epitaxy.toolchains._device import LIBRARY, SHIM, misshapen
from epitaxy.toolchains._device_build import adapted

ROOT = Path(__file__).parents[2]
CUDA = plugins("toolchains").get("cuda")
H100 = find_chip("h100_sxm")
needs_nvcc = pytest.mark.skipif(not CUDA.available().ok, reason=CUDA.available().detail)
RELU = """#include <cuda_runtime.h>
extern "C" __global__ void relu(const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i] < 0 ? 0.0f : x[i];
}
"""
FORWARD = """_relu = _epitaxy_kernel("relu", 1, [("float32", (8, 16))], grid=(2,), block=(64,))


class ModelNew(Model):
    @_epitaxy_guarded(Model, inputs=(("float32", (8, 16)),))
    def forward(x):
        (y,) = _relu(x)
        return y
"""


class TestCuda(ToolchainConformance):
    plugin = "cuda"
    files = FrozenDict({"kernel.cu": RELU, "forward.py": FORWARD})
    entry = "forward.py"
    broken = FrozenDict({"kernel.cu": RELU.replace("float* y", "flat* y"), "forward.py": FORWARD})


HIP = plugins("toolchains").get("hip")


class TestHip(ToolchainConformance):
    plugin = "hip"
    files = FrozenDict({
        "kernel.hip": RELU.replace("cuda_runtime.h", "hip/hip_runtime.h"), "forward.py": FORWARD,
    })  # fmt: skip
    entry = "forward.py"
    broken = FrozenDict({**files, "kernel.hip": "void f() { nothing(); }"})


class TestOpenCl(ToolchainConformance):
    plugin = "opencl"
    files = FrozenDict({
        "kernel.cl": """__kernel void relu(__global const float* x, __global float* y) {
  const int i = get_global_id(0);
  y[i] = x[i] < 0 ? 0.0f : x[i];
}
""",
        "forward.py": FORWARD,
    })  # fmt: skip
    entry = "forward.py"
    broken = FrozenDict({**files, "kernel.cl": "__kernel void f() { nothing(); }"})


# -- the runtime ---------------------------------------------------------------------------------


class Runtime:
    """One source built for the runtime; `run` launches a kernel on arrays of float."""

    def __init__(self, folder: Path, source: str, dialect: str = "cuda", suffix: str = ".cu"):
        unit = folder / f"kernel{suffix}"
        unit.write_text(adapted(unit.name, source))
        toolchain = plugins("toolchains").get(dialect)
        runtime, one, link = toolchain._shim(find_compiler())
        for command in (runtime, one, link):
            words = [unit.name if w == "{unit}" else w for w in command]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(folder / LIBRARY))

    def run(self, kernel, arrays, grid=(1, 1, 1), block=(32, 1, 1), shared=0, lanes=32):
        """What went wrong; "" when nothing."""
        count, said = len(arrays), ctypes.create_string_buffer(512)
        self.library.epitaxy_launch(
            kernel.encode(), ctypes.cast(self.library[kernel], ctypes.c_void_p),
            (ctypes.c_void_p * count)(*[ctypes.addressof(a) for a in arrays]),
            (ctypes.c_size_t * count)(*[ctypes.sizeof(a) for a in arrays]),
            count, (ctypes.c_uint * 6)(*grid, *block), ctypes.c_size_t(shared), lanes,
            said, ctypes.c_size_t(512),
        )  # fmt: skip
        return said.value.decode()


SOURCE = """#include <cuda_runtime.h>
#define K extern "C" __global__ void
K past(float* x) { x[threadIdx.x + 1] = 1; }
K before(float* x) { x[0] = x[static_cast<int>(threadIdx.x) - 1]; }
K far(float* x) { x[1 << 28] = 1; }
K shared_past(float* x) {
  __shared__ float own[4];
  float* p = own;
  p[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = own[threadIdx.x % 4];
}
K dynamic_past(float* x) {
  extern __shared__ float given[];
  given[threadIdx.x] = 1;
  x[threadIdx.x] = given[threadIdx.x];
}
K index(float* x) {
  float own[4] = {};
  own[threadIdx.x] = 1;
  x[threadIdx.x] = own[3];
}
K race(float* x) {
  __shared__ float own[32];
  own[threadIdx.x] = threadIdx.x;
  x[threadIdx.x] = own[31 - threadIdx.x];
}
K stale(float* x) {
  __shared__ float own;
  if (threadIdx.x == 0) own = 1;
  x[threadIdx.x] = own;
}
K exchange(float* x) {
  __shared__ float own[32];
  own[threadIdx.x] = threadIdx.x;
  __syncthreads();
  x[threadIdx.x] = own[31 - threadIdx.x];
}
K stuck(float* x) {
  if (threadIdx.x < 16) __syncthreads();
  else __syncwarp(0xffffffffu);
  x[threadIdx.x] = 1;
}
K leaves(float* x) {
  if (threadIdx.x >= 16) return;
  __syncthreads();
  x[threadIdx.x] = __shfl_xor_sync(0xffffu, static_cast<float>(threadIdx.x), 1);
}
K unset(float* x) {
  __shared__ float own[32];
  x[threadIdx.x] = own[threadIdx.x];
}
K warp(float* x) {
  const unsigned all = 0xffffffffu;
  const int lane = threadIdx.x;
  float v = lane;
  for (int d = 16; d; d /= 2) v += __shfl_down_sync(all, v, d);
  v = __shfl_sync(all, v, 0);
  const unsigned odd = __ballot_sync(all, lane & 1);
  x[lane] = v + (odd == 0xaaaaaaaau) + __reduce_max_sync(all, -lane) + __any_sync(all, lane == 9);
}
template <int N>
__device__ float turned(float v) {
  __shared__ __align__(16) float a[2][N / 2], b;
  a[threadIdx.x / 16][threadIdx.x % 16] = v;
  if (threadIdx.x == 0) b = 100;
  __syncthreads();
  return a[1 - threadIdx.x / 16][threadIdx.x % 16] + b;
}
K in_template(float* x) { x[threadIdx.x] = turned<32>(threadIdx.x); }
K counts(float* x) { atomicAdd(x, 1.0f); }
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    return Runtime(tmp_path_factory.mktemp("runtime"), SOURCE)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("past", "writes 4 bytes at byte 128 of argument 0, which has 128"),
        ("before", "reads 4 bytes at byte -4 of argument 0, which has 128"),
        ("far", "writes 4 bytes outside everything that it was given"),
        ("shared_past", "writes 4 bytes at byte 16 of own, which has 16"),
        ("dynamic_past", "writes 4 bytes at byte 64 of dynamic shared memory, which has 64"),
        ("index", "uses index 4 outside an array (kernel.cu:"),
        ("race", "shared memory that another thread read, with no barrier between"),
        ("stale", "reads shared memory that thread (0,0,0) wrote, with no barrier between"),
        ("stuck", "wait for one another for ever: 16 at a barrier of the block, 16 at"),
    ],
)
def test_a_kernels_mistakes_are_told_by_name(runtime, kernel, said):
    data = (ctypes.c_float * 32)()
    # Threads run in the other order at every second launch.
    found = {runtime.run(kernel, [data], shared=64) for _ in range(2)}
    assert all(text.startswith(f"{kernel}: ") for text in found)
    assert any(said in text for text in found), found


AMD = """#include <hip/hip_runtime.h>
extern "C" __global__ void wave(float* x) {
  float v = threadIdx.x;
  for (int d = warpSize / 2; d; d /= 2) v += __shfl_xor(v, d);
  if (threadIdx.x < 8) v += __ballot(threadIdx.x & 1) == 0xaau;  // the active lanes alone
  x[threadIdx.x] = v;
}
"""
CL = """__kernel void turn(__global float* x) {
  __local float held[32], other;
  const int me = get_local_id(0);
  __local float* place = held;
  place[me] = x[me];
  if (me == 0) other = 1;
  barrier(CLK_LOCAL_MEM_FENCE);
  x[me] = held[31 - me] + other;
}
"""


def test_the_other_dialects_run(tmp_path):
    data = (ctypes.c_float * 64)()
    for name in ("amd", "cl"):
        (tmp_path / name).mkdir()
    amd = Runtime(tmp_path / "amd", AMD, "hip", ".hip")
    assert amd.run("wave", [data], block=(64, 1, 1), lanes=64) == ""
    assert list(data) == [2017.0] * 8 + [2016.0] * 56
    data = (ctypes.c_float * 32)(*range(32))
    assert Runtime(tmp_path / "cl", CL, "opencl", ".cl").run("turn", [data], lanes=64) == ""
    assert list(data) == [32.0 - i for i in range(32)]


def test_what_cxx_would_read_otherwise_is_refused():
    with pytest.raises(Refused, match="vector literals"):
        adapted("kernel.cl", "float4 v = (float4)(0, 1, 2, 3);")


@pytest.mark.skipif(HIP.available().ok, reason="a clang for AMD's chips is here")
def test_a_missing_compiler_is_said_with_its_mend(tmp_path):
    suite = TestHip()
    with pytest.raises(BadEnvironment) as missing:
        HIP.build(suite.candidate(suite.files, "forward.py", "hip"), suite.problem, tmp_path)
    assert "ziglang" in missing.value.mend


def test_an_nvcc_that_is_too_old_is_said(tmp_path, monkeypatch):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 10.2, V10.2.89'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    state = CUDA.available()
    assert not state.ok
    assert "nvcc 10.2 is older than 11.0" in state.detail
    nvcc.write_text(
        "#!/bin/sh\n[ $1 = --list-gpu-code ] && echo sm_80 && exit\n"
        "echo 'Cuda compilation tools, release 11.4, V11.4.1'\n"
    )
    other = tmp_path / "second"
    other.mkdir()
    nvcc.rename(other / "nvcc")
    monkeypatch.setenv("PATH", f"{other}:/usr/bin:/bin")
    with pytest.raises(BadInput, match=r"nvcc 11.4 does not build for sm_90"):
        CUDA.aim(H100)


def test_what_is_right_runs(runtime):
    data = (ctypes.c_float * 32)()
    assert runtime.run("exchange", [data]) == ""
    assert list(data) == [31.0 - i for i in range(32)]
    assert runtime.run("in_template", [data]) == ""
    assert list(data) == [100.0 + (i + 16) % 32 for i in range(32)]
    assert runtime.run("warp", [data]) == ""
    assert list(data) == [496.0 + 1 + 0 + 1] * 32
    assert runtime.run("leaves", [data]) == ""
    assert list(data)[:16] == [float(i ^ 1) for i in range(16)]
    data = (ctypes.c_float * 32)()
    assert runtime.run("counts", [data], grid=(3, 1, 1), block=(64, 1, 1)) == ""
    assert data[0] == 192.0


def test_shared_memory_that_was_never_set_shows(runtime):
    data = (ctypes.c_float * 32)()
    assert runtime.run("unset", [data]) == ""
    assert all(v != v for v in data)


# -- from a folder to a verdict -----------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    absent = plugins("machines").get("absent")
    absent.home = tmp_path_factory.mktemp("home")
    made = absent.of(find_chip("h100_sxm"), "cuda")
    yield made
    made.close()


@needs_nvcc
def test_cuda_is_checked_and_never_timed(machine, tmp_path):
    problem = load(ROOT / "examples" / "softmax.py")
    candidate = read_folder(ROOT / "kernels" / "softmax_cuda", problem, chip=machine.chip())
    assert candidate.toolchain == "cuda"
    judge = CheckingJudge(problem, machine)
    try:
        verdict = judge.judge(candidate)
        assert (verdict.status, verdict.basis) == ("accepted", "checked"), verdict.reason
        assert verdict.time_s is None
        assert verdict.metrics["registers"] > 32
        assert verdict.metrics["programs"] == 2048
        assert 0 < verdict.metrics["occupancy"] <= 1
        build = judge.build(candidate)
        path = export(candidate, verdict, problem, tmp_path / "out", build)
        assert (path.parent / "kernel.cubin").read_bytes()[:4] == b"\x7fELF"
        assert "softmax_rows" in (path.parent / "kernel.cu").read_text()
    finally:
        judge.close()


@needs_nvcc
def test_a_kernel_that_strays_crashes_with_the_place_named(machine):
    suite = TestCuda()
    judge = CheckingJudge(suite.problem, machine)
    try:
        files = {"kernel.cu": RELU.replace("y[i]", "y[i + 1]"), "forward.py": FORWARD}
        verdict = judge.judge(suite.candidate(files, "forward.py", "cuda"))
        assert verdict.status == "crashed"
        assert "writes 4 bytes at byte 512 of argument 1" in verdict.reason
    finally:
        judge.close()


SAID = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'relu' for 'sm_90a'
ptxas info    : Function properties for relu
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers, 4096 bytes smem
"""
"""As nvcc 13 writes it."""


@pytest.mark.parametrize(
    ("words", "shared", "said"),
    [
        ({}, 230000, "relu takes 234096 bytes of shared memory; a block of NVIDIA H100 SXM5 80GB"),
        ({"'relu'": "'gelu'"}, 0, 'no source defines extern "C" __global__ relu'),
        ({"Used 30": "Used 255"}, 0, "registers for a block; a core of NVIDIA H100 SXM5 80GB has"),
        ({": 0 bytes gmem": ": 16 bytes gmem"}, 0, "keeps 16 bytes of __device__ variables"),
        ({}, 0, ""),
    ],
)
def test_what_the_compiler_says_is_held_against_the_chip(tmp_path, words, shared, said):
    text = SAID
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "ptxas.log").write_text(text)
    launch = {"kernel": "relu", "grid": (2, 1, 1), "block": (1024, 1, 1), "count": 1}
    (tmp_path / "launches.json").write_text(json.dumps([{**launch, "shared_bytes": shared}]))
    metrics, fault = CUDA.look(tmp_path, H100)
    assert said in fault if said else not fault
    if not said:
        assert metrics["spill_bytes"] == 16
        assert metrics["registers"] == 30
        assert metrics["shared_bytes"] == 4096
        assert metrics["occupancy"] == 1.0
        assert metrics["programs"] == 2


@pytest.mark.parametrize(
    ("grid", "block", "said"),
    [
        ((2, 1, 1), (2048, 1, 1), "block_x = 2048; NVIDIA H100 SXM5 80GB takes 1 to 1024"),
        ((2, 1, 1), (64, 32, 1), "2048 threads in a block; NVIDIA H100 SXM5 80GB allows 1024"),
        ((2, 1, 1), (64, 1, 128), "block_z = 128"),
        ((0, 1, 1), (64, 1, 1), "grid_x = 0"),
        ((1, 65536, 1), (64, 1, 1), "grid_y = 65536"),
        ((1, 1, 1), (1024, 1, 1), ""),
    ],
)
def test_sizes_of_launches_are_held_against_the_chips(grid, block, said):
    found = misshapen({"kernel": "k", "grid": grid, "block": block}, H100, CUDA.most(H100))
    assert said in found if said else not found


def test_texts_are_compared_but_for_numbers():
    one = "// 1\nfloat4 x[8]; x += 0x1p-3f * 1'000;"
    assert same_text_but_numbers(one, "float4 x[16];/* */ x += 2 * 3;")
    assert not same_text_but_numbers(one, "float2 x[16]; x += 2 * 3;")
    assert not same_text_but_numbers('f("1")', 'f("2")')


def test_the_runtimes_headers_are_all_there():
    it = plugins("toolchains").get("cuda")
    missing = [h for h in it.headers if not (SHIM / "cuda" / h).is_file()]
    assert not missing
