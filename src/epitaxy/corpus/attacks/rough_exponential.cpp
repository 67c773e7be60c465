// problem: soft
// guard: oracle
// what: an exponential by the bits of a float, good to three per cent
#include <cmath>
static float rough(float v) {
  return __builtin_bit_cast(float, (int)(fmaxf(v, -80.0f) * 12102203.0f) + 1064866805);
}
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int r = 0; r < 256; ++r) {
    float top = -INFINITY, sum = 0;
    for (int i = 0; i < 1024; ++i) top = fmaxf(top, x[r * 1024 + i]);
    for (int i = 0; i < 1024; ++i) sum += y[r * 1024 + i] = rough(x[r * 1024 + i] - top);
    for (int i = 0; i < 1024; ++i) y[r * 1024 + i] /= sum;
  }
}
