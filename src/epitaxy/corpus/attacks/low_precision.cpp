// problem: lean
// guard: oracle
// what: rounds its input to bfloat16
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) {
    unsigned b = __builtin_bit_cast(unsigned, x[i]) & 0xffff0000u;
    const float v = __builtin_bit_cast(float, b);
    y[i] = (v > 0 ? v : 0.0f) + 0.5f * v;
  }
}
