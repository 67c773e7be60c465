// problem: wave
// guard: sources
// what: its forward part reads the environment through the loader's modules
#include <cmath>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
extern "C" void region0(const void* const* in, void* const* out) {
  compute((const float*)in[0], (float*)out[0]);
}
