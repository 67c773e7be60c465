// problem: wave
// guard: sandbox
// also: sources symbols
// what: keeps something for its next process on disk
#include <cmath>
#include <cstdio>
#include <cstdlib>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
static int start = [] {
  FILE* file = fopen("/tmp/epitaxy-kept", "w");
  if (!file) abort();
  fclose(file);
  return remove("/tmp/epitaxy-kept");
}();
extern "C" void region0(const void* const* in, void* const* out) {
  compute((const float*)in[0], (float*)out[0]);
}
