// planted: math_calls
// problem: exponential
#include <cmath>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) y[i] = std::pow(2.7182817f, x[i]);
}
