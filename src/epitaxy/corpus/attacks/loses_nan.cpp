// problem: ramp
// guard: distributions
// plan: full
// what: a maximum that turns NaN into zero
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = fmaxf(x[i], 0.0f);
}
