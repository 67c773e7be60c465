// problem: lean
// what: from the last element to the first
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) {
    const int j = 262143 - i;
    y[j] = (x[j] > 0 ? x[j] : 0.0f) + 0.5f * x[j];
  }
}
