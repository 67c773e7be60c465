// problem: wave
// guard: libraries
// also: symbols
// what: would call a BLAS that the policy does not list
#include <cmath>
extern "C" __attribute__((weak)) void cblas_sscal(int, float, float*, int);
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
extern "C" void region0(const void* const* in, void* const* out) {
  if (!in) cblas_sscal(1, 1.0f, (float*)out[0], 1);
  compute((const float*)in[0], (float*)out[0]);
}
