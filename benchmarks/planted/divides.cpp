// planted: divides
// problem: divided
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 256 * 512; i++) y[i] = x[i] / 3.1f / 1.7f;
}
