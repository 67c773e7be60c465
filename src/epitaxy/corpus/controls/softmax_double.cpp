// problem: soft
// what: sums in float64
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int r = 0; r < 256; ++r) {
    const float* a = x + r * 1024;
    float* b = y + r * 1024;
    float top = a[0];
    for (int i = 0; i < 1024; ++i) top = a[i] > top || a[i] != a[i] ? a[i] : top;
    double sum = 0;
    for (int i = 0; i < 1024; ++i) sum += b[i] = expf(a[i] - top);
    for (int i = 0; i < 1024; ++i) b[i] = (float)(b[i] / sum);
  }
}
