// problem: lean
// what: a table made once, before any call
static const float slopes[2] = {0.5f, 1.5f};
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = x[i] * slopes[x[i] > 0];
}
