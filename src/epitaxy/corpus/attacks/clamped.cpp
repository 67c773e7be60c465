// problem: lean
// guard: distributions
// plan: full
// what: cuts values off beyond what the file's inputs reach
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) {
    const float v = fminf(fmaxf(x[i], -8.0f), 8.0f);
    y[i] = (v > 0 ? v : 0.0f) + 0.5f * v;
  }
}
