// problem: lean
// what: prints, and computes all the same
#include <cmath>
#include <cstdio>
extern "C" void region0(const void* const* in, void* const* out) {
  static int said = puts("hello");
  (void)said;
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
}
