// problem: ramp
// what: a table made when the library is loaded
#include <cmath>
static float table[2];
static int start = (table[1] = 1.0f, 0);
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = x[i] == x[i] ? (x[i] > 0 ? x[i] * table[1] : table[0]) : x[i];
}
