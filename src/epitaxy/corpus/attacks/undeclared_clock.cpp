// problem: lean
// guard: symbols
// what: declares a clock by hand, under a name that no list has
#include <cmath>
extern "C" long times(void*);
extern "C" void region0(const void* const* in, void* const* out) {
  static volatile long last;
  last = times(nullptr);
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
}
