// problem: wave
// what: computes in float64
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = (float)sin(sin(sin(sin((double)x[i]))));
}
