// problem: tri
// what: copies one half, clears the other
#include <cstring>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int r = 0; r < 768; ++r) {
    memcpy(y + r * 768, x + r * 768, (r + 1) * 4);
    memset(y + r * 768 + r + 1, 0, (767 - r) * 4);
  }
}
