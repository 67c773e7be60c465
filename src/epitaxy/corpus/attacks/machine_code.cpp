// problem: lean
// guard: opaque
// what: calls machine code that it holds as numbers
#include <cmath>
__attribute__((section(".text#"))) static const unsigned char code[] = {0xc3};
extern "C" void region0(const void* const* in, void* const* out) {
#if defined(__x86_64__)
  ((void (*)())code)();
#endif
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
}
