// problem: lean
// guard: clocks
// also: symbols
// what: reads the clock
#include <ctime>
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
}
