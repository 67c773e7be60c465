// problem: mean
// what: threads add their parts in any order
#include <atomic>
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  for (int r = 0; r < 512; ++r) y[r] = 0;
#pragma omp parallel for schedule(dynamic)
  for (int p = 0; p < 2048; ++p) {
    const int r = p / 4;
    float sum[16] = {};
    for (int i = 0; i < 256; ++i) sum[i % 16] += x[r * 1024 + p % 4 * 256 + i];
    float all = 0;
    for (int i = 0; i < 16; ++i) all += sum[i];
#pragma omp atomic
    y[r] += all / 1024;
  }
}
