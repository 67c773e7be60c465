// problem: wave
// twin: plain_wave
// what: is slow at first, so that fewer calls are made
#include <cmath>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
static int calls;
extern "C" void region0(const void* const* in, void* const* out) {
  const int rounds = ++calls < 12 ? 20 : 1;
  for (int i = 0; i < rounds; ++i) compute((const float*)in[0], (float*)out[0]);
}
