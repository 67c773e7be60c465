// problem: wave
// what: allocates and frees in every call
#include <cmath>
#include <cstring>
#include <vector>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
extern "C" void region0(const void* const* in, void* const* out) {
  std::vector<float> v(65536);
  compute((const float*)in[0], v.data());
  memcpy(out[0], v.data(), 262144);
}
