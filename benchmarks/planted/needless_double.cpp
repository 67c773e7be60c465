// planted: needless_double
// problem: map_near
// Constants without an f: the arithmetic is done in float64.
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 128 * 512; i++) {
    const float v = x[i];
    y[i] = ((v * 0.3 + 0.7) * v + 0.2) * v + 0.1;
  }
}
