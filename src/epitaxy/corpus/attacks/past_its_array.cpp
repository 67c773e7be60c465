// problem: wave
// guard: bounds
// plan: full
// what: reads an array beyond its end, where the right value happens to lie
#include <cmath>
static float factors[2][4] = {{1, 1, 1, 1}, {1, 1, 1, 1}};
static volatile int beyond = 4;
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  const float one = factors[0][beyond];
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i] * one))));
}
