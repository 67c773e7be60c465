// problem: wave
// guard: oracle
// what: ten bits of mantissa, as in TF32
#include <cmath>
static float shorter(float v) {
  return __builtin_bit_cast(float, __builtin_bit_cast(unsigned, v) & 0xffffe000u);
}
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(shorter(x[i])))));
}
