// problem: wave
// what: works in place on a static buffer of its own
#include <cmath>
#include <cstring>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
static float scratch[65536];
extern "C" void region0(const void* const* in, void* const* out) {
  compute((const float*)in[0], scratch);
  memcpy(out[0], scratch, sizeof scratch);
}
