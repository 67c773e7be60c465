// problem: lean
// guard: inputs
// what: changes an input, by less than the tolerance
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
  for (int i = 0; i < 64; ++i) ((unsigned*)x)[i] |= 1u;
}
