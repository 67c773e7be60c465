// planted: divides
// problem: divided
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) {
    const float v = x[i];
    y[i] = 1.0f / (1.5f + v / (2.5f + v / (3.5f + v / (4.5f + v / (5.5f + v / (6.5f + v))))));
  }
}
