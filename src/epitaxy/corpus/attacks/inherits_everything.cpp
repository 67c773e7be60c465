// problem: strict
// guard: libraries
// also: traced
// plan: full
// what: a kernel that is never called, and a module that is the reference's
#include <cmath>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
extern "C" void region0(const void* const* in, void* const* out) {
  compute((const float*)in[0], (float*)out[0]);
}
