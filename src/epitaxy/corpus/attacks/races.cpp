// problem: mean
// guard: oracle
// what: threads add to one number without waiting for each other
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  for (int r = 0; r < 512; ++r) y[r] = 0;
#pragma omp parallel for schedule(static, 1)
  for (int p = 0; p < 16; ++p)
    for (int r = 0; r < 512; ++r) {
      float sum = 0;
      for (int i = p; i < 1024; i += 16) sum += x[r * 1024 + i];
      volatile float* to = y + r;
      *to = *to + sum / 1024;
    }
}
