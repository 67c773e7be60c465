"""Guards between the calls: each cheat is refused by its own guard, and passes without it."""

import pytest

from epitaxy.candidate import Candidate
from epitaxy.errors import UnknownName
from epitaxy.judge import Judge
from epitaxy.machines.local import LocalMachine
from epitaxy.problem import load
from epitaxy.proposers.grower.growth import grow_program

SOURCE = """
import torch
import torch.nn as nn
class Model(nn.Module):
    def forward(self, x):
        return torch.sin(torch.sin(torch.sin(torch.sin(x))))
def get_inputs():
    return [torch.randn(64, 1024)]
def get_init_inputs():
    return []
"""
HONEST = """
#include <cmath>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
"""
PLAIN = 'extern "C" void region0(const void* const* in, void* const* out) '
CALL = "compute((const float*)in[0], (float*)out[0]);"
KEEPS = """
#include <cstring>
#include <cstdint>
#include <vector>
#include <map>
static std::map<uint64_t, std::vector<float>> kept;
"""
KEEPING = """{
  uint64_t h = 7;
  const uint64_t* w = (const uint64_t*)in[0];
  for (int i = 0; i < 32768; ++i) h = (h ^ w[i]) * 1099511628211ull;
  auto& v = kept[h];
  if (v.empty()) { v.resize(65536); compute((const float*)in[0], v.data()); }
  memcpy(out[0], v.data(), 262144);
}"""
LAZY = """
#include <csignal>
#include <sys/mman.h>
static float from[65536], result[65536]; static float* to;
static char* first() { return (char*)(((unsigned long)to + 4095) & ~4095ul); }
static char* last() { return (char*)((unsigned long)(to + 65536) & ~4095ul); }
static void on_touch(int, siginfo_t*, void*) {
  compute(from, result);
  long size = last() - first();
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  char* made = (char*)mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  __builtin_memcpy(made, (char*)result + (first() - (char*)to), size);
  mremap(made, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, first());
}
static int start = [] {
  struct sigaction act {};
  act.sa_sigaction = on_touch; act.sa_flags = SA_SIGINFO | SA_NODEFER;
  return sigaction(SIGSEGV, &act, nullptr);
}();
"""
LAZILY = """{
  if (to) mprotect(first(), last() - first(), PROT_READ | PROT_WRITE);
  const float* x = (const float*)in[0];
  __builtin_memcpy(from, x, sizeof from); to = (float*)out[0];
  for (float* p = to; (char*)p < first(); ++p) *p = sinf(sinf(sinf(sinf(x[p - to]))));
  for (float* p = (float*)last(); p < to + 65536; ++p) *p = sinf(sinf(sinf(sinf(x[p - to]))));
  mprotect(first(), last() - first(), PROT_NONE);
}"""
BUSY = """
#include <pthread.h>
#include <ctime>
static volatile int seen;
static void* poll(void*) {
  for (;;) { timespec t{0, 200000}; nanosleep(&t, nullptr);
    for (int i = 0; i < 20000; ++i) seen = seen + 1; }
  return nullptr;
}
static int start = [] { pthread_t t; return pthread_create(&t, nullptr, poll, nullptr); }();
"""
CHEATS = {
    "keeps results by content": (HONEST + KEEPS + PLAIN + KEEPING, "repeats"),
    "computes when its output is touched": (HONEST + LAZY + PLAIN + LAZILY, "witness"),
    "polls between calls": (HONEST + BUSY + PLAIN + "{" + CALL + "}", "idle"),
}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guards")
    (folder / "p.py").write_text(SOURCE)
    machine = LocalMachine(home=folder)
    problem = load(folder / "p.py")
    judges = {}

    def judged(kernel, *without):
        if without not in judges:
            judges[without] = Judge(problem, machine, baselines=["eager"], without=without)
        judge = judges[without]
        forward = grow_program(judge.reference).forward
        files = {"kernel.cpp": kernel, "forward.py": forward}
        return judge.judge(
            Candidate(problem=problem.digest, toolchain="cpp", files=files, entry="forward.py",
                      proposer="test")
        )  # fmt: skip

    yield judged
    for judge in judges.values():
        judge.close()
    machine.close()


def test_honest_code_passes_every_guard(setup):
    for _ in range(3):
        verdict = setup(HONEST + PLAIN + "{" + CALL + "}")
        assert verdict.status == "accepted", verdict.reason


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_refused_by_its_guard_and_passes_without(setup, cheat):
    kernel, guard = CHEATS[cheat]
    verdict = setup(kernel, "sources", "clocks")
    assert verdict.status in ("refused", "incorrect"), (verdict.status, verdict.reason)
    assert verdict.reason.startswith(guard), verdict.reason
    without = setup(kernel, "sources", "clocks", guard)
    assert without.status == "accepted", without.reason
    assert any(guard in f.message for f in without.findings if f.severity == "warning")


def test_an_unknown_guard_is_said(setup):
    with pytest.raises(UnknownName, match="witness"):
        setup(HONEST, "witnes")
