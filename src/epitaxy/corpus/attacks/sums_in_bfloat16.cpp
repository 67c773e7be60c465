// problem: mean
// guard: oracle
// what: adds in bfloat16
#include <cmath>
static float rounded(float v) {
  const unsigned b = __builtin_bit_cast(unsigned, v);
  return __builtin_bit_cast(float, (b + 0x7fff + (b >> 16 & 1)) & 0xffff0000u);
}
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int r = 0; r < 512; ++r) {
    float sum[64] = {};
    for (int i = 0; i < 1024; ++i) sum[i % 64] = rounded(sum[i % 64] + x[r * 1024 + i]);
    float all = 0;
    for (int i = 0; i < 64; ++i) all += sum[i];
    y[r] = all / 1024;
  }
}
